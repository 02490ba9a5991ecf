"""Saved views of MLflow's runs table; that the page shows them is for test_mlflow_page.py."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.commands.ui import Ui
from miseg.methods.configs import AffinityField, InfoSeg, RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes import spaces
from miseg.recipes.contenders import CONTENDERS
from miseg.recipes.experiment import Experiment
from miseg.service.tracking import mlflow_runs, views
from miseg.service.tracking.description import parameter_name, parameters
from miseg.service.tracking.run_store import RunDetails, RunStore


def opened(uri: str, folder: Path, kind: str, **own: str) -> str:
    tags = {"miseg.kind": kind, views.SEARCHED: "lambda,optimiser.learning_rate"} | own
    params = {"selection": "objective" if kind == "blind" else "labels"}
    return mlflow_runs.open_run(
        RunStore(str(folder), uri), "miseg/streets", f"the {kind}", RunDetails(tags=tags, params=params)
    )


def kept(uri: str) -> dict[str, dict]:
    experiment = MlflowClient(uri).get_experiment_by_name("miseg/streets")
    assert experiment is not None
    found = {}
    for key, value in experiment.tags.items():
        if key.startswith(views.TAG):
            envelope = json.loads(value)
            state = zlib.decompress(base64.b64decode(envelope["state"].removeprefix("deflate;")))
            found[key.removeprefix(views.TAG)] = envelope | {"state": json.loads(state)}
    return found


def test_a_tuning_and_a_study_have_a_view_and_other_runs_none(uri: str, tmp_path: Path) -> None:
    tuning, study = opened(uri, tmp_path, "tuning"), opened(uri, tmp_path, "study", **{"miseg.study": "night"})
    other = opened(uri, tmp_path, "trial")
    for run_id in (tuning, study, other, tuning):
        views.save(uri, run_id)
    found = kept(uri)
    assert set(found) == {tuning, f"{tuning}-search", f"{tuning}-confirmation", study}
    assert found[f"{tuning}-search"]["name"] == "search of tuning the tuning"
    assert found[f"{tuning}-search"]["state"]["searchFilter"].endswith("and tags.`miseg.phase` = 'search'")
    assert found[tuning]["name"] == "tuning the tuning" and found[study]["name"] == "the study: measured"
    state = found[tuning]["state"]
    assert state["searchFilter"] == f"tags.`mlflow.parentRunId` = '{tuning}'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val/mean_iou`", False)
    assert state["columnOrder"] == state["selectedColumns"] == [
        "metrics.`val/mean_iou`", "tags.`miseg.phase`", "params.`lambda`", "params.`optimiser.learning_rate`",
        "metrics.`step`", "tags.`miseg.ended`", "params.`seed`",
    ]  # fmt: skip
    # MLflow itself finds what the page asks for.
    client = MlflowClient(uri)
    child = mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/streets", "child", RunDetails(parent=tuning))
    place = client.get_run(tuning).info.experiment_id
    runs = client.search_runs([place], state["searchFilter"], order_by=[f"{state['orderByKey']} DESC"])
    assert [run.info.run_id for run in runs] == [child]
    client.search_runs([place], found[study]["state"]["searchFilter"], order_by=["metrics.`test/mean_iou` DESC"])


def test_the_address_is_that_of_the_view_or_of_the_run(uri: str, tmp_path: Path) -> None:
    tuning, trial = opened(uri, tmp_path, "tuning"), opened(uri, tmp_path, "trial")
    place = MlflowClient(uri).get_run(tuning).info.experiment_id
    views.save(uri, tuning)
    start = f"{views.LOCAL_UI}/#/experiments/{place}/runs"
    pages = "workflowType=machine_learning"
    assert views.address(uri, tuning) == f"{start}?{pages}&viewStateShareKey={tuning}"
    assert views.address(uri, trial) == f"{start}/{trial}?{pages}"
    assert views.address(uri, "0" * 32) == ""
    port = views.LOCAL_UI.rsplit(":", 1)[1]
    assert Ui().port == int(port)


def test_a_study_is_sorted_by_what_was_measured(uri: str, tmp_path: Path) -> None:
    for split in ("test", "val"):
        tags = {"miseg.kind": "study", "miseg.study": split, "miseg.split": split}
        study = mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/streets", split, RunDetails(tags=tags))
        views.save(uri, study)
        state = kept(uri)[study]["state"]
        assert state["orderByKey"] == state["selectedColumns"][0] == f"metrics.`{split}/mean_iou`"
        assert state["compareRunCharts"][0]["metricKey"] == f"{split}/mean_iou"


@pytest.mark.parametrize(
    ("experiment", "point"),
    [
        (Experiment(RegionMutualInformation(UNet(2))), spaces.region_mutual_information.point),
        (Experiment(AffinityField(UNet(2))), CONTENDERS["affinity"].point),
        (Experiment(InfoSeg()), spaces.infoseg.point),
    ],
    ids=lambda value: type(value.method).__name__ if isinstance(value, Experiment) else "",
)
def test_what_is_searched_is_a_column_of_the_runs(experiment: Experiment, point) -> None:
    known = parameters(experiment)
    for knob, value in point(experiment).items():
        found = known[parameter_name(knob, experiment)]
        assert found == str(value) or float(found) == pytest.approx(value, rel=1e-5), knob


def test_an_experiment_says_what_it_is_and_keeps_what_a_user_wrote(uri: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    place = mlflow_runs.ensure_experiment(client, "miseg/streets", RunStore(str(tmp_path), uri))
    tags = client.get_experiment(place).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development" and "streets" in tags["mlflow.note.content"]
    client.set_experiment_tag(place, "mlflow.note.content", "mine")
    assert mlflow_runs.ensure_experiment(client, "miseg/streets", RunStore(str(tmp_path), uri)) == place
    assert client.get_experiment(place).tags["mlflow.note.content"] == "mine"
