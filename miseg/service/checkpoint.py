"""Checkpoints: a folder that holds all that a run needs to go on, whole or not there.

`checkpoint.json` is written last and lists every file with its SHA-256: a folder without it is not a checkpoint, and a
file that differs from it is named.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pickle
import platform
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from miseg.interface import Method, Task
from miseg.methods import build_method
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.service.loop import Loop

MANIFEST = "checkpoint.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file."""


def save(folder: str | Path, loop: Loop, metrics: dict[str, float], data: dict[str, Any] | None = None) -> Path:
    """Write `loop` to `folder`, beside it first and renamed into place.

    Args:
        folder: where the checkpoint shall be.
        loop: the training to keep.
        metrics: what was measured at this step.
        data: what a user of the weights must know of the data: `mean` and `std` of the standardisation, `colours`,
            `fingerprint`.
    """
    folder = Path(folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in loop.method.state_dict().items()}
    save_file(weights, beside / "weights.safetensors")
    torch.save(loop.state(), beside / "training.pt")
    (beside / "experiment.json").write_text(json.dumps(to_dict(loop.experiment), indent=1))
    manifest = {
        "step": loop.step,
        "experiment_id": loop.experiment.id,
        "metrics": metrics,
        "task": dataclasses.asdict(loop.task),
        "data": data or {},
        "versions": versions(),
        "sha256": {path.name: _sha256(path) for path in sorted(beside.iterdir())},
    }
    (beside / MANIFEST).write_text(json.dumps(manifest, indent=1))
    # A whole checkpoint is on the disk at every moment, for a folder cannot be renamed onto another.
    earlier = folder.with_name(f".{folder.name}.earlier")
    if folder.exists():
        shutil.rmtree(earlier, ignore_errors=True)
        folder.rename(earlier)
    try:
        beside.rename(folder)
    except OSError:
        if earlier.exists():
            earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
    return folder


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
        # Read before anything is changed. Without weights_only a checkpoint from elsewhere could run code of its own.
        state = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{folder / 'training.pt'} cannot be read ({reason}): nothing was loaded") from error
    load_weights(folder, loop.method)
    loop.load_state(state)


def open_method(folder: str | Path, device: torch.device | str = "cpu") -> tuple[Method, Experiment, Task]:
    """The trained method of a checkpoint in evaluation mode, with the experiment and task that it belongs to."""
    folder = Path(folder)
    manifest = verify(folder)
    experiment = read_experiment(folder)
    task = Task(**{**manifest["task"], "class_names": tuple(manifest["task"]["class_names"])})
    method = build_method(experiment.method, task, pretrained=False)
    load_weights(folder, method)
    return method.to(device).eval(), experiment, task


def read_experiment(folder: str | Path) -> Experiment:
    """The Experiment that a checkpoint belongs to.

    Raises:
        CheckpointError: a damaged checkpoint.
    """
    verify(folder)
    return from_dict(json.loads((Path(folder) / "experiment.json").read_text()))


def copy_weights(folder: str | Path, target: str | Path) -> Path:
    """A checkpoint that only predicts: weights and descriptions without the state of the training."""
    folder, target = Path(folder), Path(target)
    manifest = verify(folder)
    target.mkdir(parents=True)
    manifest["sha256"].pop("training.pt", None)
    for name in (Path(listed).name for listed in manifest["sha256"]):
        shutil.copyfile(folder / name, target / name)
    (target / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return target


def files_of(folder: str | Path) -> dict[str, bytes]:
    """The files, by name, of a checkpoint that only predicts: what goes to another machine."""
    with tempfile.TemporaryDirectory() as beside:
        copy = copy_weights(folder, Path(beside) / "checkpoint")
        return {path.name: path.read_bytes() for path in copy.iterdir()}


def unpack(files: Mapping[str, bytes], folder: Path) -> Path:
    """The checkpoint that `files_of` read, as a folder under `folder`."""
    place = folder / "checkpoint"
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


def load_weights(folder: Path, method: torch.nn.Module) -> None:
    """Copy a checkpoint's weights into `method`, or change nothing and say which keys or shapes differ."""
    found, wanted = load_file(folder / "weights.safetensors"), method.state_dict()
    differing = sorted(set(found) ^ set(wanted)) + sorted(
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in set(found) & set(wanted)
        if found[key].shape != wanted[key].shape
    )
    if differing:
        shown = "; ".join(differing[:6]) + (f" and {len(differing) - 6} more" if len(differing) > 6 else "")
        raise CheckpointError(f"{folder / 'weights.safetensors'} is of another network, nothing was loaded: {shown}")
    method.load_state_dict(found)


def verify(folder: str | Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint.

    Raises:
        CheckpointError: `folder` is no checkpoint, or one of its files is missing or altered.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        listed = {Path(name).name: digest for name, digest in manifest["sha256"].items()}
        if missing := {"weights.safetensors", "experiment.json"} - set(listed):
            raise ValueError(f"it lists no {' and no '.join(sorted(missing))}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / MANIFEST} cannot be read ({error}): this is not a whole checkpoint"
        ) from error
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: use an earlier checkpoint of the run")
        if _sha256(path) != expected:
            raise CheckpointError(f"{path} was altered after it was written: use an earlier checkpoint of the run")
    return manifest


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("miseg", "torch", "ray", "mlflow", "optuna", "numpy"):
        # A job's working directory may hold miseg without it being installed.
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
