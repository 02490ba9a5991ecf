"""The notebook of the documentation, run as a user runs it: Jupyter's kernel, its event loop, and a real Ray."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from mlflow import MlflowClient
from nbclient import NotebookClient
from nbformat import NotebookNode

from miseg.service.tuning.tables import summary
from tests.support import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

NOTEBOOK = ROOT / "docs" / "notebooks" / "first.ipynb"

BEFORE = """
import asyncio, os, signal
asyncio.get_running_loop()
handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
job = os.environ.get("RAY_JOB_ID")
"""

AFTER = """
import ray
assert not ray.is_initialized()
assert {number: signal.getsignal(number) for number in handlers} == handlers
assert os.environ.get("RAY_JOB_ID") == job
again = miseg.train("embedded-rmi", steps=40, settings=settings)
assert again.reused and again.run_id == rmi.run_id and not ray.is_initialized()
pd.testing.assert_frame_equal(again.history, rmi.history)
rmi.history.to_csv("history.csv")
tuning.trials.to_csv("trials.csv", index=False)
tuning.table.to_csv("table.csv", index=False)
tuned = tuning.model()
assert (tuned.predict(image).labels != 255).all()
image_file = "scene.png"
from PIL import Image
Image.fromarray(image).save(image_file)
assert (model.predict(image_file).labels == prediction.labels).all()
print(rmi.run_id, tuning.run_id, rmi.tracking_uri)
"""


def outputs(notebook: NotebookNode, kind: str) -> list[str]:
    """What the code cells gave, of a MIME type."""
    displayed = (output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output)
    return [output.data[kind] for output in displayed if kind in output.data]


def streams(notebook: NotebookNode, name: str) -> str:
    written = (output for cell in notebook.cells for output in cell.get("outputs", ()) if output.get("name") == name)
    return "".join(output.text for output in written)


def test_the_stored_notebook_is_one_that_was_run() -> None:
    """Top to bottom in one kernel, without an error or a warning, and not cut down afterwards."""
    notebook = nbformat.read(NOTEBOOK, 4)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))
    assert not [output for cell in codes for output in cell.outputs if output.output_type == "error"]
    assert streams(notebook, "stderr") == ""
    assert len(outputs(notebook, "image/png")) == 3 and len(outputs(notebook, "text/html")) >= 4
    assert NOTEBOOK.stat().st_size < 400_000
    text = NOTEBOOK.read_text()
    assert not re.search(r"/(home|root|tmp|work)/", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def executed(folder: Path) -> NotebookNode:
    notebook = nbformat.read(NOTEBOOK, 4)
    checks = [nbformat.v4.new_code_cell(source) for source in (BEFORE, AFTER)]
    notebook.cells = [checks[0], *notebook.cells, checks[1]]
    environment = os.environ | {"MISEG_STORAGE": str(folder / "storage"), "OMP_NUM_THREADS": "1"}
    client = NotebookClient(notebook, timeout=800, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def test_it_runs_and_leaves_the_kernel_as_it_was(executed: NotebookNode) -> None:
    assert len(outputs(executed, "image/png")) == 3
    assert "method.wieght: there is no such setting; did you mean method.weight" in streams(executed, "stdout")
    # Of Ray's and MLflow's own lines, and of what the commands print, there is none.
    assert not re.search(r"Trial|step +\d+/|MLflow run|WARNING|INFO", streams(executed, "stdout"))
    assert "Error" not in streams(executed, "stderr")


def test_frames_are_what_mlflow_holds(executed: NotebookNode, folder: Path) -> None:
    run_id, parent, uri = streams(executed, "stdout").split()[-3:]
    client = MlflowClient(uri)
    history = pd.read_csv(folder / "history.csv", index_col="step")
    logged = {name for name in client.get_run(run_id).data.metrics if name.startswith(("train/", "val/"))}
    assert set(history.columns) == logged and "train/loss" in logged and history.index.max() == 40
    for name in ("train/loss", "val/mean_iou"):
        points = {point.step: point.value for point in client.get_metric_history(run_id, name)}
        assert history[name].dropna().to_dict() == pytest.approx(points)
    assert history["val/mean_iou"].notna().sum() == 4 and history["train/loss"].notna().sum() == 40
    for name in ("trials", "confirmation"):
        client.download_artifacts(parent, f"{name}.csv", str(folder / "storage"))
    kept = pd.read_csv(folder / "storage" / "trials.csv")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "trials.csv"), kept)
    table = summary(pd.read_csv(folder / "storage" / "confirmation.csv"))
    pd.testing.assert_frame_equal(pd.read_csv(folder / "table.csv"), table)
