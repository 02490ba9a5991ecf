"""Checkpoints: a folder that holds all that a run needs to go on, whole or not there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import platform
import shutil
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from miseg.files import folder_beside, replace_folder
from miseg.interface import Method, Task
from miseg.methods import build_method
from miseg.recipes.experiment import Experiment, to_dict
from miseg.service.checkpoints.checkpoint_files import MANIFEST, CheckpointError, read_experiment, sha256, verify

if TYPE_CHECKING:
    from miseg.service.training.loop import Loop

_OF_ALTERED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that a checkpoint raises whose checksums fit and whose files hold something else."""


@dataclass(frozen=True)
class Snapshot:
    """A training at one step, in memory of its own: it can be written while the training goes on."""

    step: int
    experiment: Experiment
    task: Task
    weights: dict[str, Tensor]
    state: dict[str, Any]


def snapshot(loop: Loop) -> Snapshot:
    """A copy of all that a checkpoint of `loop` holds."""
    weights = {name: _copied(value).contiguous() for name, value in loop.evaluated.state_dict().items()}
    return Snapshot(loop.step, loop.experiment, loop.task, weights, _copied(loop.state()))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value


def save(folder: str | Path, loop: Loop, metrics: dict[str, float], data: dict[str, Any] | None = None) -> Path:
    """Write `loop` to `folder`: see `write`."""
    return write(folder, snapshot(loop), metrics, data)


def write(folder: str | Path, taken: Snapshot, metrics: dict[str, float], data: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint to `folder`, beside it first and renamed into place.

    Args:
        folder: where the checkpoint shall be.
        taken: the training to keep.
        metrics: what was measured at its step.
        data: what a user of the weights must know of the data: `mean` and `std` of the standardisation, `colours`,
            `fingerprint`, and `match`, the class of each cluster.

    Raises:
        OSError: it could not be written; nothing of it stays, and what was at `folder` does.
    """
    folder = Path(folder)
    with folder_beside(folder) as unfinished:
        try:
            _write_files(unfinished, taken, metrics, data)
        except (RuntimeError, SafetensorError) as error:
            # They have their own errors for a disk that is full, and torch's names no cause.
            free = shutil.disk_usage(folder.parent).free
            raise OSError(f"{folder} could not be written ({_reason(error)}; {free / 1e6:.1f} MB were free)") from error
        replace_folder(unfinished, folder)
    return folder


def _write_files(folder: Path, taken: Snapshot, metrics: dict[str, float], data: dict[str, Any] | None) -> None:
    save_file(taken.weights, folder / "weights.safetensors")
    torch.save(taken.state, folder / "training.pt")
    (folder / "experiment.json").write_text(json.dumps(to_dict(taken.experiment), indent=1))
    manifest = {
        "step": taken.step,
        "experiment_id": taken.experiment.id,
        "metrics": metrics,
        "task": dataclasses.asdict(taken.task),
        "data": data or {},
        "versions": versions(),
        "sha256": {path.name: sha256(path) for path in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def load(folder: str | Path, loop: Loop) -> None:
    """Bring `loop` to where the checkpoint was taken.

    Raises:
        CheckpointError: a missing or altered file, a file that holds more than plain data, another experiment, or
            weights of another network; nothing was loaded then.
    """
    folder = Path(folder)
    manifest = verify(folder)
    if manifest["experiment_id"] != loop.experiment.id:
        raise CheckpointError(
            f"{folder} belongs to experiment {manifest['experiment_id']}, this run is {loop.experiment.id}: "
            "start the run under another name, or resume it with the settings it had"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it is not as we wrote it
            # Before anything is changed. Without weights_only a checkpoint from elsewhere could run code of its own.
            state = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
    except (*_OF_ALTERED, AssertionError, EOFError, OSError, Warning, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{folder / 'training.pt'} cannot be read ({_reason(error)}): nothing was loaded"
        ) from error
    load_weights(folder, loop.evaluated)
    try:
        loop.load_state(state)
    except _OF_ALTERED as error:
        raise CheckpointError(f"{folder / 'training.pt'} is of another training ({error!r}): do not go on") from error


def _reason(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), repr(error))


def open_method(folder: str | Path, device: torch.device | str = "cpu") -> tuple[Method, Experiment, Task]:
    """The trained method of a checkpoint in evaluation mode, with the experiment and task that it belongs to."""
    folder = Path(folder)
    manifest = verify(folder)
    experiment = read_experiment(folder)
    try:
        task = Task(**{**manifest["task"], "class_names": tuple(manifest["task"]["class_names"])})
        method = build_method(experiment.method, task, pretrained=False)
    except _OF_ALTERED as error:
        raise CheckpointError(f"{folder} describes no method that can be built ({error!r})") from error
    load_weights(folder, method)
    return method.to(device).eval(), experiment, task


def load_weights(folder: Path, method: torch.nn.Module) -> None:
    """Copy a checkpoint's weights into `method`, or change nothing and say which keys or shapes differ."""
    try:
        weights, expected = load_file(folder / "weights.safetensors"), method.state_dict()
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / 'weights.safetensors'} cannot be read ({error}): nothing was loaded"
        ) from error
    differing = sorted(set(weights) ^ set(expected)) + sorted(
        f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in set(weights) & set(expected)
        if weights[key].shape != expected[key].shape
    )
    if differing:
        shown = "; ".join(differing[:6]) + (f" and {len(differing) - 6} more" if len(differing) > 6 else "")
        raise CheckpointError(f"{folder / 'weights.safetensors'} is of another network, nothing was loaded: {shown}")
    method.load_state_dict(weights)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    by_name = {"python": platform.python_version()}
    for name in ("miseg", "torch", "ray", "mlflow", "optuna", "numpy"):
        # A job's working directory may hold miseg without it being installed.
        with contextlib.suppress(metadata.PackageNotFoundError):
            by_name[name] = metadata.version(name)
    return by_name
