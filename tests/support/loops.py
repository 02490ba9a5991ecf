"""Small experiments, batches and runs for the tests of the training loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from miseg.interface import Batch, Task
from miseg.methods.configs import (
    AffinityField,
    BinaryCrossEntropy,
    CrossEntropy,
    MethodConfig,
    MutualLearning,
    RegionMutualInformation,
)
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.training.loop import Loop
from miseg.service.training.records import StepRecord

TASK = Task(num_classes=3)
NETWORK = UNet(2, "group")
METHODS: tuple[MethodConfig, ...] = (
    CrossEntropy(NETWORK),
    BinaryCrossEntropy(NETWORK),
    RegionMutualInformation(NETWORK, downsampling_factor=2, region_size=2),
    AffinityField(NETWORK, stride=4),
    MutualLearning(NETWORK, (UNet(3, "group"),)),
)
EXPERIMENT = Experiment(
    METHODS[2], optimiser=Optimiser(learning_rate=1e-2, warmup_steps=3), steps=8, batch_size=4, seed=5
)

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)


def batch_of(step: int) -> Batch:
    """A step's four images that show their labels, each with more ignored pixels than the one before."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(0, 3, (4, 4, 4), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2) + torch.randn(4, 3, 32, 32, generator=generator)
    for index in range(4):
        labels[index, : 9 * index] = TASK.ignore_index
    return Batch(images, labels, tuple(f"image-{step}-{index}" for index in range(4)))


def broken(batch: Batch, index: int) -> Batch:
    """The batch with one pixel of one image lost."""
    images = batch.images_NCHW.clone()
    images[index, 0, 30, 30] = torch.nan
    return replace(batch, images_NCHW=images)


def run(loop: Loop, until: int) -> list[StepRecord]:
    while loop.step < until:
        loop.train_step(batch_of(loop.step))
    return loop.flush()


def losses(records: list[StepRecord]) -> list[float]:
    return [record.values["train/loss"] for record in records]
