"""Memory that planning expects of a network, measured on shapes, beside what a step on the CPU keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from miseg.networks import build_network
from miseg.networks.architectures import ARCHITECTURES
from miseg.networks.configs import EncoderDecoder
from miseg.networks.memory import memory_of


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_can_be_planned(name: Any) -> None:
    encoder = {"segformer": "mit_b0", "dpt": "test_vit"}.get(name, "test_resnet")
    config = EncoderDecoder(name, encoder, output_stride=32 if name == "pan" else None)
    memory, network = memory_of(config, 3, 2), build_network(config, 3, 2)
    assert memory.fixed == sum(weight.nbytes for weight in network.parameters())
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(torch.zeros(2, 3, 256, 256))
    measured = sum(kept.values()) / (2 * 256**2)
    assert 0.8 * measured < memory.per_pixel < 3 * measured
