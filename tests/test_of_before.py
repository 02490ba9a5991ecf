"""What an earlier miseg wrote is opened by this one: `tests/fixtures` says what each file is."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import mlflow
import numpy as np
import pytest

from miseg.recipes.catalog import RECIPES
from tests.support import ROOT

FIXTURES = Path(__file__).parent / "fixtures"
RECORDED = "/home/user/storage"
"""The storage of the fixtures, as their paths name it."""


def test_every_recipe_keeps_its_id() -> None:
    """Ids name runs in MLflow: another id would train all that is trained once more."""
    recorded = json.loads((FIXTURES / "recipe_ids.json").read_text())
    assert {name: RECIPES[name]().id for name in recorded} == recorded


@pytest.mark.parametrize("name", ["region_mutual_information", "k_means"])
def test_a_logged_model_predicts_what_it_did(name: str) -> None:
    """Models hold code that imports miseg by the names of its time; clusters are matched with classes, too."""
    folder = FIXTURES / "logged_models"
    prediction = np.load(folder / f"{name}_prediction.npz")
    model = mlflow.pyfunc.load_model(str(folder / name))
    np.testing.assert_allclose(model.predict(prediction["images"]), prediction["probabilities"], rtol=1e-4, atol=1e-6)


def restored(storage: Path) -> str:
    """The MLflow database of the finished tuning under `storage`, with its paths; returns its URI."""
    storage.mkdir(parents=True, exist_ok=True)
    database = storage / "mlflow.db"
    database.write_bytes(gzip.decompress((FIXTURES / "finished_tuning" / "mlflow.db.gz").read_bytes()))
    columns = {
        "runs": ["artifact_uri"],
        "logged_models": ["artifact_location"],
        "experiments": ["artifact_location"],
        "model_versions": ["source", "storage_location"],
    }
    with sqlite3.connect(database) as connection:
        for table, names in columns.items():
            for name in names:
                connection.execute(f"UPDATE {table} SET {name} = replace({name}, ?, ?)", (RECORDED, str(storage)))
    connection.close()
    return f"sqlite:///{database}"


def tune_rmi(storage: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The command that the fixture was made with."""
    options = ["--trials", "2", "--size", "48", "64", "--initial-features", "2", "--steps", "8", "--confirm-seeds", "1"]
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "tune_rmi.py"), *options, *more],
        env=os.environ | {"MISEG_STORAGE": str(storage)},
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.mark.ray
@pytest.mark.smoke
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_finished_tuning_is_recognised(tmp_path: Path) -> None:
    """The same command finds what was tuned, by a hash of its settings, and tunes nothing."""
    restored(tmp_path)
    done = tune_rmi(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same was tuned before: before, MLflow run e4e46472498a41d6ad6ae871bc81baa7" in done.stdout


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_finished_tuning_that_is_resumed_trains_nothing(tmp_path: Path) -> None:
    """Tune's state names classes where they were then; the trainings are found again by what they trained.

    It has no signature, and so is not run unless somebody says so.
    """
    uri = restored(tmp_path)
    with tarfile.open(FIXTURES / "finished_tuning" / "tunings.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    trained = {run.info.run_id for run in mlflow.MlflowClient(uri).search_runs(["1"])}
    refused = tune_rmi(tmp_path, "--name", "before", "--resume")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    assert "state-000000022.zip has no signature" in refused.stderr and "--trust-state" in refused.stderr
    done = tune_rmi(tmp_path, "--name", "before", "--resume", "--trust-state")
    assert done.returncode == 0, done.stdout + done.stderr
    for phase in ("search", "b44ed1c8-confirm"):
        told = f"before-{phase} holds the state of another version of miseg (No module named 'miseg.service."
        assert told in done.stdout
    assert {run.info.run_id for run in mlflow.MlflowClient(uri).search_runs(["1"])} == trained


@pytest.mark.slow
def test_a_finished_tuning_is_a_report(tmp_path: Path) -> None:
    """The page is made from MLflow alone."""
    restored(tmp_path)
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "report.py"), "--tuning", "before"],
        env=os.environ | {"MISEG_STORAGE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = next((tmp_path / "reports").rglob("*.md")).read_text()
    assert "RMI as published" in page and "BCE" in page
