"""Networks: images in, logits out. Torch is imported when a network is built, not with this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miseg.networks.configs import DeepLab, Network

if TYPE_CHECKING:
    from torch import nn


def build_network(config: Network, in_channels: int, out_channels: int) -> nn.Module:
    """The network that `config` describes: [N, in_channels, H, W] -> logits [N, out_channels, H, W], any H and W.

    Weights come from torch's global random state, but for those that the settings name.

    Raises:
        ValueError: the named weights cannot be had.
    """
    if isinstance(config, DeepLab):
        # Its libraries take seconds to import, which a U-Net need not wait for.
        from miseg.networks.deeplab import DeepLab as Network

        return Network(config, in_channels, out_channels)
    from miseg.networks.unet import UNet

    return UNet(in_channels, out_channels, config.initial_features, config.normalisation)
