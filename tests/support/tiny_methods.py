"""Every method at a size that trains in seconds, with batches of what it takes."""

from __future__ import annotations

from dataclasses import replace

import torch

from miseg.interface import Batch, Method, Task
from miseg.methods import METHODS, build_method
from miseg.methods.configs import (
    CoOccurrence,
    InfoSeg,
    InvariantInformation,
    MethodConfig,
    PixelKMeans,
    RelativePosition,
)
from miseg.networks.configs import VGG, InfoSegNetwork, PatchEncoder, UNet

TASK = Task(num_classes=3)
PATCH = 7


def tiny_config(config_type: type, features: int = 8) -> MethodConfig:
    """The method's settings on a tiny network whose normalisation does not depend on the batch: ranks agree exactly."""
    if METHODS[config_type].pairs:
        return config_type(encoder=PatchEncoder(PATCH, (features, features), representation=4, normalisation="none"))
    network = UNet(features, normalisation="group")
    group = VGG(features, normalisation="group")
    without_labels = {
        InfoSeg: InfoSeg(InfoSegNetwork(32, features, normalisation="group"), jitter=0.1),
        InvariantInformation: InvariantInformation(group, displacement=2, jitter=0.1),
        PixelKMeans: PixelKMeans(samples=1000),
        RelativePosition: RelativePosition(group, samples=1000, patch=6, pairs=64, hidden=32),
        CoOccurrence: CoOccurrence(group, samples=1000, patch=6, pairs=64, hidden=32),
    }
    return without_labels.get(config_type) or config_type(network=network)


def tiny(config_type: type, seed: int = 0, features: int = 8) -> Method:
    """The method of `tiny_config`, its weights drawn by the seed."""
    torch.manual_seed(seed)
    return build_method(tiny_config(config_type, features), TASK)


def scene(seed: int = 1) -> Batch:
    """Two images in which a class is a colour, a few pixels ignored."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 3, (2, 4, 5), generator=generator)
    labels = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    images = images + 0.1 * torch.randn(images.shape, generator=generator)
    labels[:, :3, :3] = TASK.ignore_index
    return Batch(images, labels, ("a", "b"))


def slope(images_NCHW: torch.Tensor) -> torch.Tensor:
    """What grows to the right in one channel and downwards in another: what lies where can be told."""
    height, width = images_NCHW.shape[2:]
    down, right = torch.linspace(-2, 2, height), torch.linspace(-2, 2, width)
    return torch.stack((down[:, None].expand(height, width), right.expand(height, width), torch.zeros(height, width)))


def learnable_batch(method: Method, seed: int = 1) -> Batch:
    """What the method may train on: images with labels, or without, or pairs of patches of the same places."""
    batch = scene(seed)
    if method.supervision == "none":
        return replace(batch, images_NCHW=batch.images_NCHW + slope(batch.images_NCHW)).without_labels()
    if not method.pairs:
        return batch
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randint(0, size - PATCH, (8,), generator=generator) for size in (32, 40))
    places = zip([0, 1] * 4, rows.tolist(), columns.tolist(), strict=True)
    patches = torch.stack([batch.images_NCHW[n, :, row : row + PATCH, col : col + PATCH] for n, row, col in places])
    views = patches + 0.1 * torch.randn(patches.shape, generator=generator)
    return Batch(patches, ids=tuple("abababab"), views_NCHW=views)


def with_examples(method: Method, seed: int = 1) -> Method:
    """The method, ready to predict: one that compares with labelled pixels has some of each class."""
    if method.supervision == "none":
        method.fit_support([scene(seed).without_labels()])
    if method.supervision == "few":
        batch = scene(seed)
        assert batch.labels_NHW is not None
        sparse = torch.full_like(batch.labels_NHW, TASK.ignore_index)
        sparse[:, 4::8, 4::8] = batch.labels_NHW[:, 4::8, 4::8]
        method.fit_support([replace(batch, labels_NHW=sparse)])
    return method
