"""Scenes of three fields side by side, and a model that tells them apart: what the labelling page is tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from miseg.interface import Batch, Task
from miseg.methods.configs import MutualInformationSimilarity
from miseg.networks.configs import PatchEncoder
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint
from miseg.service.training.loop import Loop
from tests.support.scene_layouts import raster

BANDS = ("B04", "B03", "B02", "B08")
DATES = ("2019-05-16", "2019-07-20", "2019-08-24")
_FIELDS = ((2000, 1500, 1000, 3500), (1000, 2500, 1500, 2000), (3000, 2800, 2600, 1200))


def write_fields(folder: Path, side: int = 96) -> Path:
    """Three dates of `side` x `side` pixels; the fields are thirds of the columns."""
    field = np.minimum(np.arange(side) * 3 // side, 2)
    for number, date in enumerate(DATES):
        noise = np.random.default_rng(number).normal(0, 25, (side, side, 4))
        pixels = np.array(_FIELDS)[field][None] * (1 - number / 10) + noise
        raster(folder / f"{date}.tif", pixels.round().astype(np.uint16))
    return folder


def write_model(folder: Path, hidden: int = 16) -> Path:
    """A checkpoint of a small similarity after a few steps."""
    torch.manual_seed(0)
    method = MutualInformationSimilarity(
        PatchEncoder(7, (16, 16), 8), hidden=hidden, compare="representation", gamma=0.1
    )
    loop = Loop(Experiment(method=method, steps=3, batch_size=8), Task(num_classes=5, in_channels=4))
    for _ in range(3):
        patches = torch.randn(8, 4, 7, 7)
        loop.train_step(Batch(patches, views_NCHW=patches + 0.1))
    data = {"mean": [0.0] * 4, "std": [1.0] * 4, "colours": [], "fingerprint": ""}
    return checkpoint.save(folder / "checkpoint", loop, {"mean_iou": 0.0}, data)


def write_tiny_model(folder: Path) -> Path:
    """A checkpoint of a tiny similarity, trained a little."""
    method = MutualInformationSimilarity(PatchEncoder(7, (6, 5), 4), hidden=8)
    loop = Loop(Experiment(method=method, steps=5, batch_size=8), Task(num_classes=5, in_channels=4))
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        patches = torch.randn(8, 4, 7, 7, generator=generator)
        loop.train_step(Batch(patches, views_NCHW=patches + 0.1))
    data = {"mean": [0.0] * 4, "std": [1.0] * 4, "colours": [], "fingerprint": ""}
    return checkpoint.save(folder / "checkpoint", loop, {"mean_iou": 0.0}, data)
