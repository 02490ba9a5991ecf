"""The average of the weights that a training passes through."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from miseg.optimisation.averaging import WeightAverage

STEPS = 30


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).double()


def changed(own: nn.Module, seed: int) -> None:
    """The module after a step: other weights, and statistics of an image."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        own(torch.randn(1, 2, 8, 8, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_weights_and_statistics_follow_as_written(decay: float) -> None:
    own = module()
    average = WeightAverage(own, decay)
    expected = {name: value.clone() for name, value in own.state_dict().items()}
    for number in range(STEPS):
        changed(own, number)
        average.update(own)
        share = 1 - min(decay, (1 + number) / (10 + number))
        for name, value in own.state_dict().items():
            whole = not value.is_floating_point()
            expected[name] = value.clone() if whole else expected[name] + share * (value - expected[name])
    assert int(expected["1.num_batches_tracked"]) == STEPS
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
        assert name == "1.num_batches_tracked" or not torch.equal(value, own.state_dict()[name])


def test_the_weights_of_the_start_are_forgotten_within_tens_of_steps() -> None:
    own = nn.Linear(1, 1, bias=False)
    nn.init.constant_(own.weight, 1.0)
    average = WeightAverage(own, 0.9999)
    nn.init.zeros_(own.weight)
    for _ in range(100):
        average.update(own)
    (left,) = average.module.parameters()
    assert 0 < left.item() < 1e-8 < 0.9999**100


def test_the_copy_learns_nothing_and_leaves_the_module_as_it_is() -> None:
    own = module()
    average = WeightAverage(own, 0.9)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    average.update(own)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert not average.module.training and own.training
    assert not any(p.requires_grad for p in average.module.parameters())
    assert all(p.requires_grad for p in own.parameters())
