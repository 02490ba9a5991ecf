"""U-Net as in Buda, Saha and Mazurowski (2019), Computers in Biology and Medicine 109, 218-225.

After the authors' code, https://github.com/mateuszbuda/brain-segmentation-pytorch, without its final sigmoid: the
losses take logits. The architecture is Ronneberger et al. (2015) with batch norm and padded convolutions.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miseg.networks import configs
from miseg.networks.blocks import convolution

STRIDE = 16
"""Four halvings: the sides that the network itself can take are multiples of it."""


class UNet(nn.Module):
    """Images [N, in_channels, H, W] to logits [N, out_channels, H, W].

    Sides that are no multiple of 16 are padded inside with zeros (the mean of a standardised image, and what the
    convolutions pad with), at the right and the bottom, and the logits cropped back.

    Args:
        config: the settings.
        in_channels: channels of an image, at least 1.
        out_channels: logits per pixel, at least 1.
    """

    def __init__(self, config: configs.UNet, in_channels: int, out_channels: int) -> None:
        super().__init__()
        normalisation = config.normalisation
        widths = [config.initial_features * 2**level for level in range(5)]
        self.encoders = nn.ModuleList(
            _block(before, after, normalisation)
            for before, after in zip([in_channels, *widths[:3]], widths[:4], strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = _block(widths[3], widths[4], normalisation)
        self.upsamplers = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2) for width in reversed(widths[:4]))
        self.decoders = nn.ModuleList(_block(2 * width, width, normalisation) for width in reversed(widths[:4]))
        self.head = nn.Conv2d(config.initial_features, out_channels, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits at the images' resolution."""
        height, width = images_NCHW.shape[-2:]
        features = F.pad(images_NCHW, (0, -width % STRIDE, 0, -height % STRIDE))
        skips = []
        for encoder in self.encoders:
            features = encoder(features)
            skips.append(features)
            features = self.pool(features)
        features = self.bottleneck(features)
        for upsampler, decoder in zip(self.upsamplers, self.decoders, strict=True):
            features = decoder(torch.cat((upsampler(features), skips.pop()), 1))
        return self.head(features)[..., :height, :width]


def _block(in_channels: int, out_channels: int, normalisation: Literal["batch", "group"]) -> nn.Sequential:
    return nn.Sequential(
        *convolution(in_channels, out_channels, normalisation), *convolution(out_channels, out_channels, normalisation)
    )
