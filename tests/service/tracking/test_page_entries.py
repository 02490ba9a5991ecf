"""Data sets, tables and pictures as MLflow's own functions keep them, which its pages look for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from miseg.data.packed.dataset import PackedDataset
from miseg.recipes.experiment import Experiment
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.pages import datasets, images, tables
from miseg.service.tracking.run_store import RunDetails, RunStore


def opened(uri: str, folder: Path, **details: object) -> str:
    return mlflow_runs.open_run(RunStore(str(folder), uri), "miseg/streets", "one", RunDetails(**details))  # type: ignore[arg-type]


def test_a_run_is_found_by_its_data_sets(uri: str, tmp_path: Path, small: PackedDataset, tiny: Experiment) -> None:
    read = datasets.of_training(small, tiny)
    run_id = opened(uri, tmp_path, datasets=read)
    assert opened(uri, tmp_path, datasets=read) == run_id, "opened once more, as by a resume"
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    kept = {entry.tags[0].value: entry.dataset for entry in run.inputs.dataset_inputs}
    assert kept.keys() == {"train", "validation"} and len(run.inputs.dataset_inputs) == 2
    assert kept["train"].digest == small.fingerprint
    assert json.loads(kept["validation"].profile) == {"num_rows": 7, "num_classes": len(small.info.classes)}
    assert json.loads(kept["train"].source)["uri"] == small.uri
    which = f"dataset.name = '{kept['train'].name}' and dataset.digest = '{small.fingerprint}'"
    assert [found.info.run_id for found in client.search_runs([run.info.experiment_id], which)] == [run_id]


# Of MLflow's own function.
@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_a_table_is_what_log_table_keeps(uri: str, tmp_path: Path) -> None:
    client, table = MlflowClient(uri), pd.DataFrame({"class": ["road", "λ"], "iou": [0.5, None]})
    run_id = opened(uri, tmp_path)
    mlflow_runs.log_table(uri, run_id, "ours.csv", table)
    client.log_table(run_id, table, "theirs.json")
    ours, theirs = (Path(client.download_artifacts(run_id, name)).read_text() for name in ("ours.json", "theirs.json"))
    assert ours == theirs
    mlflow_runs.log_table(uri, run_id, "ours.csv", table)
    assert len(json.loads(Path(client.download_artifacts(run_id, "ours.json")).read_text())["data"]) == 2
    marked = json.loads(client.get_run(run_id).data.tags["mlflow.loggedArtifacts"])
    assert marked == [{"path": f"{name}.json", "type": "table"} for name in ("ours", "theirs")]
    assert tables.tag(["a.json"]) == {"mlflow.loggedArtifacts": '[{"path": "a.json", "type": "table"}]'}


def test_a_picture_is_called_as_log_image_calls_it(uri: str, tmp_path: Path) -> None:
    client, picture = MlflowClient(uri), Image.new("RGB", (640, 480), (90, 140, 200))
    run_id = opened(uri, tmp_path)
    client.log_image(run_id, picture, key="val/panels", step=12)
    theirs = sorted(Path(item.path).name for item in client.list_artifacts(run_id, images.FOLDER))
    ours = sorted(path.name for path in images.write(tmp_path, picture, "val/panels", 12))
    for own, other in zip(ours, theirs, strict=True):
        # All but the time and what is drawn.
        assert re.sub(r"\+\d+\+[0-9a-f-]{36}", "", own) == re.sub(r"\+\d+\+[0-9a-f-]{36}", "", other)
        assert own.startswith(images.stem_of("val/panels")) and images.step_of(own) == images.step_of(other) == 12
    with Image.open(tmp_path / next(name for name in ours if name.endswith("webp"))) as small:
        assert max(small.size) <= 256
    assert client.get_run(run_id).data.tags["mlflow.loggedImages"] == images.TAG["mlflow.loggedImages"]
    assert images.step_of("of-before.png") == -1
