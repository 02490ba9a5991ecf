"""An object store that refuses or is slow while a training keeps its checkpoints. Without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.service.checkpoints import fencing, storage_failures
from miseg.service.checkpoints.checkpoint_files import verify
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.storage_failures import StorageError
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from tests.support.paced_training import STEPS, PacedTraining
from tests.support.servers.faulty_s3 import BUCKET, FaultyS3, faulty_s3

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(290)]

PATIENCE = 2.0
"""In place of a minute: seconds for which a request is tried again."""

SILENCE = 3.0
"""In place of ten: seconds without a byte after which a request is given up."""

BOUND = 240.0
"""Seconds for a training of a few with one checkpoint in an outage."""


OUTAGES = ["slow down", "never"]
"""Of `FaultyS3`: 503 SlowDown, and requests that are taken and never answered."""


@pytest.fixture(scope="module")
def s3() -> Iterator[FaultyS3]:
    with faulty_s3(0.0) as server:
        yield server


class AtSteps(PacedTraining):
    """A training in which something happens at validations, before their checkpoint."""

    at: dict[int, Callable[[], None]]

    def _validate(self) -> None:
        self.at.get(self.loop.step, lambda: None)()
        super()._validate()


@pytest.fixture
def training(s3, small, uri, tmp_path, monkeypatch, request) -> Iterator[AtSteps]:
    monkeypatch.setattr("miseg.data.storage.PATIENCE", PATIENCE)
    monkeypatch.setattr("miseg.data.storage.SILENCE", SILENCE)
    run_id = mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/test", "run")
    folder = f"s3://{BUCKET}/{Path(tmp_path).name}/run"
    tracking = {"folder": str(tmp_path / "journals"), "tracking_uri": uri, "run_id": run_id}
    made = AtSteps(small, folder, tracking, fencing.drive(folder).generation, pace=0)
    made.at = {}
    yield made
    s3.outage = ""
    s3.faults.clear()


def assert_each_step_once(training: AtSteps) -> dict[str, str]:
    """The run's tags, whose losses are there once each."""
    client, journal = MlflowClient(training.recorder.journal.tracking_uri), training.recorder.journal
    metrics = client.get_metric_history(journal.run_id, "train/loss")
    assert sorted(metric.step for metric in metrics) == list(range(STEPS))
    return client.get_run(journal.run_id).data.tags


def steps_kept(store: CheckpointStore) -> list[int]:
    """Of the checkpoints, each of which is whole."""
    for saved in store.all():
        with saved.as_directory() as folder:
            assert verify(folder)["step"] == saved.step
    return [saved.step for saved in store.all()]


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_costs_its_checkpoints_and_nothing_else(training, s3, capsys, outage):
    """Until the checkpoint of step 20 is given up."""

    def ends() -> None:
        training.recorder.wait_for_checkpoint()
        s3.outage = ""

    training.at = {20: lambda: setattr(s3, "outage", outage), 30: ends}
    started = time.monotonic()
    training.train()
    assert time.monotonic() - started < BOUND
    said = capsys.readouterr().out
    assert "warning: the checkpoint of step 20 could not be written: " in said and "the one before it stays" in said
    assert "was written: storage takes them again" in said
    assert s3.faults[outage] > 0
    print(f"{outage}: {time.monotonic() - started:.0f} s, {s3.faults[outage]} requests")
    assert steps_kept(training.recorder.store) == [STEPS]
    assert storage_failures.TAG in assert_each_step_once(training)


def test_a_slow_store_only_takes_time(training, s3, capsys):
    """Each answer takes 1.5 s."""

    def ends() -> None:
        training.recorder.wait_for_checkpoint()
        s3.outage = ""

    training.at = {20: lambda: setattr(s3, "outage", "slow"), 30: ends}
    training.train()
    assert "could not be written" not in capsys.readouterr().out and s3.faults["slow"] > 3
    assert steps_kept(training.recorder.store) == [STEPS]
    assert storage_failures.TAG not in assert_each_step_once(training)


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_without_an_end_ends_a_training_with_a_line(training, s3, outage):

    def begins() -> None:
        training.recorder.wait_for_checkpoint()
        s3.outage = outage

    training.at = {60: begins}
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"^the checkpoint of step 60 could not be written: .*goes on from the") as e:
        training.train()
    assert time.monotonic() - started < BOUND and "\n" not in str(e.value)
    print(f"{outage}: {time.monotonic() - started:.0f} s, {e.value}")
    assert_each_step_once(training)
    s3.outage = ""
    assert steps_kept(training.recorder.store) == [50]
