"""Models under names in a real store: `best` never goes to a worse one, nothing is there twice, and it serves."""

from __future__ import annotations

import itertools
import json
import math
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from miseg.data.configs import Augmentation
from miseg.data.sources.street_scenes.streets import draw_scene
from miseg.interface import Task
from miseg.methods.configs import CrossEntropy, MutualInformationSimilarity, PixelKMeans
from miseg.metric_names import OBJECTIVE_SINCE, VALIDATION_OBJECTIVE
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint
from miseg.service.journal import sender
from miseg.service.journal.journal import Journal
from miseg.service.tracking import mlflow_runs, models, registry, sync
from miseg.service.tracking.connection import TrackingError
from miseg.service.tracking.run_store import RunStore
from miseg.service.training.loop import Loop
from tests.support.processes import free_ports, http, processes, wait_until

NAME = "streets-cross-entropy"
EXPERIMENT = Experiment(CrossEntropy(UNet(2, "group")), data="streets")
CLASSES = ("sky", "road", "tree")
IoU = "val/mean_iou"

Trained = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint."""
    loop = Loop(EXPERIMENT, Task(num_classes=3, class_names=CLASSES))
    data = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    return checkpoint.save(tmp_path_factory.mktemp("registry") / "checkpoint", loop, {"step": 0}, data)


@pytest.fixture
def trained(uri: str, tmp_path: Path, folder: Path) -> Trained:
    """Makes a run that was trained, with a score and its best model."""

    numbers = itertools.count()

    def make(
        score: float,
        data: str = "f00d",
        metric: str = IoU,
        uri: str = uri,
        model: bool = True,
        experiment: Experiment = EXPERIMENT,
    ) -> str:
        name = f"run {next(numbers)}"
        run_id = mlflow_runs.open_experiment_run(RunStore(str(tmp_path), uri), experiment, name, data)
        mlflow_runs.log_metrics(uri, run_id, {metric: score})
        if model:
            models.log_model(uri, run_id, "best", folder)
        return run_id

    return make


def register(uri: str, run_id: str, metric: str = IoU) -> str:
    return str(registry.register(uri, run_id, NAME, metric, {registry.CLASSES: json.dumps(CLASSES)}).version)


def standing(uri: str) -> str | None:
    found = registry.best(uri, NAME)
    return None if found is None else str(found.version)


@pytest.mark.parametrize(
    ("method", "data", "name"),
    [
        ("RegionMutualInformation", "camvid", "camvid-region-mutual-information"),
        ("InfoSeg", "s3://bucket/own streets/", "own-streets-info-seg"),
        ("CrossEntropy", "/data/a:b", "a-b-cross-entropy"),
    ],
)
def test_a_name_says_the_data_and_the_method(method: str, data: str, name: str) -> None:
    assert registry.name_of(method, data) == name
    registry.check_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "two words", "a@best"])
def test_a_name_that_an_address_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"--register .*: use letters"):
        registry.check_name(name)


@pytest.mark.slow
def test_best_goes_to_a_better_one_and_never_to_a_worse(uri: str, trained: Trained) -> None:
    runs = [trained(score) for score in (0.4, 0.3, 0.5, 0.5)]
    for run_id, expected in zip(runs, ["1", "1", "3", "3"], strict=True):
        register(uri, run_id)
        assert standing(uri) == expected
    # Resumed, or sent again: no second version, and the alias stays.
    assert [register(uri, run_id) for run_id in runs] == ["1", "2", "3", "4"]
    assert standing(uri) == "3" and len(MlflowClient(uri).search_model_versions(f"name = '{NAME}'")) == 4

    # By another metric, on another state of the data, or by no number, it cannot be told whether it is better.
    for run_id, metric in (
        (trained(0.9, data="beef"), IoU),
        (trained(0.9, metric="val/objective"), "val/objective"),
        (trained(math.nan), IoU),
    ):
        register(uri, run_id, metric)
        assert standing(uri) == "3"
    conditions = "data f00d, images of their own size, 1000 steps, all labels, or the method's number"
    assert registry.describe_best(uri, NAME) == f"models:/{NAME}@best is version 3, {IoU} 0.5000 ({conditions})"


@pytest.mark.slow
def test_objectives_compare_where_they_are_computed_alike(
    uri: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_labels = replace(EXPERIMENT, method=PixelKMeans())
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_runs, "objective_tags", lambda _: {})
        before = trained(-0.2, metric=VALIDATION_OBJECTIVE, experiment=without_labels)
    now = trained(-0.9, metric=VALIDATION_OBJECTIVE, experiment=without_labels)
    assert [register(uri, run_id, VALIDATION_OBJECTIVE) for run_id in (now, before)] == ["1", "2"]
    assert standing(uri) == "1"
    said = registry.describe_best(uri, NAME, before)
    assert f"objective as computed since {OBJECTIVE_SINCE}" in said and f"objective of before {OBJECTIVE_SINCE}" in said
    assert "was measured otherwise" in said
    register(uri, trained(-0.5, metric=VALIDATION_OBJECTIVE, experiment=without_labels), VALIDATION_OBJECTIVE)
    assert standing(uri) == "3"


OTHERS = {
    "size": replace(EXPERIMENT, augmentation=Augmentation(resize=(32, 48))),
    "steps": replace(EXPERIMENT, steps=40),
    "labels": replace(EXPERIMENT, label_budget=5),
}


@pytest.mark.slow
@pytest.mark.parametrize("condition", OTHERS)
def test_best_never_goes_from_or_to_a_model_that_was_measured_otherwise(
    condition: str, uri: str, trained: Trained
) -> None:
    register(uri, trained(0.4))
    other = trained(0.9, experiment=OTHERS[condition])
    register(uri, other)
    assert standing(uri) == "1"
    said = registry.describe_best(uri, NAME, other)
    assert f"models:/{NAME}/2, {IoU} 0.9000 (" in said and "was measured otherwise" in said
    assert {"size": "size 32x48", "steps": "40 steps", "labels": "5 labels"}[condition] in said
    # Where somebody has it stand there, the better one of before does not take it back, and its like do.
    MlflowClient(uri).set_registered_model_alias(NAME, registry.BEST, "2")
    register(uri, trained(0.95))
    assert standing(uri) == "2"
    register(uri, trained(0.97, experiment=OTHERS[condition]))
    assert standing(uri) == "4"


@pytest.mark.slow
def test_labels_of_each_image_are_other_labels_than_those_of_a_date() -> None:
    assert registry.labels_of({}) is None and registry.labels_of({"label_budget": "7"}) == "7"
    assert registry.labels_of({"label_budget": "7", "examples": "date"}) == "7"
    assert registry.labels_of({"label_budget": "7", "examples": "image"}) == "7 of each image's own"
    assert registry.labels_of({"label_budget": "None", "examples": "image"}) == "50 of each image's own"


@pytest.mark.slow
def test_scores_of_other_chips_are_not_compared(uri: str, trained: Trained) -> None:
    """Chips less valid than `pairs.min_valid` are left out where a method that learns from pairs is measured."""
    few = replace(EXPERIMENT, method=MutualInformationSimilarity())
    clearer = replace(few, pairs=replace(few.pairs, min_valid=0.97))
    register(uri, trained(0.4, experiment=few))
    other = trained(0.9, experiment=clearer)
    register(uri, other)
    assert standing(uri) == "1"
    said = registry.describe_best(uri, NAME, other)
    assert "chips of which 97% or more is valid" in said and "was measured otherwise" in said
    # One that was registered before the tag was: its run says it.
    MlflowClient(uri).delete_model_version_tag(NAME, "1", registry.CONDITIONS["pairs.min_valid"])
    register(uri, trained(0.5, experiment=few))
    assert standing(uri) == "3"


@pytest.mark.slow
def test_pairs_say_nothing_of_a_method_that_learns_from_images(uri: str, trained: Trained) -> None:
    register(uri, trained(0.4))
    register(uri, trained(0.5, experiment=replace(EXPERIMENT, pairs=replace(EXPERIMENT.pairs, min_valid=0.9))))
    assert standing(uri) == "2"


def test_versions_of_before_are_compared_by_what_their_runs_say(uri: str, trained: Trained) -> None:
    client = MlflowClient(uri)
    register(uri, trained(0.4))
    for tag in registry.CONDITIONS.values():
        if tag in client.get_model_version(NAME, "1").tags:
            client.delete_model_version_tag(NAME, "1", tag)
    register(uri, trained(0.9, experiment=OTHERS["steps"]))
    assert standing(uri) == "1"
    register(uri, trained(0.5))
    assert standing(uri) == "3"


@pytest.mark.slow
def test_a_version_says_what_it_is(uri: str, trained: Trained) -> None:
    run_id = trained(0.25)
    # A metric that the run has not: what there is counts.
    found = registry.register(uri, run_id, NAME, "val/objective", {registry.CLASSES: json.dumps(CLASSES)})
    assert found.run_id == run_id and found.tags[registry.METRIC] == IoU and float(found.tags[registry.SCORE]) == 0.25
    assert found.tags[registry.DATA] == "f00d" and found.tags["miseg.method"] == "CrossEntropy"
    assert found.tags["miseg.experiment_id"] == EXPERIMENT.id and json.loads(found.tags[registry.CLASSES])[2] == "tree"
    assert "val/mean_iou 0.2500" in found.description and "Classes: sky, road, tree." in found.description
    model = MlflowClient(uri).get_registered_model(NAME)
    assert model.aliases == {"best": found.version} and model.tags["miseg.data"] == "streets"
    assert "CrossEntropy on streets" in model.description


def test_a_name_that_was_given_by_hand_is_left_alone(uri: str, trained: Trained, folder: Path) -> None:
    client, run_id = MlflowClient(uri), trained(0.1)
    client.create_registered_model(NAME)
    [model] = models.of_run(uri, run_id)
    client.create_model_version(NAME, model.artifact_location)
    client.set_registered_model_alias(NAME, "best", "1")
    register(uri, trained(0.9))
    assert standing(uri) == "1" and registry.describe_best(uri, NAME) == f"models:/{NAME}@best is version 1"


@pytest.mark.slow
def test_whoever_registers_meanwhile_the_best_one_has_the_alias(
    uri: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse, better = trained(0.2), trained(0.8)
    move = MlflowClient.set_registered_model_alias

    def slowly(client: MlflowClient, name: str, alias: str, version: str) -> None:
        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", move)
        # Between the look and the move of the first one the second one comes and goes.
        assert register(uri, better) == "2" and standing(uri) == "2"
        move(client, name, alias, version)
        assert standing(uri) == "1"

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", slowly)
    register(uri, worse)
    assert standing(uri) == "2"

    runs = {score: trained(score) for score in (0.85, 0.95, 0.9, 0.7)}
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda run_id: register(uri, run_id), runs.values()))
    assert len(set(versions)) == 4 and standing(uri) == versions[1]


def test_two_machines_that_send_the_same_leave_one_version(
    uri: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, create = trained(0.2), MlflowClient.create_model_version

    def twice(client: MlflowClient, *given, **named):
        create(client, *given, **named)
        return create(client, *given, **named)

    monkeypatch.setattr(MlflowClient, "create_model_version", twice)
    assert register(uri, run_id) == "1"
    assert len(MlflowClient(uri).search_model_versions(f"name = '{NAME}'")) == 1 and standing(uri) == "1"


def test_a_run_without_its_model_is_told(uri: str, trained: Trained) -> None:
    with pytest.raises(TrackingError, match="holds no model best, so none is registered"):
        register(uri, trained(0.5, model=False))
    with pytest.raises(MlflowException):
        MlflowClient(uri).get_registered_model(NAME)
    assert registry.describe_best(uri, NAME) == f"models:/{NAME}@best is there once MLflow has all that waits for it"


# MLflow away


def test_what_mlflow_did_not_take_is_registered_later(uri: str, trained: Trained, tmp_path: Path, folder: Path) -> None:
    run_id = trained(0.5, model=False)
    [port] = free_ports(1)
    journal = Journal(tmp_path / "journals", f"http://127.0.0.1:{port}", run_id)
    journal.register(NAME, IoU, {})
    assert not journal.close(timeout=10, tries=1)

    # At a server that is there again, but does not have the model yet: it stays, and is told of.
    assert sender.sync(tmp_path / "journals", uri) == 0
    models.log_model(uri, run_id, "best", folder)
    assert sender.sync(tmp_path / "journals", uri) == 1 and standing(uri) == "1"
    assert sender.sync(tmp_path / "journals", uri) == 0


@pytest.mark.slow
def test_a_store_that_is_sent_takes_its_names_along(uri: str, trained: Trained, tmp_path: Path) -> None:
    offline = mlflow_runs.tracking_uri(str(tmp_path), offline=True)
    mlflow_runs.check(offline, str(tmp_path))
    for score in (0.6, 0.4):
        run_id = trained(score, uri=offline)
        register(offline, run_id)
        mlflow_runs.end_run(offline, run_id, "FINISHED", "finished")
    register(uri, trained(0.5))
    assert len(sync.sync(offline, RunStore(str(tmp_path), uri)).sent) == 2
    found = registry.best(uri, NAME)
    assert found is not None and found.tags[registry.SCORE] == "0.6"
    assert json.loads(found.tags[registry.CLASSES]) == list(CLASSES)
    assert len(MlflowClient(uri).search_model_versions(f"name = '{NAME}'")) == 3


# Used


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_best_is_loaded_and_served(uri: str, trained: Trained, folder: Path, tmp_path: Path) -> None:
    """`mlflow models serve` in a process of its own, asked over HTTP with a drawn street scene."""
    register(uri, trained(0.5))
    image_HWC, _ = draw_scene(0, 7, height=40, width=56)
    images_NHWC = np.asarray(image_HWC)[None]
    method, _, _ = checkpoint.open_method(folder)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    with torch.no_grad():
        scaled = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).float() / 255
        expected = method.predict((scaled - mean) / std).numpy()

    with models.pointed_at(uri):
        loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@best")
    np.testing.assert_allclose(loaded.predict(images_NHWC), expected, atol=1e-5)

    [port] = free_ports(1)
    with processes() as started:
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{NAME}@best"]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        serving = started.start("serve", command, started.environment(MLFLOW_TRACKING_URI=uri), tmp_path)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: http(f"{url}/ping", timeout=2)[0] == 200, 120, "the model", [serving])
        body = json.dumps({"inputs": images_NHWC.tolist()}).encode()
        asked = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            served = np.array(json.loads(answer.read())["predictions"], dtype=np.float32)
    assert served.shape == (1, 3, 40, 56)
    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_registering_keeps_the_experiment_of_the_run(uri: str, trained: Trained) -> None:
    """Nothing of the run itself changes."""
    run_id = trained(0.5)
    mlflow_runs.end_run(uri, run_id, "FINISHED", "finished")
    before = MlflowClient(uri).get_run(run_id)
    register(uri, run_id)
    after = MlflowClient(uri).get_run(run_id)
    assert after.info.status == before.info.status and after.info.end_time == before.info.end_time
    assert after.data.tags == before.data.tags
