"""The program's help, and a training of two steps on scenes that it packs, recorded in MLflow."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np


def miseg(*arguments: str) -> str:
    """What a command prints; it must succeed."""
    program = Path(sys.executable).with_name("miseg")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


assert "\n  tune-rmi " in miseg("--help")
assert "--method.weight" in miseg("train", "embedded-rmi", "--help")
scenes = ("--train", "8", "--val", "4", "--test", "0")
assert "packed data set:" in miseg("prepare-data", "--data", "embedded", *scenes)
sizes = ("--augmentation.crop", "32", "32", "--batch-size", "2", "--method.network.initial-features", "2")
miseg("train", "embedded-rmi", "--steps", "2", "--validate-every", "2", *sizes)

storage = Path(os.environ["MISEG_STORAGE"])
mlflow.set_tracking_uri(f"sqlite:///{storage}/mlflow.db")
(run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
assert run.info.status == "FINISHED" and 0 <= run.data.metrics["val/mean_iou"] <= 1
(name,) = {
    model.name
    for model in mlflow.search_logged_models([run.info.experiment_id], output_format="list")
    if "last" in model.name
}
assert name == f"last of {run.info.run_name}"
model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/{name}")
assert model.predict(np.zeros((1, 32, 48, 3), np.uint8)).shape == (1, 11, 32, 48)
