"""Blocks that several networks are built from."""

from __future__ import annotations

import math
import sys
from typing import Any, Literal, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def convolution(
    in_channels: int,
    out_channels: int,
    normalisation: Literal["batch", "group"],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """A 3x3 convolution that keeps the size (but for its stride), then norm, then ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False),
        norm(out_channels, normalisation),
        nn.ReLU(inplace=True),
    )


def norm(channels: int, normalisation: Literal["batch", "group"]) -> nn.Module:
    """Batch norm, or group norm of up to 8 groups, which does not depend on the batch."""
    return nn.BatchNorm2d(channels) if normalisation == "batch" else nn.GroupNorm(math.gcd(8, channels), channels)


def with_shared_batch_norm(network: M) -> M:
    """The network with batch norms that see the images of all processes together: `torch.nn.SyncBatchNorm`.

    timm's own batch norms hold an activation, too, which torch's conversion would drop in silence.
    """
    # Where timm was not imported, none of its modules are there.
    layers = sys.modules.get("timm.layers")
    convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm if layers is None else layers.convert_sync_batchnorm
    return convert(network)
