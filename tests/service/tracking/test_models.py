"""Which model a user means: a run's ID with or without runs:/, or the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from miseg.service.tracking import models

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
