"""The VGG-like trunk of IIC's segmentation (Ji et al. 2019) and of the baselines beside it."""

from __future__ import annotations

from torch import Tensor, nn

from miseg.networks.blocks import convolution
from miseg.networks.configs import VGG
from miseg.networks.sobel import CHANNELS, with_sobel

STRIDE = 2
"""Input pixels for each pixel of the features."""


class VGGTrunk(nn.Module):
    """Images [N, in_channels, H, W] to features [N, out_channels, ⌈H / 2⌉, ⌈W / 2⌉].

    3x3 convolutions with norm and ReLU of w, 2w, (2x2 max-pooling), 4w, 4w and, dilated by 2, 8w and 8w feature maps;
    w is 64 as published. A feature sees 31 x 31 input pixels or so.

    Args:
        config: width, normalisation and whether Sobel channels are added.
        in_channels: channels of an image, at least 1.

    Attributes:
        out_channels: 8w.
    """

    def __init__(self, config: VGG, in_channels: int) -> None:
        super().__init__()
        self.sobel = config.sobel
        width = config.width
        channels = in_channels + (CHANNELS if config.sobel else 0)
        plan = [(width, 1), (2 * width, 1), None, (4 * width, 1), (4 * width, 1), (8 * width, 2), (8 * width, 2)]
        layers: list[nn.Module] = []
        for step in plan:
            if step is None:
                layers.append(nn.MaxPool2d(STRIDE, ceil_mode=True))
                continue
            layers.append(convolution(channels, step[0], config.normalisation, dilation=step[1]))
            channels = step[0]
        self.layers = nn.Sequential(*layers)
        self.out_channels = channels

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Features at half the images' resolution."""
        return self.layers(with_sobel(images_NCHW) if self.sobel else images_NCHW)
