"""A measurement in MLflow: a parent run, and a child for each row, with a tag and two metrics for each cell."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from mlflow.entities import Run

from miseg.information import DISTRIBUTIONS
from miseg.json_values import parse
from miseg.service.estimators.cells import Estimation, EstimatorGrid, EstimatorRow
from miseg.service.records import read_record
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.run_store import RunDetails, RunStore

EXPERIMENT = mlflow_runs.experiment_name("information")
KIND = "measurement"

CELL = "miseg.cell."
"""Prefix of the tags of cells; their seed follows."""

GRID = "miseg.grid."
"""Prefix of the tags of grids: estimators, distributions and sample sizes, one tag for each that was asked for."""

SEEDS, LIMIT = "miseg.seeds", "miseg.limit"
"""Tags of the seeds of every row, and of the seconds after which a cell is given up, as the last call had them."""

TRIES_APART = 5.0
"""Seconds between two tries of a server that did not answer."""

PATIENCE = 300.0
"""Seconds that a measurement which is otherwise done waits for MLflow."""


class EstimatorRecord:
    """Log of cells in MLflow. While the server does not answer they wait here, and the measurement goes on.

    Args:
        name: of the measurement; the one of this name is continued.
        grid: what is measured.
        store: where runs are kept.

    Attributes:
        run_id: the parent run.

    Raises:
        TrackingError: the server does not answer.
    """

    def __init__(self, name: str, grid: EstimatorGrid, store: RunStore) -> None:
        self.name, self.store, self.uri = name, store, store.tracking_uri
        details = RunDetails(
            tags={"miseg.kind": KIND},
            params={"seeds": str(grid.seeds), "samples": str(grid.samples), "limit": str(grid.limit)},
            description=f"{len(grid.estimators)} estimators on {len(grid.distributions)} distributions",
        )
        self.run_id = mlflow_runs.open_run(store, EXPERIMENT, name, details)
        mlflow_runs.log_metrics(self.uri, self.run_id, {}, tags=_grid_tags(grid))
        self._rows: dict[EstimatorRow, str] = {}
        self._waiting: list[Callable[[], None]] = []
        self._next_try = 0.0

    def known(self) -> dict[tuple[EstimatorRow, int], Estimation]:
        """Cells that earlier calls of this name measured."""
        return measured_cells(self.uri, self.run_id)

    def add(self, row: EstimatorRow, seed: int, cell: Estimation) -> None:
        """Log a cell."""
        values = {"seconds": cell.seconds} | ({} if cell.nats is None else {"nats": cell.nats})
        tags = {f"{CELL}{seed}": json.dumps(asdict(cell))}
        self._soon(
            lambda: mlflow_runs.log_metrics(self.uri, self._run_of(row), values, step=seed, tags=tags, patience=0)
        )

    def close_row(self, row: EstimatorRow, cells: Sequence[Estimation]) -> None:
        """Log bias and spread of a row whose cells are all there."""
        truth = DISTRIBUTIONS[row.distribution].mutual_information
        values = {"truth": truth}
        if estimates := [cell.nats for cell in cells if cell.nats is not None]:
            values |= {"mean": float(np.mean(estimates)), "bias": float(np.mean(estimates)) - truth}
        if len(estimates) > 1:
            values["spread"] = float(np.std(estimates, ddof=1))
        failures = [cell.failure for cell in cells if cell.failure]
        ended = f"{len(failures)} of {len(cells)} cells failed: {failures[0]}" if failures else "finished"

        def close() -> None:
            mlflow_runs.log_metrics(self.uri, self._run_of(row), values, patience=0)
            mlflow_runs.end_run(self.uri, self._run_of(row), "FAILED" if failures else "FINISHED", ended, patience=0)

        self._soon(close)

    def flush(self) -> None:
        """Log what waits.

        Raises:
            TrackingError: the server did not answer for `PATIENCE` seconds.
        """
        until = time.monotonic() + PATIENCE
        self._try()
        while self._waiting:
            if time.monotonic() > until:
                raise mlflow_runs.TrackingError(
                    f"MLflow at {self.uri} does not answer, and {len(self._waiting)} entries are lost: "
                    f"--resume --name {self.name} measures again what they held"
                )
            time.sleep(TRIES_APART)
            self._try()

    def end(self, status: str, ended: str) -> None:
        """Close the parent run; where MLflow is away it stays as it is."""
        with contextlib.suppress(mlflow_runs.TrackingError):
            mlflow_runs.end_run(self.uri, self.run_id, status, ended, patience=0)

    def _soon(self, entry: Callable[[], None]) -> None:
        self._waiting.append(entry)
        if time.monotonic() >= self._next_try:
            self._try()

    def _try(self) -> None:
        try:
            while self._waiting:
                self._waiting[0]()
                self._waiting.pop(0)
        except (mlflow_runs.TrackingError, *mlflow_runs.UNREACHABLE) as error:
            self._next_try = time.monotonic() + TRIES_APART
            print(f"{len(self._waiting)} entries wait for MLflow: {str(error).splitlines()[0][:200]}", flush=True)

    def _run_of(self, row: EstimatorRow) -> str:
        if row not in self._rows:
            params = {key: str(value) for key, value in asdict(row).items()}
            details = RunDetails(row.text, self.run_id, {"miseg.kind": "row"}, params)
            self._rows[row] = mlflow_runs.open_run(self.store, EXPERIMENT, f"{self.name}: {row.text}", details)
        return self._rows[row]


def measured_cells(uri: str, run_id: str) -> dict[tuple[EstimatorRow, int], Estimation]:
    """Cells of a measurement, by its parent run: (row, seed) -> what came of it.

    Raises:
        TrackingError: the server does not answer.
    """
    cells = {}
    for run in queries.children(uri, EXPERIMENT, run_id):
        params = run.data.params
        if not {"estimator", "distribution", "samples"} <= params.keys():
            # A kill came between the run and its parameters.
            continue
        row = EstimatorRow(params["estimator"], params["distribution"], int(params["samples"]))
        for tag, value in run.data.tags.items():
            if tag.startswith(CELL):
                cells[row, int(tag.removeprefix(CELL))] = read_record(Estimation, value, finite=False)
    return cells


def begun_grid(uri: str, run: Run) -> EstimatorGrid:
    """Grid that a measurement was begun with and has been extended by, all of it in `earlier`.

    Args:
        uri: of MLflow.
        run: the measurement's parent run.

    Raises:
        ValueError: it has an estimator or a distribution that is here no more.
        TrackingError: the server does not answer.
    """
    tags, params = run.data.tags, run.data.params
    cells = measured_cells(uri, run.info.run_id)
    # A measurement of before these tags has rows alone, and a first call's seeds and limit.
    seeds = max(int(tags.get(SEEDS, params["seeds"])), *(seed + 1 for _, seed in cells), 1)
    limit = float(tags.get(LIMIT, params["limit"]))
    rows = []
    for tag, value in tags.items():
        if tag.startswith(GRID):
            estimators, distributions, samples = (tuple(axis) for axis in parse(value))
            rows += EstimatorGrid(estimators, distributions, samples, seeds, limit).rows()
    rows += [row for row, _ in cells]
    return EstimatorGrid((), (), tuple(sorted({row.samples for row in rows})), seeds, limit, tuple(dict.fromkeys(rows)))


def _grid_tags(grid: EstimatorGrid) -> dict[str, str]:
    tags = {SEEDS: str(grid.seeds), LIMIT: str(grid.limit)}
    if grid.estimators:
        text = json.dumps([grid.estimators, grid.distributions, grid.samples])
        tags[GRID + hashlib.sha256(text.encode()).hexdigest()[:12]] = text
    return tags
