"""Checkpoints as MLflow models: loadable with `mlflow.pyfunc.load_model`, without a pickle."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from miseg import wheel
from miseg.service.checkpoints import checkpoint_files
from miseg.service.cluster.uris import check_recorded
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.connection import TrackingError, missing

SERVED = Path(__file__).with_name("served_model.py")


STEP_TAG = "miseg.step"
"""Tag of a model: the step of its checkpoint."""

ROLE_TAG = "miseg.role"
"""Tag of a model: "best" or "last". Models of before 2026-12-01 have it for their name."""

LONGEST_NAME = 200

_RUN_ID = re.compile("[0-9a-f]{32}")

_IN_PLACE_OF = str.maketrans({".": "·", "/": "-", ":": "-", "%": "-", '"': "-", "'": "-"})
"""Characters that a model's name must not have, with what stands for them; a decimal point is still read as one."""

_SETTING = threading.RLock()
"""Held while MLflow's settings, which are the process', point at one server."""


def log_model(uri: str, run_id: str, role: str, folder: str | Path) -> None:
    """Log the checkpoint in `folder` (weights and description, not the optimiser) as the run's one model `role`.

    A model that is there whole stays as it is; one that was cut off, or is of another step, goes. This is
    `mlflow.pyfunc.log_model` by the client's own calls: that one sets the run's status, and asks for the whole history
    of each of its metrics.

    Raises:
        checkpoint_files.CheckpointError: the checkpoint is damaged.
        Exception: whatever MLflow raises where it does not answer.
    """
    manifest = checkpoint_files.verify(folder)
    client, step = mlflow.MlflowClient(uri), manifest["step"]
    earlier = of_role(uri, run_id, role)
    logged = [m for m in earlier if m.tags.get(STEP_TAG) == str(step) and m.status == LoggedModelStatus.READY]
    if logged:
        _delete(client, [model for model in earlier if model is not logged[0]])
        return
    run = client.get_run(run_id)
    logged_model = client.create_logged_model(
        run.info.experiment_id,
        name_of(run, role),
        source_run_id=run_id,
        tags={STEP_TAG: str(step), ROLE_TAG: role},
        params=run.data.params,
    )
    with tempfile.TemporaryDirectory() as beside:
        weights, model_folder = Path(beside) / "checkpoint", Path(beside) / "model"
        checkpoint_files.copy_weights(folder, weights)
        _save(
            model_folder,
            weights,
            manifest["task"] | {"dtype": manifest.get("data", {}).get("dtype", "uint8")},
            wheel.requirements(checkpoint_files.read_experiment(folder).method),
            Model(
                logged_model.artifact_location, run_id, model_uuid=logged_model.model_id, model_id=logged_model.model_id
            ),
        )
        client.log_model_artifacts(logged_model.model_id, str(model_folder))
    client.log_outputs(run_id, [LoggedModelOutput(logged_model.model_id, step)])
    measured = [
        Metric(metric.key, metric.value, metric.timestamp, step, model_id=logged_model.model_id, run_id=run_id)
        for metric in _at_step(client, run, step)
    ]
    if measured:
        client.log_batch(run_id, metrics=measured)
    client.finalize_logged_model(logged_model.model_id, LoggedModelStatus.READY)
    # Asked anew: the client asks again where an answer was lost on its way, and the server then makes a second model.
    _delete(client, [m for m in of_role(uri, run_id, role) if m.model_id != logged_model.model_id])


def _delete(client: mlflow.MlflowClient, models: Sequence[LoggedModel]) -> None:
    for model in models:
        client.delete_logged_model(model.model_id)


def _save(
    target: Path, checkpoint: Path, task: dict[str, Any], requirements: Sequence[str], description: Model
) -> None:
    # Without names: MLflow would hand `predict` a named tensor as a dict of object arrays.
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(task["dtype"]), (-1, -1, -1, task["in_channels"]))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, task["num_classes"], -1, -1))]),
    )
    code = wheel.write(checkpoint.parent)
    with warnings.catch_warnings():
        # The signature is given: an example would only be predicted once more to check it.
        warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
        mlflow.pyfunc.save_model(
            str(target),
            python_model=str(SERVED),
            artifacts={"checkpoint": str(checkpoint), "miseg": str(code)},
            signature=signature,
            # MLflow has pip run in the model's folder.
            pip_requirements=[f"artifacts/{wheel.NAME}", *requirements],
            mlflow_model=description,
        )
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache)


