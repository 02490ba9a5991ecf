"""Estimators measured under Ray, in MLflow: every cell, those that failed and those that were there before."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from miseg.information import DISTRIBUTIONS, estimate
from miseg.information.bmi import BMI_TASKS
from miseg.service.estimators import page as measure_page
from miseg.service.estimators import record as measure_record
from miseg.service.estimators.asked import AskedGrid, expanded, growth
from miseg.service.estimators.cells import (
    OTHER_SEEDS,
    Estimation,
    EstimatorGrid,
    EstimatorRow,
    _Limit,
    measure_cell,
    settings_of,
)
from miseg.service.estimators.measure import EstimatorReport, measure, summary
from miseg.service.estimators.record import EXPERIMENT, EstimatorRecord, begun_grid
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.run_store import RunStore
from tests.support import ROOT

JOB = ROOT / "jobs" / "measure_information.py"


def grid(**settings: object) -> EstimatorGrid:
    base = {
        "estimators": ("gaussian", "ksg:form=2", "kde", "plug_in", "mutual_info_regression"),
        "distributions": ("normal-1x1-0.75", "normal-5x5-dense", "table-3x4"),
        "samples": (8, 50),
        "seeds": 2,
        "limit": 60.0,
    }
    return EstimatorGrid(**(base | settings))  # type: ignore[arg-type]


def record_of(which: EstimatorGrid, uri: str, folder: Path, name: str = "here") -> EstimatorRecord:
    return EstimatorRecord(name, which, RunStore(str(folder), uri))


# Cells


def test_rows_are_those_that_make_sense() -> None:
    rows = grid().rows()
    assert EstimatorRow("plug_in", "table-3x4", 8) in rows and EstimatorRow("plug_in", "normal-1x1-0.75", 8) not in rows
    assert EstimatorRow("mutual_info_regression", "normal-1x1-0.75", 50) in rows
    assert EstimatorRow("mutual_info_regression", "normal-5x5-dense", 50) not in rows
    assert len(rows) == len(set(rows)) == 2 * (4 + 3 + 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimators": ("nothing",)}, "no estimator 'nothing'"),
        ({"estimators": ("ksg:shape=2",)}, "has no setting shape"),
        ({"estimators": ("ksg:form=",)}, "name:setting=value"),
        ({"estimators": ("ksg:__import__('os')",)}, "name:setting=value"),
        ({"distributions": ("normal",)}, "no distribution 'normal'"),
        ({"samples": (1,)}, "samples"),
        ({"samples": ()}, "samples"),
        ({"seeds": 0}, "seeds = 0"),
        ({"limit": -1.0}, "limit"),
        ({"estimators": ("plug_in",), "distributions": ("normal-1x1-0.3",)}, "for any of the distributions"),
    ],
)
def test_a_grid_that_cannot_be_measured_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(**settings)


def test_settings_are_python_literals() -> None:
    assert settings_of("infonce:critic='separable',hidden=(8,)") == (
        "infonce",
        {"critic": "separable", "hidden": (8,)},
    )
    assert settings_of("ksg") == ("ksg", {})


def test_a_cell_is_the_estimators_own_value_with_other_noise_than_the_sample() -> None:
    x, y = DISTRIBUTIONS["normal-2x2-dense"].sample(60, 3)
    settings = {"form": 2, "jitter": 0.1, "seed": OTHER_SEEDS + 3}
    cell = measure_cell(EstimatorRow("ksg:form=2,jitter=0.1", "normal-2x2-dense", 60), 3, 60.0)
    assert cell.nats == float(estimate("ksg", x, y, **settings)) and not cell.failure and cell.seconds > 0


def test_scikit_learns_estimator_agrees_with_ours() -> None:
    for name in ("normal-1x1-0.75", "uniform-noise-0.1", "student-1x1-dof5", "half-cube-normal-1x1"):
        ours, theirs = (
            measure_cell(EstimatorRow(entry, name, 500), 0, 60.0).nats for entry in ("ksg", "mutual_info_regression")
        )
        assert ours is not None and theirs is not None
        # The same form and k; theirs is cut at 0, and adds a noise of its own.
        assert theirs == pytest.approx(max(ours, 0), abs=0.02)


def test_what_goes_wrong_is_the_cells_failure() -> None:
    too_few = measure_cell(EstimatorRow("gaussian", "normal-5x5-dense", 8), 0, 60.0)
    assert too_few.nats is None and too_few.failure.startswith("ValueError: 8 samples of 10 columns")
    too_long = measure_cell(EstimatorRow("mine:max_steps=1000000,patience=1000000", "normal-1x1-0.75", 100), 0, 0.5)
    assert too_long.nats is None and too_long.failure == "TimeoutError: it took longer than 0.5 s (--limit)"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_limit_waits_for_an_import_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.5)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TimeoutError), _Limit(0.1):
        import slow_to_import

        time.sleep(5)
    # The module is whole, and no later import finds half of it.
    assert slow_to_import.whole


# The whole


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_cell_is_in_mlflow_and_none_is_measured_twice(ray_here: None, uri: str, tmp_path: Path) -> None:
    small = grid(seeds=1)
    first = measure(small, record_of(small, uri, tmp_path))
    whole = grid()
    report = measure(whole, record_of(whole, uri, tmp_path))
    assert report.run_id == first.run_id and len(report.cells) == 2 * len(whole.rows())

    runs = {run.info.run_name: run for run in queries.children(uri, EXPERIMENT, report.run_id)}
    assert len(runs) == len(whole.rows())
    client = MlflowClient(uri)
    for (estimator, distribution, samples), group in report.cells.groupby(["estimator", "distribution", "samples"]):
        run = runs[EstimatorRow(estimator, distribution, samples).text]
        history = {p.step: p.value for p in client.get_metric_history(run.info.run_id, "nats")}
        assert history == {int(c.seed): c.nats for c in group.itertuples() if not math.isnan(c.nats)}
        assert len(client.get_metric_history(run.info.run_id, "seconds")) >= len(group)
        if history:
            assert run.info.status == "FINISHED"
            assert run.data.metrics["bias"] == pytest.approx(
                np.mean(list(history.values())) - run.data.metrics["truth"]
            )
        else:
            assert run.info.status == "FAILED" and "of 2 cells failed: ValueError" in run.data.tags["miseg.ended"]
    failed = report.table[report.table["failed"] > 0]
    assert set(zip(failed["distribution"], failed["samples"], strict=True)) == {("normal-5x5-dense", 8)}
    assert set(failed["estimator"]) == {"gaussian", "kde"}

    # What was found is not measured again, and its times show it; what failed is tried again.
    again = measure(whole, record_of(whole, uri, tmp_path))
    found = report.cells["nats"].notna()
    assert again.cells[found].equals(report.cells[found])

    measure_page.log(again, uri, "miseg measure-information")
    folder = tmp_path / "page"
    page = measure_page.write(again, folder)[0].read_text()
    row = next(line for line in page.splitlines() if line.startswith("| normal-5x5-dense |"))
    assert "| 1.29" not in row and row.count("–") >= 2  # gaussian and kde of eight samples
    assert (folder / measure_page.FIGURE).read_bytes()[:4] == b"\x89PNG"
    kept = {item.path for item in client.list_artifacts(again.run_id)}
    tables = {f"{name}.{kind}" for name in ("cells", "table") for kind in ("csv", "json")}
    assert kept == tables | {"information.md", "information.png"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_killed_measurement_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, str(JOB), "--storage", str(tmp_path), "--name", "killed"]
    command += ["--seeds", "2", "--samples", "60", "--distributions", "normal-1x1-0.75", "normal-1x1-0.3"]
    command += ["--estimators", "gaussian", "ksg", "mine:max_steps=100000,patience=100000"]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _until(lambda: len(_cells(uri)) >= 4)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()
    before = _cells(uri)
    assert 4 <= len(before) < 12
    # No option says again what is measured. The critics that never end are given up, so that the rest is quick.
    done = subprocess.run(
        [*command[:6], "--resume", "--limit", "1"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same rows, 2 seeds as before, cells given up after 1 s instead of 600" in done.stdout
    after = _cells(uri)
    assert len(after) == 12 and before.items() <= after.items()
    assert f"{len(before)} of 12 cells were measured before" in done.stdout
    assert "8 cells measured, 4 failed" in done.stdout


def _cells(uri: str) -> dict[tuple[str, str], str]:
    try:
        parent = queries.find_run(uri, EXPERIMENT, "killed")
        runs = queries.children(uri, EXPERIMENT, parent.info.run_id) if parent else []
    except Exception:
        # The store is being made.
        return {}
    return {
        (str(run.info.run_name), tag): value
        for run in runs
        for tag, value in run.data.tags.items()
        if tag.startswith(measure_record.CELL)
    }


def _until(condition: object, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.5)


# The record


def test_cells_wait_while_mlflow_is_away(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    which = grid(seeds=2)
    record = record_of(which, uri, tmp_path)
    row = which.rows()[0]
    monkeypatch.setattr(measure_record, "TRIES_APART", 0.01)
    log, tries = mlflow_runs.log_metrics, []

    def away(*arguments: object, **options: object) -> None:
        tries.append(arguments)
        if len(tries) < 5:
            raise OSError("connection refused")
        log(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mlflow_runs, "log_metrics", away)
    cells = [Estimation(0.5, 0.1), Estimation(0.7, 0.1)]
    for seed, cell in enumerate(cells):
        record.add(row, seed, cell)
    record.close_row(row, cells)
    assert record.known() == {}
    record.flush()
    assert record.known() == {(row, 0): cells[0], (row, 1): cells[1]}
    (run,) = queries.children(uri, EXPERIMENT, record.run_id)
    assert run.info.status == "FINISHED" and run.data.metrics["spread"] == pytest.approx(0.1 * math.sqrt(2))

    monkeypatch.setattr(measure_record, "PATIENCE", 0.05)
    monkeypatch.setattr(mlflow_runs, "log_metrics", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
    record.add(row, 1, cells[1])
    with pytest.raises(mlflow_runs.TrackingError, match="--resume --name here"):
        record.flush()


def test_a_failed_cell_keeps_its_reason(uri: str, tmp_path: Path) -> None:
    record = record_of(grid(), uri, tmp_path)
    row = EstimatorRow("gaussian", "normal-5x5-dense", 8)
    record.add(row, 0, Estimation(None, 0.1, "ValueError: 8 samples"))
    (run,) = queries.children(uri, EXPERIMENT, record.run_id)
    assert json.loads(run.data.tags["miseg.cell.0"])["failure"] == "ValueError: 8 samples"
    assert "nats" not in run.data.metrics


# Going on


def test_what_goes_on_has_all_its_rows_and_what_is_left_out_is_as_it_has_it(uri: str, tmp_path: Path) -> None:
    """Before, --resume without options measured everything that there is, and with fewer seeds mixed both."""
    first = AskedGrid(("gaussian", "ksg"), ("normal-1x1-0.3",), (50, 60), seeds=2, limit=9.0)
    record_of(first.first(), uri, tmp_path)
    begun = begun_of(uri)
    assert (begun.rows(), begun.seeds, begun.limit) == (first.first().rows(), 2, 9.0)
    assert growth(begun, AskedGrid().continued(begun)) == "the same rows, 2 seeds as before"
    assert AskedGrid().continued(begun).rows() == begun.rows()

    more = AskedGrid(estimators=("kde",), seeds=3, limit=5.0).continued(begun)
    assert growth(begun, more) == "2 rows more, 2 to 3 seeds, cells given up after 5 s instead of 9"
    added = {EstimatorRow("kde", "normal-1x1-0.3", samples) for samples in (50, 60)}
    assert set(more.rows()) == {*begun.rows(), *added} and more.seeds == 3
    record_of(more, uri, tmp_path)
    both = begun_of(uri)
    assert set(both.rows()) == set(more.rows()) and (both.seeds, both.limit) == (3, 5.0)

    # Another place of the grid: its rows alone, not the whole that both span.
    apart = AskedGrid(("mine",), ("normal-1x1-0.75",), (70,)).continued(both)
    assert set(apart.rows()) - set(both.rows()) == {EstimatorRow("mine", "normal-1x1-0.75", 70)}


def test_fewer_seeds_than_a_measurement_has_are_refused_before_ray_starts(uri: str, tmp_path: Path) -> None:
    begun = grid()
    record_of(begun, uri, tmp_path)
    with pytest.raises(ValueError, match=r"--seeds 1: the measurement has 2 a row.*use 2 or more"):
        AskedGrid(seeds=1).continued(begun_of(uri))


def test_a_measurement_of_before_grids_were_kept_goes_on_with_what_it_holds(uri: str, tmp_path: Path) -> None:
    record = record_of(grid(seeds=1), uri, tmp_path)
    client = MlflowClient(uri)
    for tag in client.get_run(record.run_id).data.tags:
        if tag.startswith((measure_record.GRID, measure_record.SEEDS, measure_record.LIMIT)):
            client.delete_tag(record.run_id, tag)
    row = EstimatorRow("ksg", "normal-1x1-0.75", 50)
    record.add(row, 1, Estimation(0.4, 0.1))
    begun = begun_of(uri)
    assert (begun.rows(), begun.seeds, begun.limit) == ([row], 2, 60.0)


def test_a_group_stands_for_its_distributions() -> None:
    assert expanded(("bmi",)) == tuple(BMI_TASKS)
    assert expanded(("normal-1x1-0.3", "miseg"))[0] == "normal-1x1-0.3"
    assert len(expanded(("miseg", "bmi", "miseg"))) == len(DISTRIBUTIONS)
    whole = AskedGrid().first()
    assert whole.seeds == 5 and not set(whole.distributions) & set(BMI_TASKS)


def begun_of(uri: str, name: str = "here") -> EstimatorGrid:
    run = queries.find_run(uri, EXPERIMENT, name)
    assert run is not None
    return begun_grid(uri, run)


# The table


def test_a_row_of_fewer_seeds_says_how_many() -> None:
    import pandas as pd

    cells = pd.DataFrame(
        {
            "estimator": ["ksg"] * 2 + ["cca"],
            "distribution": ["normal-1x1-0.75"] * 3,
            "samples": [10] * 3,
            "seed": [0, 1, 0],
            "truth": [1.0] * 3,
            "nats": [1.5, 2.0, 1.25],
            "seconds": [1.0, 3.0, 1.0],
            "failure": ["", "", ""],
        }
    )
    text = measure_page.page(EstimatorReport("run", cells, summary(cells)))
    assert "over 2 seeds" in text and "how many of them" in text
    assert "| normal-1x1-0.75 | 1.000 | +0.75 ± 0.35 | +0.25 (1) |" in text


def test_bias_and_spread_are_over_seeds() -> None:
    import pandas as pd

    cells = pd.DataFrame(
        {
            "estimator": ["ksg"] * 3,
            "distribution": ["d"] * 3,
            "samples": [10] * 3,
            "seed": [0, 1, 2],
            "truth": [1.0] * 3,
            "nats": [1.5, np.nan, 2.0],
            "seconds": [1.0, 9.0, 3.0],
            "failure": ["", "why", ""],
        }
    )
    (row,) = summary(cells).to_dict("records")
    assert (row["bias"], row["seconds"], row["cells"], row["failed"], row["failure"]) == (0.75, 3.0, 2, 1, "why")
    assert row["spread"] == pytest.approx(0.5 / math.sqrt(2))
