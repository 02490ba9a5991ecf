from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from miseg.networks.configs import VGG, InfoSegNetwork
from miseg.networks.sobel import with_sobel
from miseg.networks.vgg import VGGTrunk


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sobel_channels_are_scipys(channels: int) -> None:
    images = torch.randn(2, channels, 7, 9, dtype=torch.float64)
    found = with_sobel(images)
    assert torch.equal(found[:, :channels], images) and found.shape == (2, channels + 2, 7, 9)
    for image, edges in zip(images.numpy(), found[:, channels:].numpy(), strict=True):
        grey = image[:3].mean(0)
        for axis, edge in zip((1, 0), edges, strict=True):
            np.testing.assert_allclose(edge, ndimage.sobel(grey, axis, mode="nearest") / 4, atol=1e-12)


def test_the_trunk_is_the_published_one() -> None:
    trunk = VGGTrunk(VGG(), 3)
    convolutions = [layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 256, 512, 512]
    assert [c.dilation[0] for c in convolutions] == [1, 1, 1, 1, 2, 2]
    assert convolutions[0].in_channels == 5 and trunk.out_channels == 512
    with torch.device("meta"):
        assert VGGTrunk(VGG(), 3)(torch.empty(1, 3, 128, 127)).shape == (1, 512, 64, 64)


def test_a_feature_sees_31_pixels_or_so() -> None:
    trunk = VGGTrunk(VGG(2, sobel=False, normalisation="group"), 3).eval()
    for module in trunk.modules():
        # Norms see the whole image.
        if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[1], nn.GroupNorm):
            module[1], module[2] = nn.Identity(), nn.Identity()
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    trunk(images)[0, :, 16, 16].sum().backward()
    assert images.grad is not None
    seen = images.grad.abs().sum((0, 1)).nonzero()
    assert 28 <= int(seen[:, 0].max() - seen[:, 0].min()) + 1 <= 34


@pytest.mark.parametrize("settings", [lambda: VGG(width=0), lambda: InfoSegNetwork(width=0)])
def test_settings_out_of_range(settings) -> None:
    with pytest.raises(ValueError, match="width = 0: use 1 or more"):
        settings()
    with pytest.raises(ValueError, match="features = 0: use 1 or more"):
        InfoSegNetwork(features=0)
