"""What MLflow holds of a run, in a real SQLite store, and the models that come back from it."""

from __future__ import annotations

import os
import re
import socket
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from miseg.data.configs import Augmentation
from miseg.interface import Task
from miseg.methods.configs import CrossEntropy, RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.tracking import mlflow_runs, models, queries
from miseg.service.tracking.description import parameters
from miseg.service.tracking.mlflow_runs import TrackingError
from miseg.service.tracking.run_store import RunDetails, RunStore
from miseg.service.training.loop import Loop

EXPERIMENT = Experiment(
    RegionMutualInformation(UNet(2, "group"), weight=0.25, downsampling_factor=2, region_size=3, downsampling="max"),
    data="/data/own streets/",
    optimiser=Optimiser(learning_rate=1e-2),
    augmentation=Augmentation(crop=(32, 48), scale=(0.5, 2.0)),
)


@pytest.fixture
def dead() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def open_one(uri: str, tmp_path: Path) -> Callable[..., str]:
    """Opens the run of EXPERIMENT under a name."""

    def opened(name: str = "run", experiment: Experiment = EXPERIMENT, **settings) -> str:
        return mlflow_runs.open_experiment_run(
            RunStore(str(tmp_path), uri), experiment, name, "f00d", RunDetails(**settings)
        )

    return opened


