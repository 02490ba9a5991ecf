"""Sobel channels: edges of the grey image beside the image itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

CHANNELS = 2
"""Channels that are added."""


def with_sobel(images_NCHW: Tensor) -> Tensor:
    """The images and the horizontal and vertical derivative of their grey value, [N, C + 2, H, W].

    IIC and InfoSeg give them to their networks beside the colours. Grey is the mean of the first three channels (of
    all, where there are fewer); a derivative is the Sobel filter's response over 4, the difference of the grey values
    to both sides; the border repeats the outermost pixels.
    """
    grey_N1HW = images_NCHW[:, :3].mean(1, keepdim=True)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    kernels = torch.stack((across, across.T))[:, None].to(grey_N1HW)
    return torch.cat((images_NCHW, conv2d(pad(grey_N1HW, (1, 1, 1, 1), mode="replicate"), kernels)), 1)
