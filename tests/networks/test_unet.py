"""The U-Net's size, shapes and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from miseg.networks import build_network
from miseg.networks.configs import UNet


def test_parameter_count_is_the_published_one() -> None:
    network = build_network(UNet(), 3, 1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_763_041


@pytest.mark.parametrize("normalisation", ["batch", "group"])
@pytest.mark.parametrize("size_HW", [(16, 16), (32, 48), (17, 31), (1, 50), (45, 64)])
def test_logits_have_the_images_size(normalisation: str, size_HW: tuple[int, int]) -> None:
    network = build_network(UNet(initial_features=3, normalisation=normalisation), 4, 5)
    logits = network(torch.randn(2, 4, *size_HW))
    assert logits.shape == (2, 5, *size_HW)
    assert logits.isfinite().all()


def test_odd_sizes_equal_zero_padding_to_the_next_multiple_of_16() -> None:
    network = build_network(UNet(initial_features=4), 3, 2).eval()
    images = torch.randn(1, 3, 35, 48)
    with torch.inference_mode():
        padded = network(F.pad(images, (0, 0, 0, 13)))
        assert torch.equal(network(images), padded[:, :, :35])


def test_multiples_of_16_are_not_padded() -> None:
    """The plain U-Net of the authors' code, called layer by layer, gives the same logits."""
    network = build_network(UNet(initial_features=4), 3, 2).eval()
    images = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        e1 = network.encoders[0](images)
        e2 = network.encoders[1](F.max_pool2d(e1, 2, 2))
        e3 = network.encoders[2](F.max_pool2d(e2, 2, 2))
        e4 = network.encoders[3](F.max_pool2d(e3, 2, 2))
        bottleneck = network.bottleneck(F.max_pool2d(e4, 2, 2))
        d4 = network.decoders[0](torch.cat((network.upsamplers[0](bottleneck), e4), 1))
        d3 = network.decoders[1](torch.cat((network.upsamplers[1](d4), e3), 1))
        d2 = network.decoders[2](torch.cat((network.upsamplers[2](d3), e2), 1))
        d1 = network.decoders[3](torch.cat((network.upsamplers[3](d2), e1), 1))
        assert torch.equal(network(images), network.head(d1))


@pytest.mark.parametrize("normalisation", ["batch", "group"])
def test_gradients_reach_every_parameter(normalisation: str) -> None:
    torch.manual_seed(0)
    network = build_network(UNet(initial_features=8, normalisation=normalisation), 3, 2)
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.count_nonzero() > 0, name


def test_group_norm_does_not_depend_on_the_batch() -> None:
    network = build_network(UNet(initial_features=4, normalisation="group"), 3, 2)
    images = torch.randn(3, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(network(images)[1:2], network(images[1:2]))