def test_an_answer_that_was_lost_leaves_one_run(
    uri: str, open_one: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's client then sends the request again, which the server has done."""
    create = MlflowClient.create_run

    def twice(self: MlflowClient, *arguments, **settings):
        create(self, *arguments, **settings)
        return create(self, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", twice)
        run_id = open_one("a")
    client = MlflowClient(uri)
    assert [run.info.run_id for run in client.search_runs([client.get_run(run_id).info.experiment_id])] == [run_id]
    assert client.get_run(run_id).data.params == parameters(EXPERIMENT)
    assert open_one("a") == run_id


# What a run carries


def test_parameters_carry_the_papers_names() -> None:
    found = parameters(EXPERIMENT)
    assert found["lambda"] == "0.25"
    assert found["downsampling_factor"] == "2" and found["region_size"] == "3" and found["downsampling"] == "max"
    assert found["method"] == "RegionMutualInformation"
    assert found["optimiser.learning_rate"] == "0.01" and found["optimiser.name"] == "adam"
    assert found["augmentation.crop"] == "[32, 48]"
    assert found["network.initial_features"] == "2" and found["network.normalisation"] == "group"
    assert found["steps"] == "1000" and found["seed"] == "0"
    assert "weight" not in found and "method.weight" not in found


def test_a_run_says_what_it_is(uri: str, open_one: Callable[..., str]) -> None:
    run_id = open_one(display="RMI, seed 0", tags={"miseg.trial": "t1"})
    run = MlflowClient(uri).get_run(run_id)
    assert MlflowClient(uri).get_experiment(run.info.experiment_id).name == "miseg/own streets"
    assert run.info.run_name == "RMI, seed 0" and run.info.status == "RUNNING"
    assert run.data.params == parameters(EXPERIMENT)
    tags = run.data.tags
    assert tags["miseg.experiment_id"] == EXPERIMENT.id and tags["miseg.method"] == "RegionMutualInformation"
    assert tags["miseg.data"] == EXPERIMENT.data and tags["miseg.data_fingerprint"] == "f00d"
    assert tags["miseg.run"] == "run" and tags["miseg.trial"] == "t1"
    assert tags["mlflow.user"] and "1000 steps, seed 0" in tags["mlflow.note.content"]
    assert len(tags["mlflow.source.git.commit"]) in (7, 40) and tags["miseg.dirty"] in ("true", "false", "unknown")


def test_commit_and_job_come_from_the_environment_before_git(
    uri: str, open_one: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISEG_COMMIT", "abc123")
    monkeypatch.setenv("RAY_JOB_ID", "raysubmit_1")
    tags = MlflowClient(uri).get_run(open_one()).data.tags
    assert tags["mlflow.source.git.commit"] == "abc123" and tags["miseg.dirty"] == "unknown"
    assert tags["miseg.ray_job_id"] == "raysubmit_1"


def test_one_name_is_one_run(uri: str, open_one: Callable[..., str]) -> None:
    first = open_one("a")
    mlflow_runs.end_run(uri, first, "KILLED", "the node was lost", {"miseg.note": "spot"})
    ended = MlflowClient(uri).get_run(first)
    assert ended.info.status == "KILLED"
    assert ended.data.tags["miseg.ended"] == "the node was lost" and ended.data.tags["miseg.note"] == "spot"
    assert open_one("b") != first
    assert open_one("a") == first
    assert MlflowClient(uri).get_run(first).info.status == "RUNNING"
    found = queries.find_run(uri, mlflow_runs.experiment_name(EXPERIMENT.data), "a")
    assert found is not None and found.info.run_id == first
    assert queries.find_run(uri, mlflow_runs.experiment_name(EXPERIMENT.data), "c") is None
    assert queries.find_run(uri, "miseg/nowhere", "a") is None


@pytest.mark.parametrize("name", ["o'brien", 'a "quoted" one', "drive % é"])
def test_a_name_may_hold_any_sign(uri: str, open_one: Callable[..., str], name: str) -> None:
    first = open_one(name)
    assert open_one(name) == first
    found = queries.find_run(uri, mlflow_runs.experiment_name(EXPERIMENT.data), name)
    assert found is not None and found.info.run_id == first


def test_a_run_that_was_killed_while_it_was_opened_gets_its_parameters(
    uri: str, open_one: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def die(*args, **kwargs) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", die)
        with pytest.raises(KilledError):
            open_one("a")
    run = MlflowClient(uri).get_run(open_one("a"))
    assert run.data.params == parameters(EXPERIMENT)


def test_children_hang_below_their_parent(uri: str, open_one: Callable[..., str]) -> None:
    parent = open_one("tuning")
    children = {open_one(f"trial-{index}", parent=parent) for index in range(2)}
    client = MlflowClient(uri)
    experiment = client.get_run(parent).info.experiment_id
    found = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
    assert {run.info.run_id for run in found} == children
    assert "mlflow.parentRunId" not in client.get_run(parent).data.tags


def test_a_search_of_several_pages_gives_them_all_in_their_order(
    uri: str, open_one: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = [open_one(f"run-{index}") for index in range(5)]
    client, asked = MlflowClient(uri), []
    experiment = client.get_run(opened[0]).info.experiment_id
    monkeypatch.setattr(queries, "PAGE", 2)

    def search(**settings: object) -> object:
        asked.append(settings["page_token"])
        return client.search_runs(**settings)  # type: ignore[arg-type]

    runs = queries.all_pages(search, experiment_ids=[experiment], order_by=["attributes.start_time ASC"])
    assert [run.info.run_id for run in runs] == opened
    assert len(asked) == 3 and asked[0] is None


def test_a_deleted_mlflow_experiment_is_used_again(uri: str, open_one: Callable[..., str]) -> None:
    client = MlflowClient(uri)
    experiment = client.get_run(open_one("a")).info.experiment_id
    client.delete_experiment(experiment)
    assert client.get_run(open_one("b")).info.experiment_id == experiment


def test_artifacts_lie_under_the_storage(uri: str, open_one: Callable[..., str], tmp_path: Path) -> None:
    run_id = open_one()
    mlflow_runs.log_json(uri, run_id, "tables/summary.json", {"λ": 0.5})
    mlflow_runs.log_table(uri, run_id, "trials.csv", pd.DataFrame({"trial": [1], "mean_iou": [0.5]}))
    assert not (Path.cwd() / "mlruns" / run_id).exists()
    names = {path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}
    assert names == {"experiment.json", "summary.json", "trials.csv", "trials.json"}


# The way back


@pytest.mark.parametrize(
    "experiment", [EXPERIMENT, Experiment(CrossEntropy(UNet(4))), replace(EXPERIMENT, label_budget=7)]
)
def test_a_run_gives_its_experiment_back(uri: str, open_one: Callable[..., str], experiment: Experiment) -> None:
    found = queries.read_experiment(uri, open_one(experiment=experiment))
    assert found == experiment and found.id == experiment.id


def test_a_run_that_is_not_there_is_named(uri: str, tmp_path: Path) -> None:
    for run_id in ("0" * 32, "typing error"):
        with pytest.raises(TrackingError, match=f"run {run_id} at sqlite.* holds no experiment.json"):
            queries.read_experiment(uri, run_id)


def test_a_run_without_an_experiment_is_named(uri: str, tmp_path: Path) -> None:
    run_id = mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/test", "bare")
    with pytest.raises(TrackingError, match=f"run {run_id} .* holds no experiment.json"):
        queries.read_experiment(uri, run_id)


# A server that is not there


def test_a_dead_server_is_named_within_seconds(dead: str, tmp_path: Path) -> None:
    began = time.monotonic()
    for call in (
        lambda: mlflow_runs.check(dead, str(tmp_path)),
        lambda: mlflow_runs.open_run(RunStore(str(tmp_path), dead), "miseg/test", "run"),
        lambda: queries.read_experiment(dead, "0" * 32),
        lambda: models.download(dead, "0" * 32, "best", tmp_path),
    ):
        with pytest.raises(TrackingError, match=rf"{dead} does not answer \(Connection refused\): start it"):
            call()
    assert time.monotonic() - began < 20


def test_what_was_begun_waits_for_a_server_that_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    tries = []

    def call() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise MlflowException("Connection refused")
        return "answer"

    assert mlflow_runs.patiently("http://mlflow", "opening run a", call) == "answer"
    assert "opening run a waits for it, up to 30 min" in capsys.readouterr().out


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise ConnectionError("Connection refused")

    def refused() -> None:
        raise MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)

    began = time.monotonic()
    with pytest.raises(TrackingError, match="http://mlflow does not answer"):
        mlflow_runs.patiently("http://mlflow", "opening run a", away, patience=0.6)
    with pytest.raises(TrackingError, match="no such run"):
        mlflow_runs.patiently("http://mlflow", "opening run a", refused)
    assert time.monotonic() - began < 10
    monkeypatch.setenv("MISEG_MLFLOW_PATIENCE", "long")
    with pytest.raises(ValueError, match="MISEG_MLFLOW_PATIENCE = 'long'"):
        mlflow_runs.patiently("http://mlflow", "opening run a", away)


def test_a_name_with_both_quotation_marks_is_refused(open_one: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="use no more than one kind of quotation mark"):
        open_one("""o'brien's "best" run""")


def test_the_store_is_the_environments_or_lies_under_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mlflow_runs.tracking_uri("/data/miseg") == "sqlite:////data/miseg/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert mlflow_runs.tracking_uri("/data/miseg") == "http://mlflow:5000"


def test_check_makes_the_store_and_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    mlflow_runs.check(mlflow_runs.tracking_uri(str(folder)), str(folder))
    assert (folder / "mlflow.db").is_file()


# Models


@pytest.fixture
def logged(uri: str, open_one: Callable[..., str], tmp_path: Path) -> tuple[str, Path]:
    """A run with a checkpoint as its model "best", and the checkpoint."""
    loop = Loop(EXPERIMENT, Task(num_classes=4, class_names=("a", "b", "c", "d")))
    data = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    folder = checkpoint.save(tmp_path / "checkpoint", loop, {"mean_iou": 0.5}, data)
    run_id = open_one()
    models.log_model(uri, run_id, "best", folder)
    return run_id, folder


@pytest.mark.slow
def test_a_logged_model_predicts_what_the_method_predicts_and_is_no_pickle(
    uri: str, logged: tuple[str, Path], tmp_path: Path
) -> None:
    run_id, folder = logged
    images_NHWC = np.random.default_rng(0).integers(0, 256, (2, 40, 33, 3), dtype=np.uint8)
    method, _, _ = checkpoint.open_method(folder)
    images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    with torch.no_grad():
        expected = method.predict((images_NCHW - mean) / std)

    with models.pointed_at(uri):
        (logged_model,) = models.of_role(uri, run_id, "best")
        model = mlflow.pyfunc.load_model(logged_model.model_uri)
        place = Path(mlflow.artifacts.download_artifacts(logged_model.model_uri, dst_path=str(tmp_path / "model")))
    found = model.predict(images_NHWC)
    assert found.shape == (2, 4, 40, 33) and found.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-6)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, -1, -1, 3)
    with pytest.raises(mlflow.MlflowException, match="shape"):
        model.predict(images_NHWC[..., :2])

    files = [path for path in place.rglob("*") if path.is_file()]
    assert "weights.safetensors" in {path.name for path in files}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib")]
    # Whatever a file is called: a pickle of protocol 2 or later starts so, and torch's zip holds one.
    pickles = (b"\x80\x02", b"\x80\x03", b"\x80\x04")
    assert not [path for path in files if path.suffix != ".whl" and path.read_bytes()[:2] in (*pickles, b"PK")]
    (code,) = (path for path in files if path.suffix == ".whl")
    with zipfile.ZipFile(code) as archive:
        assert not [name for name in archive.namelist() if archive.read(name)[:2] in (*pickles, b"PK")]


@pytest.mark.slow
def test_a_model_comes_back_as_the_checkpoint_it_was(uri: str, logged: tuple[str, Path], tmp_path: Path) -> None:
    run_id, folder = logged
    place = models.download(uri, run_id, "best", tmp_path / "back")
    assert checkpoint_files.verify(place)["step"] == 0 and checkpoint_files.read_experiment(place) == EXPERIMENT
    assert (place / "weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()
    with pytest.raises(TrackingError, match=f"run {run_id} .* holds no model last"):
        models.download(uri, run_id, "last", tmp_path / "last")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("evaluation", "it is of the kind evaluation: use run {parent}, whose model that was"),
        ("tuning", "it is of the kind tuning: use one of its trials"),
    ],
)
def test_of_a_run_that_is_no_training_it_is_said_which_to_use(
    uri: str, open_one: Callable[..., str], tmp_path: Path, kind: str, told: str
) -> None:
    parent = open_one()
    other = mlflow_runs.open_run(
        RunStore(str(tmp_path), uri), "miseg/own streets", "other", RunDetails(parent=parent, tags={"miseg.kind": kind})
    )
    for read in (
        lambda: models.download(uri, other, "best", tmp_path / "back"),
        lambda: queries.read_experiment(uri, other),
    ):
        with pytest.raises(TrackingError, match=re.escape(told.format(parent=parent))):
            read()


@pytest.mark.slow
@pytest.mark.parametrize("variable", [None, "http://mlflow.example:5000"])
def test_models_leave_mlflows_settings_as_they_were(
    uri: str, open_one: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    """MLflow's own setter writes the environment, which would decide where the next job's runs go."""
    folder = checkpoint.save(tmp_path / "checkpoint", Loop(EXPERIMENT, Task(num_classes=4)), {}, {})
    run_id = open_one()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    before = mlflow.get_tracking_uri()
    models.log_model(uri, run_id, "last", folder)
    models.download(uri, run_id, "last", tmp_path / "back")
    assert os.environ.get("MLFLOW_TRACKING_URI") == variable
    assert mlflow.get_tracking_uri() == before
