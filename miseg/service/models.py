"""Checkpoints as MLflow models: loadable with `mlflow.pyfunc.load_model`, without a pickle."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from miseg.service import checkpoint_files
from miseg.service.tracking import TrackingError

SERVED = Path(__file__).with_name("served_model.py")


STEP_TAG = "miseg.step"
"""Tag of a model: the step of its checkpoint."""

_SETTING = threading.RLock()
"""Held while MLflow's settings, which are the process', point at one server."""


def log_model(uri: str, run_id: str, role: str, folder: str | Path) -> None:
    """Log the checkpoint in `folder` (weights and description, not the optimiser) as the run's model `role`.

    A model that is there whole stays as it is; one that was cut off is logged anew. The run counts as ended afterwards.

    Raises:
        checkpoint_files.CheckpointError: the checkpoint is damaged.
        Exception: whatever MLflow raises where it does not answer.
    """
    manifest = checkpoint_files.verify(folder)
    step = str(manifest["step"])
    for model in of_run(uri, run_id):
        if model.name == role and model.tags.get(STEP_TAG) == step:
            if model.status == LoggedModelStatus.READY:
                return
            mlflow.MlflowClient(uri).delete_logged_model(model.model_id)
    channels = manifest["task"]["in_channels"]
    classes = manifest["task"]["num_classes"]
    # Without names: MLflow would hand `predict` a named tensor as a dict of object arrays.
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, channels))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, classes, -1, -1))]),
    )
    with tempfile.TemporaryDirectory() as beside, _tracking_uri(uri):
        kept = Path(beside) / "checkpoint"
        checkpoint_files.copy_weights(folder, kept)
        with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
            # The signature is given: an example would only be predicted once more to check it.
            warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
            mlflow.pyfunc.log_model(
                name=role,
                python_model=str(SERVED),
                artifacts={"checkpoint": str(kept)},
                signature=signature,
                pip_requirements=["miseg"],
                step=manifest["step"],
                tags={STEP_TAG: step},
            )


def download(uri: str, run_id: str, role: str, folder: str | Path) -> Path:
    """The checkpoint folder of a run's model `role` ("best" or "last"), copied under `folder`.

    Raises:
        TrackingError: no such run, or it holds no such model.
    """
    try:
        # The function's own argument tracking_uri does not reach the model's files.
        with _tracking_uri(uri):
            path = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{role}", dst_path=str(folder))
    except (mlflow.MlflowException, OSError) as error:
        raise TrackingError(f"run {run_id} at {uri} holds no model {role}: {str(error).splitlines()[0]}") from error
    return Path(path) / "artifacts" / "checkpoint"


def of_run(uri: str, run_id: str) -> list[LoggedModel]:
    """The models that were logged to a run."""
    client = mlflow.MlflowClient(uri)
    place = client.get_run(run_id).info.experiment_id
    return list(client.search_logged_models([place], f"source_run_id = '{run_id}'"))


@contextlib.contextmanager
def _tracking_uri(uri: str) -> Iterator[None]:
    """Point MLflow's fluent functions at `uri` for a while, and leave this process and its children as they were."""
    with _SETTING:
        variable = os.environ.get("MLFLOW_TRACKING_URI")
        before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
        mlflow.set_tracking_uri(uri)
        try:
            yield
        finally:
            # Where the variable alone had decided, it decides again.
            mlflow.set_tracking_uri(None if before == variable else before)  # type: ignore[arg-type]
            if variable is not None:
                os.environ["MLFLOW_TRACKING_URI"] = variable
