"""A run's name of letters that are not ASCII, where the system's language knows ASCII alone, under a real Ray."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support import ROOT
from tests.support.processes import processes

NAME = "Straße"
SMALL = ("--steps", "4", "--validate-every", "2", "--batch-size", "2", "--method.network.initial-features", "2")
SMALL_TUNING = ("--trials", "1", "--confirm-seeds", "1", "--steps", "4", "--initial-features", "2", "--concurrent", "1")


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.faults
@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "command", [("train", "embedded-rmi", *SMALL), ("tune-rmi", *SMALL_TUNING)], ids=["training", "tuning"]
)
def test_a_name_that_is_not_ascii_under_lang_c(tmp_path: Path, command: tuple[str, ...]) -> None:
    with processes() as started:
        own = {"LANG": "C", "LC_ALL": "C", "MISEG_STORAGE": str(tmp_path), "RAY_TMPDIR": str(started.folder / "ray")}
        line = [sys.executable, "-m", "miseg", *command, "--name", NAME]
        process = started.start("job", line, started.environment(**own), ROOT)
        try:
            status = process.wait(timeout=240)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still at work: {started.text('job')[-2000:]}")
        text = started.text("job")
        assert status == 0, text
        assert "codec can't" not in text and "Traceback" not in text
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    named = [run for run in runs if re.search(NAME, run.info.run_name)]
    assert named and {run.info.status for run in runs} == {"FINISHED"}
    assert any(NAME in path.name for path in tmp_path.rglob("*")), "its folder bears the name as it was given"
