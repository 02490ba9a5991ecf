"""A training beside an MLflow server that dies, hangs, is slow, fails and loses answers: all for real."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from miseg.data.loading.batches import evaluation_batches
from miseg.interface import Batch
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.journal.files import pending, read
from miseg.service.journal.journal import Journal, journal_folder
from miseg.service.journal.sender import sync
from miseg.service.tracking import mlflow_runs, models, queries
from miseg.service.tracking.run_store import RunStore
from miseg.service.training import streams as ingest
from miseg.service.training import train, worker
from miseg.service.training.artifacts import validation_metrics
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import Recorder
from miseg.service.training.run import FINISHED, TrainingOutcome, TrainingRun
from tests.faults import tracking_load
from tests.support.processes import processes, wait_until
from tests.support.servers.faulty_proxy import Faults, faulty_proxy
from tests.support.servers.mlflow_servers import ROOT, MlflowServer, postgres_programs
from tests.support.waiting import waited

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

STEPS, VALIDATE_EVERY, PACE = 40, 20, 0.05
LONGEST_WAIT = 2.0
"""Seconds that a step waits for others, where a request to a server that hangs takes five."""


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """Requests give up after five seconds; users wait longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        yield


@pytest.fixture(scope="module")
def server(template) -> Iterator[MlflowServer]:
    with processes() as started:
        yield MlflowServer(started, template=template)


class Training:
    """A training in this process, as a worker trains, with steps that take no less than `PACE` seconds."""

    def __init__(self, url: str, small, tiny, folder: Path, name: str) -> None:
        experiment = replace(tiny, steps=STEPS, validate_every=VALIDATE_EVERY)
        self.dataset = small
        self.run = TrainingRun(name, experiment, small.uri, str(folder), url, Resources(1, 0, 1, 1))
        opened = partial(
            mlflow_runs.open_experiment_run, RunStore(str(folder), url), experiment, name, small.fingerprint
        )
        self.run_id = mlflow_runs.patiently(url, name, opened)
        self.journal = Path(journal_folder(str(folder))) / f"{self.run_id}.jsonl"
        self.longest = 0.0

    def train(self, at: dict[int, Callable[[], None]]) -> TrainingOutcome:
        """Train to the end and close the run; what `at` names is done before its step."""
        loop = Loop(self.run.experiment, ingest.task_of(self.dataset), torch.device("cpu"))
        settings = {"folder": journal_folder(self.run.storage), "tracking_uri": self.run.tracking_uri}
        recorder = Recorder(self.dataset, CheckpointStore(self.run.folder), settings | {"run_id": self.run_id})

        def validate() -> None:
            found = loop.evaluate(self._read("val"), keep=2)
            scores = validation_metrics(found, loop.task.class_names, "val")
            metrics = {"step": loop.step, "mean_iou": found.matrix.mean_iou(), "score": found.matrix.mean_iou()}
            recorder.validation(loop, metrics, scores, found)

        worker.train_on(loop, self._batches(at), recorder, validate)
        recorder.finish()
        recorder.close()
        return train.finish(self.run, self.run_id, "FINISHED", FINISHED)

    def _batches(self, at: dict[int, Callable[[], None]]) -> Iterator[Batch]:
        kept = self._read("train")
        for step, batch in zip(range(STEPS), itertools.cycle(kept), strict=False):
            at.get(step, lambda: None)()
            time.sleep(PACE)
            before = waited()
            yield batch
            self.longest = max(self.longest, waited() - before)

    def _read(self, split: str) -> list[Batch]:
        experiment = self.run.experiment
        columns = evaluation_batches(self.dataset, split, experiment.augmentation, batch_size=experiment.batch_size)
        return [ingest.Converter(self.dataset, experiment)(batch) for batch in columns]

    def assert_whole(self, url: str) -> None:
        """What the training logged is at the server, once, with its steps and times; and the run is closed."""
        assert not pending(self.journal) and not self.journal.with_suffix(".refused").exists()
        logged = Counter(
            (key, entry["step"], value, entry["time"])
            for entry in read(self.journal, 0)[0]
            if entry["kind"] == "metrics"
            for key, value in entry["values"].items()
        )
        client = MlflowClient(url)
        keys = {key for key, *_ in logged}
        arrived = Counter(
            (key, metric.step, metric.value, metric.timestamp)
            for key in keys
            for metric in client.get_metric_history(self.run_id, key)
        )
        assert arrived == logged
        assert [step for key, step, *_ in sorted(arrived) if key == "train/loss"] == list(range(STEPS))
        run = client.get_run(self.run_id)
        assert set(run.data.metrics) == keys and "val/mean_iou" in keys
        assert run.info.status == "FINISHED" and run.data.tags["miseg.ended"] == "finished"
        assert sorted(models.role_of(model) for model in models.of_run(url, self.run_id)) == ["best", "last"]
        assert {item.path for item in client.list_artifacts(self.run_id)} == {"experiment.json", "images", "tables"}
        # Panels and a confusion matrix, each whole and small.
        assert len(client.list_artifacts(self.run_id, "images")) == 4 * STEPS // VALIDATE_EVERY
        found = queries.find_run(url, mlflow_runs.experiment_name(self.run.experiment.data), self.run.name)
        assert found is not None and found.info.run_id == self.run_id


@pytest.fixture
def training(server, small, tiny, tmp_path) -> Callable[[str, str], Training]:
    # A test that failed may have left it dead, and no other should fail for that.
    server.revive()
    return lambda url, name: Training(url, small, tiny, tmp_path, name)


