"""A network of 3x3 convolutions at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from miseg.networks import Network, register_network

if TYPE_CHECKING:
    from torch import nn


@register_network("miseg_example.plain:build")
@dataclass(frozen=True)
class Plain(Network):
    """Two 3x3 convolutions and a 1x1 one."""

    features: int = 16
    """Feature maps of each."""


def build(config: Plain, in_channels: int, out_channels: int) -> nn.Module:
    """The module, with weights from torch's random state."""
    from torch import nn  # only here, so that settings cost no torch

    widths = [in_channels, config.features, config.features]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(config.features, out_channels, 1))