def _at_step(client: mlflow.MlflowClient, run: Run, step: int) -> list[Metric]:
    """Metrics of the run's validation at a step, and those that were logged last, where they are of that step."""
    metrics = []
    for metric in run.data._metric_objs:  # has no public name
        if metric.step == step:
            metrics.append(metric)
        elif metric.step > step and metric.key.startswith("val/"):
            metrics += [value for value in client.get_metric_history(run.info.run_id, metric.key) if value.step == step]
    return metrics


def download(uri: str, run_id: str, role: str, folder: str | Path) -> Path:
    """The checkpoint folder of a run's model `role` ("best" or "last"), copied under `folder`.

    Raises:
        TrackingError: no such run, or it holds no such model.
    """
    problem = f"run {run_id} at {uri} holds no model {role}"
    try:
        models = [model for model in of_role(uri, run_id, role) if model.status == LoggedModelStatus.READY]
    except (mlflow.MlflowException, OSError) as error:
        raise missing(uri, problem, error) from error
    if not models:
        raise TrackingError(f"{problem}{queries.instead(uri, run_id)}")
    newest = max(models, key=lambda model: model.creation_timestamp)
    return _downloaded(uri, f"models:/{newest.model_id}", folder, problem)


def _downloaded(uri: str, model: str, folder: str | Path, problem: str) -> Path:
    try:
        # The function's own argument tracking_uri does not reach the model's files.
        with pointed_at(uri):
            path = mlflow.artifacts.download_artifacts(model, dst_path=str(folder))
    except (mlflow.MlflowException, OSError) as error:
        raise missing(uri, problem, error) from error
    return Path(path) / "artifacts" / "checkpoint"


def run_of(model: str) -> str | None:
    """The ID of the MLflow run that a user names, by runs:/ID or by the ID alone; None where it is a folder."""
    if model.startswith("runs:/"):
        return model.removeprefix("runs:/").split("/")[0]
    return model if _RUN_ID.fullmatch(model) and not Path(model).exists() else None


def folder_of(model: str, role: str, storage: str, offline: bool, beside: Path) -> Path:
    """The checkpoint folder that a user names; what is in MLflow is copied under `beside`.

    Args:
        model: a run, by runs:/ID or its ID, or by runs:/ID/best and runs:/ID/last in place of `role`; a registered
            model, by models:/NAME@best or models:/NAME/VERSION; or a folder.
        role: "best" or "last", of a run's two models.
        storage, offline: where MLflow is, as `mlflow_runs.tracking_uri` takes them.
        beside: a folder.

    Raises:
        ValueError: neither a folder nor a run's ID.
        TrackingError: MLflow does not answer, no such run or registered model, or the run holds no such model.
    """
    run_id = run_of(model)
    if run_id is None and not model.startswith("models:/"):
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise ValueError(f"model = {model}: no folder, nor the ID of an MLflow run: correct it")
        return folder
    own_role = "" if run_id is None else model.removeprefix("runs:/").partition("/")[2]
    if own_role and (own_role not in ("best", "last") or not model.startswith("runs:/")):
        raise ValueError(f"model = {model}: behind a run's ID goes best or last, or nothing")
    check_recorded(storage, offline)
    uri = mlflow_runs.tracking_uri(storage, offline)
    mlflow_runs.check(uri, storage)
    if run_id is None:
        return _downloaded(uri, model, beside, f"{model} is no registered model at {uri}")
    return download(uri, run_id, own_role or role, beside)


def of_run(uri: str, run_id: str) -> list[LoggedModel]:
    """The models that were logged to a run."""
    client = mlflow.MlflowClient(uri)
    experiment_id = client.get_run(run_id).info.experiment_id
    return list(client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"))


def of_role(uri: str, run_id: str, role: str) -> list[LoggedModel]:
    """The models that were logged to a run as its "best" or its "last"."""
    return [model for model in of_run(uri, run_id) if role_of(model) == role]


def role_of(model: LoggedModel) -> str:
    """Role of a model in its run: "best" or "last"."""
    return str(model.tags.get(ROLE_TAG, model.name))


def name_of(run: Run, role: str) -> str:
    """Name of a run's model as MLflow lists it: the role, for the end is cut there, and the run's own name."""
    return f"{role} of {run.info.run_name}".translate(_IN_PLACE_OF)[:LONGEST_NAME]


@contextlib.contextmanager
def pointed_at(uri: str) -> Iterator[None]:
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
