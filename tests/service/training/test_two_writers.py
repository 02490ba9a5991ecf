"""Two processes that take one run for theirs: the later goes on, each step is logged once, no checkpoint lost."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.service.checkpoints import fencing
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.fencing import FencedError, Writer
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.journal.files import read
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from miseg.service.training import train
from miseg.service.training.run import TrainingRun
from tests.support import ROOT
from tests.support.paced_training import STEPS, STOPPED, VALIDATE_EVERY, PacedTraining
from tests.support.processes import processes, wait_until


@pytest.fixture
def run(uri: str, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """The run's folder, and what a recorder is told."""
    run_id = mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/test", "run")
    folder = str(tmp_path / "runs" / "run")
    return folder, {"folder": str(tmp_path / "journals"), "tracking_uri": uri, "run_id": run_id}


def losses(tracking: dict[str, str]) -> list[tuple[int, float]]:
    metrics = MlflowClient(tracking["tracking_uri"]).get_metric_history(tracking["run_id"], "train/loss")
    return sorted((metric.step, metric.value) for metric in metrics)


def assert_whole(tracking: dict[str, str], folder: str) -> None:
    """Every step is there once, and the last checkpoint with the best, which is the last here."""
    assert [step for step, _ in losses(tracking)] == list(range(STEPS))
    assert [saved.step for saved in CheckpointStore(folder).all()] == [STEPS]
    with CheckpointStore(folder).latest() as latest:
        assert latest is not None and latest.name.endswith(f"{STEPS}")


@pytest.mark.slow
def test_the_first_of_two_recorders_stops_and_leaves_the_seconds_checkpoints(small, run):
    folder, tracking = run
    driver = fencing.drive(folder)
    first = PacedTraining(small, folder, tracking, driver.generation, pace=0)
    first.train(25)
    second = PacedTraining(small, folder, tracking, driver.generation, pace=0)
    assert second.loop.step == 20
    second.train(40)
    for at in (first.recorder.check, lambda: first.train(STEPS)):
        with pytest.raises(FencedError, match="taken up again by process"):
            at()
    assert [saved.step for saved in CheckpointStore(folder).all()] == [40]
    second.train()
    assert_whole(tracking, folder)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2))
def test_a_process_that_stood_still_stops_when_it_wakes(small, run, seed):
    """SIGSTOP at a random moment, as of a machine that sleeps; its replacement starts, and it wakes: real processes."""
    folder, tracking = run
    driver = fencing.drive(folder)
    journal = Path(tracking["folder"]) / f"{tracking['run_id']}.jsonl"
    arguments = [small.uri, folder, *tracking.values(), json.dumps(driver.generation)]
    with processes() as started:
        start = lambda name: started.start(  # noqa: E731
            name, [sys.executable, "-m", "tests.support.paced_training", *arguments], started.environment(), ROOT
        )
        first = start("first")
        wait_until(lambda: logged_by(journal, 1) > VALIDATE_EVERY, 120, "the first to validate", [first])
        time.sleep(random.Random(seed).random() * 0.5)
        os.kill(first.pid, signal.SIGSTOP)
        second = start("second")
        wait_until(lambda: logged_by(journal, 2) > VALIDATE_EVERY, 120, "the second to validate", [second])
        os.kill(first.pid, signal.SIGCONT)
        assert first.wait(60) == STOPPED, started.text("first")
        assert f"was taken up again by process {second.pid} on" in started.text("first")
        assert "writes nothing more" in started.text("first") and "Traceback" not in started.text("first")
        assert second.wait(120) == 0, started.text("second")
    assert_whole(tracking, folder)


def logged_by(journal: Path, worker: int) -> int:
    """The highest step that a worker of the driver has logged."""
    entries = read(journal, 0)[0]
    return max(
        (entry["step"] or 0 for entry in entries if "step" in entry and entry["generation"][2] == worker), default=0
    )


def test_a_driver_that_was_superseded_does_not_close_the_run(run, tmp_path, tiny, small, uri):
    training = TrainingRun("run", tiny, small.uri, str(tmp_path), uri, Resources(1, 0, 1, 1))
    folder, tracking = run
    early = fencing.drive(folder)
    fencing.drive(folder)
    with pytest.raises(FencedError):
        train.finish(training, tracking["run_id"], "FAILED", "lost", Writer(folder, early.generation))
    assert MlflowClient(uri).get_run(tracking["run_id"]).info.status == "RUNNING"
