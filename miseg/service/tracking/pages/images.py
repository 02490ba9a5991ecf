"""Pictures of a run that MLflow shows by step, under the names that `MlflowClient.log_image` gives them.

That one draws a new name at each call: a picture that is sent twice, after a lost answer, would be there twice.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from mlflow.tracking.multimedia import compress_image_size
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from PIL.Image import Image

TAG = {MLFLOW_LOGGED_IMAGES: "True"}
"""Tag of a run that has such pictures."""

FOLDER = "images"
"""Folder of such pictures among a run's artifacts."""


def write(folder: Path, picture: Image, key: str, step: int) -> list[Path]:
    """Write a picture, and a small one for MLflow's grid, into `folder`; both paths.

    Args:
        folder: where there is none of this step yet.
        picture: any size.
        key: name of the series that it belongs to; up to a slash it names the section of charts that shows it.
        step: the training's.
    """
    stem = f"{stem_of(key)}{step}+timestamp+{time.time_ns() // 1_000_000}+{uuid.uuid4()}"
    whole, small = folder / f"{stem}.png", folder / f"{stem}+compressed.webp"
    picture.save(whole)
    compress_image_size(picture).save(small)
    return [whole, small]


def stem_of(key: str) -> str:
    """Start of the names of a series' files, up to the step."""
    return f"{key.replace('/', '~')}+step+"


def step_of(name: str) -> int:
    """Step of the picture whose file is called so; -1 where it is no such name."""
    parts = name.split("+")
    return int(parts[2]) if len(parts) > 3 and parts[2].isdigit() else -1