def test_a_training_whose_server_dies_is_done_all_the_same_and_closed_by_the_next_job(
    server, training, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(train, "CLOSING_TIMEOUT", 1.0)
    begun = training(server.url, "killed")
    outcome = begun.train({10: server.kill})
    ended = time.time()
    assert outcome.ended == FINISHED and outcome.step == STEPS and outcome.mean_iou >= 0
    assert begun.longest < LONGEST_WAIT
    assert "`miseg sync`" in capsys.readouterr().out
    began = time.monotonic()
    with pytest.raises(mlflow_runs.TrackingError, match="--offline"):
        mlflow_runs.check(server.url, str(begun.run.storage))
    assert time.monotonic() - began < 5

    server.start()
    wait_until(lambda: bool(sync(begun.journal.parent, server.url)) or not pending(begun.journal), 60, "the journal")
    begun.assert_whole(server.url)
    assert MlflowClient(server.url).get_run(begun.run_id).info.end_time / 1000 < ended


def test_a_training_does_not_wait_for_a_server_that_hangs(server, training) -> None:
    begun = training(server.url, "hangs")
    try:
        begun.train({10: server.pause, STEPS - 2: server.go_on})
    finally:
        server.go_on()
    assert begun.longest < LONGEST_WAIT
    begun.assert_whole(server.url)


def test_a_training_that_starts_beside_a_server_that_hangs_takes_its_first_step(server, training, tmp_path) -> None:
    begun = training(server.url, "hangs from the start")
    server.pause()
    try:
        before = waited()
        log = Journal(tmp_path / "other", server.url, begun.run_id)
        log.metrics(0, {"train/loss": 1.0})
        assert waited() - before < LONGEST_WAIT
        began = time.monotonic()
        with pytest.raises(mlflow_runs.TrackingError, match="does not answer"):
            mlflow_runs.check(server.url, str(tmp_path))
        assert time.monotonic() - began < 15
    finally:
        server.go_on()
    assert log.close(timeout=60)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(error=0.1, reset=0.05, lost=0.15),
        Faults(error=1.0, status=503),
        Faults(slow=1.0, delay=3.0),
    ],
    ids=["loses one answer in six", "answers 503", "is slow"],
)
def test_everything_arrives_once_though_the_server(server, training, faults, monkeypatch) -> None:
    monkeypatch.setattr(train, "CLOSING_TIMEOUT", 10.0)
    with faulty_proxy(server.port) as proxy:
        if faults.lost:
            proxy.faults = faults  # from the opening of the run to its end
        begun = training(proxy.url, f"share {faults}")

        def ill() -> None:
            proxy.faults = faults

        def well() -> None:
            if not faults.lost:
                proxy.faults = Faults()

        begun.train({10: ill, STEPS - 2: well})
        assert begun.longest < LONGEST_WAIT
        proxy.faults = Faults()
        wait_until(lambda: bool(sync(begun.journal.parent, proxy.url)) or not pending(begun.journal), 60, "the journal")
        met = {name for name in ("error", "reset", "lost", "slow") if getattr(faults, name)}
        assert met <= set(proxy.done), proxy.done
    begun.assert_whole(server.url)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed: apt-get install postgresql")
def test_eight_processes_at_a_time_lose_nothing_on_postgres_and_on_sqlite(tmp_path) -> None:
    pytest.importorskip("psycopg2", reason="the driver of PostgreSQL is not installed: pip install '.[server]'")
    with processes() as started:
        for backend in ("sqlite", "postgres"):
            uri = tracking_load.stores(started, backend)(0)
            folder = started.folder / f"writers-{backend}"
            # In a process of its own: the writers are forked, and this one has threads.
            code = "from pathlib import Path\n"
            code += "from tests.faults import tracking_load as load\n"
            code += f"found = load.measure({uri!r}, Path({str(folder)!r}), 8, 20, 3)\n"
            code += "assert found.wrong == 0 and found.longest < 2, found"
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), timeout=200)
            assert done.returncode == 0, backend


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_tuning_goes_on_while_its_server_is_away(small, tmp_path, template) -> None:
    with processes() as started:
        server = MlflowServer(started, template=template)
        command = [
            sys.executable,
            "jobs/tune_rmi.py",
            "--data",
            small.uri,
            "--storage",
            str(tmp_path),
            "--name",
            "away",
        ]
        command += ["--trials", "2", "--confirm-seeds", "1", "--steps", "20", "--concurrent", "1"]
        environment = started.environment(MLFLOW_TRACKING_URI=server.url)
        job = started.start("job", command, environment, ROOT)
        wait_until(lambda: "trial 1/2  step" in started.text("job"), 180, "the first trial", [job])
        server.kill()
        wait_until(lambda: "trial 1/2  done" in started.text("job"), 120, "its end", [job])
        server.start()
        assert job.wait(300) == 0
        output = started.text("job")
        assert "RMI as published" in output and "BCE" in output
        wait_until(lambda: not sync(tmp_path / "journals", server.url), 60, "the journals", [])
        client = MlflowClient(server.url)
        place = client.get_experiment_by_name(mlflow_runs.experiment_name(small.uri))
        runs = client.search_runs([place.experiment_id])
        assert {run.info.status for run in runs} == {"FINISHED"}
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        assert len(parents) == 1
        tables = {item.path for item in client.list_artifacts(parents[0].info.run_id)}
        assert {"trials.csv", "confirmation.csv", "summary.csv"} <= tables
        for run in runs:
            if run is parents[0]:
                continue
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
            assert steps == list(range(20)) or "stopped early" in run.data.tags["miseg.ended"], run.data.tags
            assert len(steps) == len(set(steps))
            assert sorted(models.role_of(model) for model in models.of_run(server.url, run.info.run_id)) == [
                "best",
                "last",
            ]
