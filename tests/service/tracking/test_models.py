"""Which model a user means: a run's ID with or without runs:/, or the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.service.tracking import models
from miseg.service.tracking.mlflow_runs import TrackingError

RUN = "2af4fbff3de34da982d40327188f8793"


def test_a_run_is_named_by_its_id_alone_or_as_mlflow_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.run_of(RUN) == models.run_of(f"runs:/{RUN}") == models.run_of(f"runs:/{RUN}/best") == RUN
    assert models.run_of("runs/checkpoint-12") is models.run_of(RUN[:31]) is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / RUN).mkdir()
    assert models.run_of(RUN) is None, "a folder that is there is what it says"


@pytest.mark.parametrize("model", [f"run:{RUN}", "nowhere/checkpoint", RUN[:8]])
def test_what_is_neither_folder_nor_run_is_told_by_its_name(model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"model = {model}: no folder, nor the ID of an MLflow run"):
        models.folder_of(model, "best", str(tmp_path), True, tmp_path)


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert models.folder_of(str(tmp_path), "best", str(tmp_path), True, tmp_path) == tmp_path


def test_models_have_their_run_s_name_and_role(uri: str, tmp_path: Path) -> None:
    """MLflow lists the models of all runs together; "best" and "last" told nobody whose they were."""
    client = MlflowClient(uri)
    run = client.create_run("0", run_name="street/3: λ=0.5 50 % 'ce'")
    assert models.name_of(run, "best") == "best of street-3- λ=0·5 50 - -ce-"
    now = client.create_logged_model("0", models.name_of(run, "best"), run.info.run_id, tags={models.ROLE_TAG: "best"})
    before = client.create_logged_model("0", "last", run.info.run_id)
    by_role = {role: [m.model_id for m in models.of_role(uri, run.info.run_id, role)] for role in ("best", "last")}
    assert by_role == {"best": [now.model_id], "last": [before.model_id]}
    # None is whole.
    with pytest.raises(TrackingError, match=rf"run {run.info.run_id} at .* holds no model best$"):
        models.download(uri, run.info.run_id, "best", tmp_path)
    with pytest.raises(TrackingError, match=r"holds no model best: .*not found"):
        models.download(uri, RUN, "best", tmp_path)
