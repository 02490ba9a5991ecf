"""A checkpoint as files, for whoever keeps, copies or describes one: no torch is imported.

`checkpoint.json` is written last and lists every file with its SHA-256: a folder without it is not a checkpoint, and a
file that differs from it is named.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miseg.file_names import check_plain
from miseg.json_values import parse
from miseg.recipes.experiment import Experiment, from_dict

MANIFEST = "checkpoint.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file."""


def verify(folder: str | Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint.

    Raises:
        CheckpointError: `folder` is no checkpoint, or one of its files is missing or altered.
    """
    folder = Path(folder)
    try:
        manifest = parse((folder / MANIFEST).read_bytes(), finite=False)
        listed = {check_plain(name): digest for name, digest in manifest["sha256"].items()}
        if missing := {"weights.safetensors", "experiment.json"} - set(listed):
            raise ValueError(f"it lists no {' and no '.join(sorted(missing))}")
        for name, kind in (("step", int), ("experiment_id", str), ("metrics", dict), ("task", dict), ("data", dict)):
            if not isinstance(manifest[name], kind):
                raise ValueError(f"{name} = {manifest[name]!r}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / MANIFEST} cannot be read ({error}): this is not a whole checkpoint"
        ) from error
    for name, expected in listed.items():
        path = folder / name
        if path.is_symlink():
            raise CheckpointError(f"{path} is a link: put the file itself there")
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: use an earlier checkpoint of the run")
        if sha256(path) != expected:
            raise CheckpointError(f"{path} was altered after it was written: use an earlier checkpoint of the run")
    return manifest


def within(folder: str | Path) -> list[Path]:
    """The checkpoints of a run's folder by step, or `folder` itself where it is one.

    Raises:
        CheckpointError: there is none, or a damaged one.
    """
    folder = Path(folder)
    folders = [folder] if (folder / MANIFEST).exists() else [path.parent for path in folder.glob(f"[!.]*/{MANIFEST}")]
    if not folders:
        raise CheckpointError(f"{folder} is no checkpoint and holds none (no {MANIFEST}): give a run's folder")
    return sorted(folders, key=lambda path: verify(path)["step"])


def read_experiment(folder: str | Path) -> Experiment:
    """The Experiment that a checkpoint belongs to.

    Raises:
        CheckpointError: a damaged checkpoint.
    """
    verify(folder)
    path = Path(folder) / "experiment.json"
    try:
        return from_dict(parse(path.read_bytes()))
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} describes no experiment of this version ({error})") from error


def bands_of(folder: str | Path) -> tuple[tuple[str, ...] | None, bool]:
    """Names of the bands of a checkpoint's scenes, in the channels' order, and whether coarser ones were resampled.

    None where the training data did not name them.

    Raises:
        CheckpointError: as `verify`.
    """
    data = verify(folder)["data"]
    names = data.get("bands")
    return (None if names is None else tuple(names)), bool(data.get("resample", False))


def copy_weights(folder: str | Path, target: str | Path) -> Path:
    """A checkpoint that only predicts: weights and descriptions without the state of the training."""
    folder, target = Path(folder), Path(target)
    manifest = verify(folder)
    target.mkdir(parents=True)
    manifest["sha256"].pop("training.pt", None)
    for name in manifest["sha256"]:
        shutil.copyfile(folder / name, target / name)
    (target / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return target


def files_of(folder: str | Path) -> dict[str, bytes]:
    """The files, by name, of a checkpoint that only predicts: what goes to another machine."""
    with tempfile.TemporaryDirectory() as beside:
        copy = copy_weights(folder, Path(beside) / "checkpoint")
        return {path.name: path.read_bytes() for path in copy.iterdir()}


def experiment_in(files: Mapping[str, bytes]) -> Experiment:
    """The Experiment of the checkpoint that `files_of` read."""
    return from_dict(parse(files["experiment.json"]))


def unpack(files: Mapping[str, bytes], folder: Path) -> Path:
    """The checkpoint that `files_of` read, as a folder under `folder`."""
    target = folder / "checkpoint"
    target.mkdir()
    for name, content in files.items():
        (target / name).write_bytes(content)
    return target


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
