"""InfoSeg's network: local features, and K features of the whole image (Harb and Knöbelreiter 2021).

The figure with the layer sizes is not in the text that we have; ours are documented here and are settings.

Shape suffixes: N images, P features, K clusters, h and w the sides of the map of local features.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from miseg.networks.blocks import convolution
from miseg.networks.configs import InfoSegNetwork as InfoSegNetworkConfig
from miseg.networks.sobel import CHANNELS, with_sobel

STRIDE = 4
"""Input pixels for each pixel of the local features."""


class Features(NamedTuple):
    """Local and high-level features of images.

    Attributes:
        local_NPhw: features of patches.
        high_NKP: for each cluster a feature of the whole image.
    """

    local_NPhw: Tensor
    high_NKP: Tensor


class InfoSegNetwork(nn.Module):
    """Images [N, in_channels, H, W] to local features [N, P, ⌈H / 4⌉, ⌈W / 4⌉] and K high-level ones [N, K, P].

    Every block is two 3x3 convolutions with norm and ReLU, the first of which halves the resolution (not in A): A of w
    feature maps, B of 2w, C of 4w, D of 8w and E of 8w. The local features are a 1x1 convolution of C to P; D and E,
    averaged over the image, are what the K high-level extractors share, each a dense layer to P and layer norm.

    Args:
        config: w, P, normalisation and whether Sobel channels are added.
        in_channels: channels of an image, at least 1.
        clusters: K, at least 1.
    """

    def __init__(self, config: InfoSegNetworkConfig, in_channels: int, clusters: int) -> None:
        super().__init__()
        width, self.sobel = config.width, config.sobel
        channels = in_channels + (CHANNELS if config.sobel else 0)
        widths = (channels, width, 2 * width, 4 * width, 8 * width, 8 * width)
        blocks = [
            nn.Sequential(
                convolution(before, after, config.normalisation, stride=1 if number == 0 else 2),
                convolution(after, after, config.normalisation),
            )
            for number, (before, after) in enumerate(pairwise(widths))
        ]
        self.low = nn.Sequential(*blocks[:3])
        self.local = nn.Conv2d(4 * width, config.features, 1)
        self.high = nn.Sequential(*blocks[3:], nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.extractors = nn.ModuleList(
            nn.Sequential(nn.Linear(8 * width, config.features), nn.LayerNorm(config.features)) for _ in range(clusters)
        )

    def forward(self, images_NCHW: Tensor) -> Features:
        """Local and high-level features."""
        low = self.low(with_sobel(images_NCHW) if self.sobel else images_NCHW)
        shared = self.high(low)
        return Features(self.local(low), torch.stack([extract(shared) for extract in self.extractors], 1))
