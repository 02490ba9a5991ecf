"""Memory that a network takes to train, measured on shapes alone: nothing is computed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from miseg.networks.registry import Network, build_network

SIDES = (256, 512)
"""Sides in pixels of the two images whose difference is what a pixel takes."""


class NetworkMemory(NamedTuple):
    """Bytes in single precision.

    Attributes:
        per_pixel: of what a training step keeps for the gradient, for each pixel of the batch.
        fixed: of the weights.
    """

    per_pixel: float
    fixed: int


def memory_of(config: Network, in_channels: int, out_channels: int) -> NetworkMemory:
    """Memory of the network that `config` describes.

    Its forward pass is run on PyTorch's device without storage, which knows shapes only, and what autograd keeps is
    added up. The largest single activation counts twice more: the gradient of one and the input of another are there
    beside what is kept.

    Args:
        config: the settings; pretrained weights are not read.
        in_channels: channels of an image.
        out_channels: logits of a pixel.

    Raises:
        ValueError, TypeError: as `build_network`.
    """
    from miseg.networks.configs import without_weights  # not at the top: see there

    network = _on_shapes(without_weights(config), in_channels, out_channels).train()
    weights = {id(weight): weight.nbytes for weight in network.parameters()}
    forward_bytes = [_kept_bytes(network, in_channels, side) for side in SIDES]
    pixels = 2 * (SIDES[1] ** 2 - SIDES[0] ** 2)
    return NetworkMemory((forward_bytes[1] - forward_bytes[0]) / pixels, sum(weights.values()))


def _on_shapes(config: Network, in_channels: int, out_channels: int) -> torch.nn.Module:
    """The network on the device without storage."""
    try:
        with torch.device("meta"):
            return build_network(config, in_channels, out_channels)
    except (RuntimeError, NotImplementedError):
        # Some networks, such as SegFormer's encoders, compute numbers with tensors where they are built.
        return build_network(config, in_channels, out_channels).to("meta")


def _kept_bytes(network: torch.nn.Module, channels: int, side: int) -> int:
    """Bytes that autograd keeps of a forward pass of two images, with twice the largest tensor on top."""
    seen: dict[int, Tensor] = {}
    own = {id(weight) for weight in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in own and not isinstance(tensor, torch.nn.Parameter):
            seen[tensor.untyped_storage()._cdata] = tensor
        return tensor

    def hand_back(tensor: Any) -> Any:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, hand_back):
        logits = network(torch.empty(2, channels, side, side, device="meta"))
    sizes = [tensor.untyped_storage().nbytes() for tensor in seen.values()]
    return sum(sizes) + 2 * max(sizes, default=0) + 4 * logits.numel() * logits.element_size()
