"""An object store that takes requests and never answers, under a real Ray and with the waits that users have."""

from __future__ import annotations

import http.client
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import ray
from mlflow import MlflowClient

from miseg.service.checkpoints import storage_failures
from miseg.service.checkpoints.checkpoint_files import MANIFEST, verify
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.fencing import Writer
from miseg.service.cluster import ray_cluster
from miseg.service.command.library_errors import library_failure
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from miseg.service.training import train
from miseg.service.training.run import FINISHED, TrainingRun
from tests.support.servers.faulty_s3 import BUCKET, FaultyS3, faulty_s3

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(900)]

PIECE = 160.0
"""Seconds of two checkpoints for a store that is silent, of which each is tried for a minute."""

CLOSING = 240.0
"""Seconds in which the driver closes the run after that, with Ray's own start and end."""


@pytest.fixture(scope="module")
def s3() -> Iterator[FaultyS3]:
    """Before Ray starts: its workers use it too."""
    with faulty_s3(0.0) as server:
        yield server


@pytest.fixture(scope="module")
def ray_with_s3(s3) -> Iterator[None]:
    ray_cluster.connect("local")
    yield
    ray.shutdown()


@pytest.fixture
def run(small, tiny, uri, s3, ray_with_s3, request, tmp_path) -> Iterator[TrainingRun]:
    # MLflow keeps its files elsewhere, as a server does: in the bucket, it would not hear of the end either.
    mlflow_runs.ensure_experiment(
        MlflowClient(uri), mlflow_runs.experiment_name(tiny.data), RunStore(str(tmp_path), uri)
    )
    resources = replace(ray_cluster.resources(1, 1), cpus=1)
    storage = f"s3://{BUCKET}/{request.node.name[:30]}"
    yield TrainingRun("run", tiny, small.uri, storage, uri, resources)
    s3.outage = ""
    s3.faults.clear()


def wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_there(s3: FaultyS3, run: TrainingRun, step: int) -> bool:
    """Whether the checkpoint of a step is whole; the store behind the proxy is asked."""
    connection = http.client.HTTPConnection(*s3.behind, timeout=60)
    try:
        connection.request("HEAD", f"/{run.folder.removeprefix('s3://')}/step-{step:09d}/{MANIFEST}")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def tags(run: TrainingRun, run_id: str) -> dict[str, str]:
    return dict(MlflowClient(run.tracking_uri).get_run(run_id).data.tags)


class Outage:
    """A silence from a checkpoint on, until MLflow has that the next one is missing, or without an end."""

    def __init__(self, s3: FaultyS3, run: TrainingRun, after: int, ends: bool) -> None:
        self.s3, self.run, self.after, self.ends = s3, run, after, ends
        self.told_after, self.began = math.nan, math.nan
        self._run_id = ""
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()

    def opened(self, run_id: str) -> None:
        """As `train.fit` takes it."""
        self._run_id = run_id
        self._opened.set()

    def _drive(self) -> None:
        self._opened.wait(120)
        wait(lambda: is_there(self.s3, self.run, self.after), 120)
        self.s3.outage, self.began = "never", time.monotonic()
        print(f"{time.strftime('%X')} silent", flush=True)
        wait(lambda: storage_failures.TAG in tags(self.run, self._run_id), PIECE)
        self.told_after = time.monotonic() - self.began
        print(f"{time.strftime('%X')} told", flush=True)
        if self.ends:
            self.s3.outage = ""


def losses(run: TrainingRun, run_id: str) -> list[int]:
    history = MlflowClient(run.tracking_uri).get_metric_history(run_id, "train/loss")
    return sorted(metric.step for metric in history)


def test_a_silence_costs_its_checkpoint_and_nothing_else(run, s3):
    outage = Outage(s3, run, after=6, ends=True)
    outcome = train.fit(run, opened=outage.opened)
    print(f"told after {outage.told_after:.0f} s, done {time.monotonic() - outage.began:.0f} s after it began")
    assert outcome.ended == FINISHED and outcome.step == 24 and not math.isnan(outcome.mean_iou)
    assert losses(run, outcome.run_id) == list(range(24)), "each step once"
    assert tags(run, outcome.run_id)[storage_failures.TAG].startswith("1, the last of them: the checkpoint of step 12")
    assert time.monotonic() - outage.began < PIECE + CLOSING and s3.faults["never"] > 0
    for saved in CheckpointStore(run.folder).all():
        with saved.as_directory() as folder:
            assert verify(folder)["step"] == saved.step
    assert CheckpointStore(run.folder).last().step == 24


def test_a_silence_without_an_end_ends_the_job_with_a_line_and_its_name_goes_on(run, s3):
    outage = Outage(s3, run, after=18, ends=False)
    outcome = train.fit(run, opened=outage.opened)
    took = time.monotonic() - outage.began
    print(f"told after {outage.told_after:.0f} s, ended {took:.0f} s after it began: {outcome.ended}")
    assert outcome.ended.startswith("the checkpoint of step 24 could not be written: ") and "\n" not in outcome.ended
    assert "start the run again under its name" in outcome.ended
    assert math.isnan(outcome.mean_iou) and took < PIECE + CLOSING
    ended = MlflowClient(run.tracking_uri).get_run(outcome.run_id)
    assert ended.info.status == "FAILED" and ended.data.tags["miseg.ended"] == outcome.ended

    s3.outage = ""
    again = train.fit(run)
    assert again.ended == FINISHED and again.step == 24 and again.run_id == outcome.run_id
    assert losses(run, again.run_id) == list(range(24)), "each step once"


def test_a_silence_before_the_workers_start_ends_the_job_and_closes_the_run(run, s3, uri):
    opened: list[str] = []

    def begins(run_id: str) -> None:
        opened.append(run_id)
        s3.outage = "never"

    started = time.monotonic()
    with pytest.raises(OSError, match="Timeout was reached") as error:
        train.fit(run, opened=begins)
    print(f"ended {time.monotonic() - started:.0f} s after the silence began")
    failure = library_failure(error.value)
    assert failure is not None and "the storage does not answer" in failure.sentence and failure.status == 1
    ended = MlflowClient(uri).get_run(opened[0])
    assert ended.info.status == "FAILED" and "Timeout was reached" in ended.data.tags["miseg.ended"]


def test_a_silence_in_which_workers_start_ends_the_job_and_closes_the_run(run, s3, uri, monkeypatch, capsys):
    drive, began = train._drive, []

    def then_silent(run: TrainingRun, run_id: str) -> Writer:
        writer = drive(run, run_id)
        if not began:
            began.append(time.monotonic())
            s3.outage = "never"
        return writer

    monkeypatch.setattr(train, "_drive", then_silent)
    opened: list[str] = []
    with pytest.raises(OSError, match="Timeout was reached"):
        train.fit(run, opened=opened.append)
    took = time.monotonic() - began[0]
    said = capsys.readouterr().out
    with capsys.disabled():
        print(f"ended {took:.0f} s after the silence began: {said}")
    assert "the controller of run died: OSError: When" in said and "\x1b" not in said
    assert MlflowClient(uri).get_run(opened[0]).info.status == "FAILED"

    s3.outage = ""
    again = train.fit(run)
    assert again.ended == FINISHED and again.run_id == opened[0]
    assert losses(run, again.run_id) == list(range(24)), "each step once"
