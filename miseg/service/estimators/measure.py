"""Estimators measured where mutual information is known: a Ray task for each cell, a run in MLflow for each row."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import ray
from ray.exceptions import RayError, RayTaskError

from miseg.information import DISTRIBUTIONS, ESTIMATORS
from miseg.service.estimators.cells import Estimation, EstimatorGrid, EstimatorRow, measure_cell, reason
from miseg.service.estimators.record import EstimatorRecord


@dataclass(frozen=True)
class EstimatorReport:
    """Result of a measurement.

    Attributes:
        run_id: the parent run in MLflow.
        cells: one row a cell: estimator, distribution, samples, seed, truth, nats, seconds, failure.
        table: one a row of the measurement, over its seeds; see `summary`.
    """

    run_id: str
    cells: pd.DataFrame
    table: pd.DataFrame


def measure(grid: EstimatorGrid, record: EstimatorRecord) -> EstimatorReport:
    """Measure every cell of `grid` that `record` has no estimate for; cells that failed before are tried again.

    The report is of all that the record holds then, of earlier grids too.

    Raises:
        TrackingError: MLflow does not answer at the start, or not for minutes at the end.
    """
    cells = record.known()
    planned = [(row, seed) for row in grid.rows() for seed in range(grid.seeds)]
    todo = [key for key in planned if key not in cells or cells[key].failure]
    for key in todo:
        cells.pop(key, None)
    progress = _Progress(len(planned), len(planned) - len(todo))
    try:
        for (row, seed), cell in _run(todo, grid.limit):
            cells[row, seed] = cell
            record.add(row, seed, cell)
            row_cells = [cells[row, row_seed] for row_seed in range(grid.seeds) if (row, row_seed) in cells]
            if len(row_cells) == grid.seeds:
                record.close_row(row, row_cells)
            progress.cell(row, seed, cell)
        record.flush()
    except KeyboardInterrupt:
        record.end("KILLED", "interrupted; --resume continues")
        raise
    except Exception as error:
        record.end("FAILED", str(error))
        raise
    frame = _frame(cells)
    return EstimatorReport(record.run_id, frame, summary(frame))


def _run(
    todo: Sequence[tuple[EstimatorRow, int]], limit: float
) -> Iterator[tuple[tuple[EstimatorRow, int], Estimation]]:
    """Cells as they are done, in any order."""
    task = ray.remote(measure_cell).options(num_cpus=1)
    waiting: dict[Any, tuple[EstimatorRow, int]] = {}
    remaining = iter(todo)
    while True:
        # Enough to keep every CPU busy, and to let an autoscaler see that more are wanted.
        room = max(2, int(2 * ray.cluster_resources().get("CPU", 1))) - len(waiting)
        for row, seed in itertools.islice(remaining, room):
            waiting[task.remote(row, seed, limit)] = (row, seed)
        if not waiting:
            return
        (done, *_), _ = ray.wait(list(waiting), num_returns=1)
        key = waiting.pop(done)
        try:
            yield key, ray.get(done)
        except RayError as error:
            # What nobody foresaw, or a worker that died, of memory for one: the other cells go on.
            yield key, Estimation(None, 0.0, reason(error.cause if isinstance(error, RayTaskError) else error))


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Bias and spread of every row over its seeds.

    Returns:
        estimator, distribution, samples, truth; `mean` and `bias` = mean − truth in nats; `spread`, the standard
        deviation over seeds (nan for one); `seconds`, the median; `cells` that have an estimate, `failed` that have
        none, and the first `failure`.
    """
    rows = []
    keys = ["distribution", "samples", "estimator"]
    for (distribution, samples, estimator), group in cells.groupby(keys, sort=False):
        estimates, truth = group["nats"].dropna(), group["truth"].iloc[0]
        rows.append(
            {
                "estimator": estimator,
                "distribution": distribution,
                "samples": samples,
                "truth": truth,
                "mean": estimates.mean(),
                "bias": estimates.mean() - truth,
                "spread": estimates.std(),
                "seconds": group["seconds"].median(),
                "cells": len(estimates),
                "failed": len(group) - len(estimates),
                "failure": next(filter(None, group["failure"]), ""),
            }
        )
    return pd.DataFrame(rows)


def _frame(cells: Mapping[tuple[EstimatorRow, int], Estimation]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            asdict(row)
            | {"seed": seed, "truth": DISTRIBUTIONS[row.distribution].mutual_information}
            | asdict(cell)
            | {"nats": np.nan if cell.nats is None else cell.nats}
            for (row, seed), cell in sorted(cells.items(), key=lambda item: _order(*item[0]))
        ]
    )


def _order(row: EstimatorRow, seed: int) -> tuple[int, int, int, str, int]:
    estimators = list(ESTIMATORS)
    name = row.estimator.partition(":")[0]
    position = estimators.index(name) if name in estimators else len(estimators)
    return list(DISTRIBUTIONS).index(row.distribution), row.samples, position, row.estimator, seed


class _Progress:
    """A line now and then, and one for each failure of a kind that was not seen before."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.failed = total, done, 0
        self.started = self.printed_at = time.monotonic()
        self.seen: set[tuple[str, str]] = set()
        if done:
            print(f"{done} of {total} cells were measured before", flush=True)

    def cell(self, row: EstimatorRow, seed: int, cell: Estimation) -> None:
        """A cell is done."""
        self.done += 1
        self.failed += bool(cell.failure)
        if cell.failure and (row.estimator, cell.failure.split(":")[0]) not in self.seen:
            self.seen.add((row.estimator, cell.failure.split(":")[0]))
            self._say(f"{row.text} seed {seed} failed: {cell.failure}")
        if time.monotonic() > self.printed_at + 10 or self.done == self.total:
            self.printed_at = time.monotonic()
            self._say(f"{self.done}/{self.total} cells, {self.failed} failed; last {row.text} seed {seed}")

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        print(f"[{minutes:02}:{seconds:02}] {text}", flush=True)
