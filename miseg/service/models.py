"""Checkpoints as MLflow models: loadable with `mlflow.pyfunc.load_model`, without a pickle."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from miseg.service import checkpoint
from miseg.service.tracking import TrackingError

SERVED = Path(__file__).with_name("served_model.py")


def log_model(uri: str, run_id: str, role: str, folder: str | Path) -> None:
    """Log the checkpoint in `folder` (weights and description, not the optimiser) as the run's model `role`."""
    manifest = checkpoint.verify(folder)
    channels = manifest["task"]["in_channels"]
    classes = manifest["task"]["num_classes"]
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, channels), "images_NHWC")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, classes, -1, -1), "probabilities_NKHW")]),
    )
    mlflow.set_tracking_uri(uri)
    with tempfile.TemporaryDirectory() as beside:
        kept = Path(beside) / "checkpoint"
        checkpoint.copy_weights(folder, kept)
        with mlflow.start_run(run_id=run_id):
            mlflow.pyfunc.log_model(
                name=role,
                python_model=str(SERVED),
                artifacts={"checkpoint": str(kept)},
                signature=signature,
                pip_requirements=["miseg"],
                step=manifest["step"],
            )


def download(uri: str, run_id: str, role: str, folder: str | Path) -> Path:
    """The checkpoint folder of a run's model `role` ("best" or "last"), copied under `folder`.

    Raises:
        TrackingError: no such run, or it holds no such model.
    """
    mlflow.set_tracking_uri(uri)
    try:
        path = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{role}", dst_path=str(folder))
    except (mlflow.MlflowException, OSError) as error:
        raise TrackingError(f"run {run_id} at {uri} holds no model {role}: {str(error).splitlines()[0]}") from error
    return Path(path) / "artifacts" / "checkpoint"
