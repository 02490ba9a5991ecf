"""What was recorded without a server arrives at one whole, once, and under its parents."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric

from miseg.interface import Task
from miseg.methods.configs import CrossEntropy
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint
from miseg.service.tracking import mlflow_runs, models, queries, sync
from miseg.service.tracking.run_store import RunDetails, RunStore
from miseg.service.training.loop import Loop
from tests.support import ROOT
from tests.support.processes import Processes, free_ports, http, processes, wait_until

DATASET = DatasetInput(Dataset("fuzz/train", "f00d", "local", '{"uri": "fuzz"}'), [])

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture
def offline(tmp_path, template) -> str:
    """A store with a tuning, its two trials, of which one is still running, and one run more."""
    storage = str(tmp_path)
    uri = mlflow_runs.tracking_uri(storage, offline=True)
    mlflow_runs.check(uri, storage)
    parent = mlflow_runs.open_run(
        RunStore(storage, uri), "miseg/fuzz", "tuning", RunDetails(tags={"miseg.kind": "tuning"})
    )
    trial = mlflow_runs.open_run(
        RunStore(storage, uri),
        "miseg/fuzz",
        "trial",
        RunDetails(parent=parent, params={"lambda": "0.5"}, description="a trial", datasets=[DATASET]),
    )
    metrics = [Metric("train/loss", 1 / (step + 1), 1_000_000 + step, step) for step in range(2500)]
    for start in range(0, len(metrics), 1000):
        MlflowClient(uri).log_batch(trial, metrics=metrics[start : start + 1000])
    mlflow_runs.log_json(uri, trial, "tables/iou.json", {"road": 0.5})
    loop = Loop(Experiment(CrossEntropy(UNet(2, "group"))), Task(2))
    models.log_model(uri, trial, "best", checkpoint.save(tmp_path / "checkpoint", loop, {"step": 0}))
    mlflow_runs.end_run(uri, trial, "FAILED", "the loss is nan")
    mlflow_runs.end_run(uri, parent, "FINISHED", "finished")
    mlflow_runs.open_run(RunStore(storage, uri), "miseg/fuzz", "still running")
    return uri


def by_name(uri: str) -> dict[str, object]:
    client = MlflowClient(uri)
    places = [found.experiment_id for found in client.search_experiments() if found.name == "miseg/fuzz"]
    return {run.info.run_name: run for run in client.search_runs(places)} if places else {}


def test_closed_runs_arrive_whole_and_once(offline, uri, tmp_path):
    found = sync.sync(offline, RunStore(str(tmp_path), uri))
    assert sorted(found.sent) == ["trial", "tuning"] and found.running == ["still running"] and found.sent_before == 0
    again = sync.sync(offline, RunStore(str(tmp_path), uri))
    assert (again.sent, again.sent_before) == ([], 2)

    before, after = by_name(offline), by_name(uri)
    assert set(after) == {"trial", "tuning"}
    trial, copy = before["trial"], after["trial"]
    assert copy.data.params == trial.data.params and copy.info.status == "FAILED"
    assert (copy.info.start_time, copy.info.end_time) == (trial.info.start_time, trial.info.end_time)
    assert copy.data.tags["miseg.ended"] == "the loss is nan"
    (read,) = copy.inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest) == ("fuzz/train", "f00d")
    assert copy.data.tags["mlflow.parentRunId"] == after["tuning"].info.run_id
    ours, theirs = (
        [(m.step, m.value, m.timestamp) for m in MlflowClient(place).get_metric_history(run.info.run_id, "train/loss")]
        for place, run in ((offline, trial), (uri, copy))
    )
    assert sorted(ours) == sorted(theirs) and len(theirs) == 2500
    assert [item.path for item in MlflowClient(uri).list_artifacts(copy.info.run_id, "tables")] == ["tables/iou.json"]
    assert [models.role_of(model) for model in models.of_run(uri, copy.info.run_id)] == ["best"]
    folder = models.download(uri, copy.info.run_id, "best", tmp_path)
    assert checkpoint.open_method(folder)[2].num_classes == 2


def test_a_copy_that_was_cut_off_is_completed(offline, uri, tmp_path, monkeypatch):
    def fails(*arguments, **settings):
        raise OSError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", fails)
        with pytest.raises(mlflow_runs.TrackingError, match="the connection was lost"):
            sync.sync(offline, RunStore(str(tmp_path), uri))
    assert sync.sync(offline, RunStore(str(tmp_path), uri)).sent == ["trial"]
    assert set(by_name(uri)) == {"trial", "tuning"} and by_name(uri)["trial"].info.status == "FAILED"
    history = MlflowClient(uri).get_metric_history(by_name(uri)["trial"].info.run_id, "train/loss")
    assert len(history) == 2500


@pytest.fixture
def server() -> object:
    with processes() as started:
        (port,) = free_ports(1)
        store = started.folder / "store"
        store.mkdir()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{store}/mlflow.db", "--artifacts-destination", str(store)]
        process = started.start("mlflow", command, started.environment(), ROOT)
        wait_until(lambda: http(f"http://127.0.0.1:{port}/health")[0] == 200, 90, "MLflow", [process])
        yield started, f"http://127.0.0.1:{port}"


def run_job(started: Processes, storage: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    settings = started.environment(MISEG_STORAGE=str(storage), **environment)
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240
    )


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_job_without_its_server_ends_at_once_or_records_offline_and_is_sent_later(server, small, tmp_path):
    started, uri = server
    (nobody,) = free_ports(1)
    train = ("jobs/train.py", "embedded-ce", "--data", small.uri, "--steps", "2", "--validate-every", "2")
    train += ("--method.network.initial-features", "2", "--name", "alone")
    refused = run_job(started, tmp_path, *train, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{nobody}")
    assert refused.returncode == 2 and "--offline" in refused.stderr and "Traceback" not in refused.stderr
    trained = run_job(started, tmp_path, *train, "--offline", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{nobody}")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert f"miseg ui --storage {tmp_path}/offline" in trained.stdout
    sent = run_job(started, tmp_path, "jobs/sync.py", MLFLOW_TRACKING_URI=uri)
    assert sent.returncode == 0 and "1 runs sent" in sent.stdout, sent.stdout + sent.stderr
    found = queries.find_run(uri, mlflow_runs.experiment_name(small.uri), "alone")
    assert found.info.status == "FINISHED" and found.data.tags["miseg.ended"] == "finished"
    assert sorted(queries.history(uri, found.info.run_id, "train/loss")) == [0, 1]
    assert sorted(models.role_of(model) for model in models.of_run(uri, found.info.run_id)) == ["best", "last"]
