"""Base of the methods without labels: clusters out, valid pixels, and second views of an image."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from miseg.interface import Batch, Method, Task


class ClusterMethod(Method):
    """A method that learns from images alone and gives clusters, which evaluation matches to classes.

    Args:
        clusters: K; None: as many as the task has classes.
        task: classes and channels of the data.

    Raises:
        ValueError: neither says how many clusters there are.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]] = "none"
    emits: ClassVar[Literal["classes", "clusters"]] = "clusters"

    def __init__(self, clusters: int | None, task: Task) -> None:
        super().__init__()
        if clusters is None and not task.num_classes:
            raise ValueError("the data has no classes: say how many clusters there are (clusters)")
        self.task = task
        self.num_clusters = task.num_classes if clusters is None else clusters


def valid_at(batch: Batch, size_hw: tuple[int, int] | torch.Size) -> Tensor:
    """bool [N, h, w]: the cells of a grid of that size of whose pixels at least half count."""
    if batch.valid_NHW is None:
        return torch.ones(len(batch.images_NCHW), *size_hw, dtype=torch.bool, device=batch.images_NCHW.device)
    shares = interpolate(batch.valid_NHW[:, None].float(), tuple(size_hw), mode="area")
    return shares[:, 0] >= 0.5


def upsampled(values_NKhw: Tensor, images_NCHW: Tensor) -> Tensor:
    """The values at the images' resolution, bilinear, in float32."""
    return interpolate(values_NKhw.float(), images_NCHW.shape[2:], mode="bilinear", align_corners=False)


def jittered(images_NCHW: Tensor, strength: float) -> Tensor:
    """The images with their colours changed, each its own way; `strength` 0 changes nothing.

    Values are standardised, so that contrast is a gain and brightness an offset, drawn from ±strength each. Saturation
    is a gain, from ±strength too, of what tells the channels from their mean; each channel's own offset, from
    ±strength / 3, stands for hue.
    """
    if strength == 0:
        return images_NCHW
    channels = images_NCHW.shape[1]
    draws = 2 * torch.rand(len(images_NCHW), 3 + channels, 1, 1, device=images_NCHW.device) - 1
    contrast, brightness, saturation = (strength * draws[:, i : i + 1] for i in range(3))
    grey = images_NCHW.mean(1, keepdim=True)
    coloured = grey + (images_NCHW - grey) * (1 + saturation)
    return coloured * (1 + contrast) + brightness + strength / 3 * draws[:, 3:]


def mirrored(images_NCHW: Tensor, which_N: Tensor) -> Tensor:
    """The images, those of `which_N` (bool) flipped left to right; twice is the identity."""
    return torch.where(which_N[:, None, None, None], images_NCHW.flip(3), images_NCHW)
