"""Networks: images in, logits out. Torch is imported when a network is built, not with this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miseg.networks.configs import Network

if TYPE_CHECKING:
    from torch import nn


def build_network(config: Network, in_channels: int, out_channels: int) -> nn.Module:
    """The network that `config` describes: [N, in_channels, H, W] -> logits [N, out_channels, H, W], any H and W.

    Weights come from torch's global random state.
    """
    from miseg.networks.unet import UNet

    return UNet(in_channels, out_channels, config.initial_features, config.normalisation)
