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
from miseg.networks.configs import INFOSEG_GRID
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
    feature maps, B of 2w, C of 4w, D of 8w and E of 8w. The local features are a 1x1 convolution of C to P. The K
    high-level extractors share D and E.

    Pooled, D takes what C gives, E is averaged over the image, and each extractor is a dense layer to P and layer norm.
    Flattened, as in equation 4.5 and table 4.1, D takes the local features, and each extractor is a dense layer at
    each position of E, flattening and layer norm. Images of 128 x 128 leave 8 x 8 positions; of other sizes the map is
    averaged or repeated to as many. The thesis does not say how many features a layer has.

    Args:
        config: w, P, normalisation, whether Sobel channels are added, and pooled or flattened.
        in_channels: channels of an image, at least 1.
        clusters: K, at least 1.
    """

    def __init__(self, config: InfoSegNetworkConfig, in_channels: int, clusters: int) -> None:
        super().__init__()
        width, self.sobel = config.width, config.sobel
        channels = in_channels + (CHANNELS if config.sobel else 0)
        self.flattened = config.high == "flattened"
        widths = (channels, width, 2 * width, 4 * width, 8 * width, 8 * width)
        blocks = [
            nn.Sequential(
                convolution(
                    config.features if number == 3 and self.flattened else before,
                    after,
                    config.normalisation,
                    stride=1 if number == 0 else 2,
                ),
                convolution(after, after, config.normalisation),
            )
            for number, (before, after) in enumerate(pairwise(widths))
        ]
        self.low = nn.Sequential(*blocks[:3])
        self.local = nn.Conv2d(4 * width, config.features, 1)
        if self.flattened:
            self.high = nn.Sequential(*blocks[3:], FixedSize(INFOSEG_GRID))
        else:
            self.high = nn.Sequential(*blocks[3:], nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.extractors = nn.ModuleList(self._extractor(8 * width, config.features) for _ in range(clusters))

    def _extractor(self, shared: int, features: int) -> nn.Module:
        if not self.flattened:
            return nn.Sequential(nn.Linear(shared, features), nn.LayerNorm(features))
        # A dense layer at each position is a 1x1 convolution.
        dense = nn.Conv2d(shared, features // INFOSEG_GRID**2, 1)
        return nn.Sequential(dense, nn.Flatten(), nn.LayerNorm(features))

    def forward(self, images_NCHW: Tensor) -> Features:
        """Local and high-level features."""
        low = self.low(with_sobel(images_NCHW) if self.sobel else images_NCHW)
        local = self.local(low)
        shared = self.high(local if self.flattened else low)
        return Features(local, torch.stack([extract(shared) for extract in self.extractors], 1))


class FixedSize(nn.Module):
    """Maps [N, C, h, w] averaged or repeated to [N, C, size, size]; a map of that size is handed on as it is."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, map_NChw: Tensor) -> Tensor:
        """The map at `size` positions a side."""
        if map_NChw.shape[-2:] == (self.size, self.size):
            return map_NChw
        return nn.functional.adaptive_avg_pool2d(map_NChw, self.size)
