"""Optimisers over parameter groups, and the learning rate of each step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from miseg.interface import Task
from miseg.methods import build_method
from miseg.methods.configs import MutualLearning
from miseg.networks.configs import UNet
from miseg.optimisation.configs import Optimiser
from miseg.optimisation.optimisers import build_optimiser
from miseg.optimisation.schedules import learning_rate_factor


def weights_after(settings: Optimiser, gradients: list[float], start: float = 2.0) -> list[float]:
    """A single weight after each of the gradients."""
    weight = nn.Parameter(torch.tensor([[start]], dtype=torch.float64))
    optimiser = build_optimiser([{"params": [weight], "lr": settings.learning_rate}], settings)
    values = []
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        optimiser.step()
        values.append(weight.item())
    return values


def test_adamw_is_its_papers_algorithm() -> None:
    """Loshchilov and Hutter, ICLR 2019, algorithm 2: the decay is no part of what is adapted to."""
    rate, decay, gradients = 0.1, 0.3, [1.0, -0.5, 2.0]
    weight, first, second, expected = 2.0, 0.0, 0.0, []
    for number, gradient in enumerate(gradients, 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9**number) / (math.sqrt(second / (1 - 0.999**number)) + 1e-8)
        weight -= rate * (step + decay * weight)
        expected.append(weight)
    settings = Optimiser("adamw", learning_rate=rate, weight_decay=decay)
    assert weights_after(settings, gradients) == pytest.approx(expected, rel=1e-12)
    assert weights_after(Optimiser("adam", learning_rate=rate, weight_decay=decay), gradients) != pytest.approx(
        expected, rel=1e-3
    )


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_biases_and_factors_of_normalisations_can_be_left_out_of_the_decay(name: str) -> None:
    method = build_method(MutualLearning(UNet(2, "batch")), Task(3))
    groups = method.param_groups(0.5)
    optimiser = build_optimiser(groups, Optimiser(name, weight_decay=0.25, decayed="weights"))  # type: ignore[arg-type]
    by_parameter = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    assert len(by_parameter) == sum(len(group["params"]) for group in optimiser.param_groups)
    for parameter_name, parameter in method.named_parameters():
        module = method.get_submodule(parameter_name.rpartition(".")[0])
        weight = parameter_name.endswith(".weight") and not isinstance(module, nn.BatchNorm2d)
        group = by_parameter.pop(id(parameter))
        assert group["weight_decay"] == (0.25 if weight else 0.0), parameter_name
        # The rate and the part of the gradient's norm stay those of the network.
        assert (group["lr"], group["clip"]) == (0.5, int(parameter_name.split(".")[1]))
    assert not by_parameter


def test_without_that_choice_the_groups_are_the_methods_own() -> None:
    method = build_method(MutualLearning(UNet(2, "batch")), Task(3))
    groups = method.param_groups(0.5)
    optimiser = build_optimiser(groups, Optimiser("adamw", weight_decay=0.25))
    assert [len(group["params"]) for group in optimiser.param_groups] == [len(group["params"]) for group in groups]
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.25}


def test_learning_rate_rises_linearly_and_decays_as_a_polynomial() -> None:
    settings = Optimiser(warmup_steps=4, power=0.9)
    factors = [learning_rate_factor(step, 100, settings) for step in range(101)]
    assert factors[0] == 0.25
    assert factors[1] == pytest.approx(0.5 * 0.99**0.9)
    assert factors[3] == pytest.approx(0.97**0.9)  # the first at its full share
    assert factors[50] == pytest.approx(0.5**0.9)
    assert factors[99] == pytest.approx(0.01**0.9) and factors[100] == 0
    assert np.argmax(factors) == 3 and all(np.diff(factors[3:]) < 0)


def test_learning_rate_rises_linearly_and_decays_as_half_a_cosine() -> None:
    settings = Optimiser(warmup_steps=4, schedule="cosine", power=7)
    factors = [learning_rate_factor(step, 100, settings) for step in range(101)]
    assert factors[0] == 0.25
    assert factors[1] == pytest.approx(0.5 * (1 + math.cos(0.01 * math.pi)) / 2)
    assert factors[25] == pytest.approx((2 + math.sqrt(2)) / 4) and factors[50] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0, abs=1e-15)
    assert np.argmax(factors) == 3 and all(np.diff(factors[3:]) < 0)


@pytest.mark.parametrize("schedule", ["polynomial", "cosine"])
@pytest.mark.parametrize(("warmup", "steps"), [(1500, 30_000), (300, 6_000), (0, 10), (4, 4), (7, 4)])
def test_the_rmi_papers_decay_begins_where_its_warm_up_ends(schedule: str, warmup: int, steps: int) -> None:
    settings = Optimiser(warmup_steps=warmup, schedule=schedule, decay_from="warmup")
    factors = [learning_rate_factor(step, steps, settings) for step in range(steps)]
    for step, factor in enumerate(factors):
        if step < warmup:
            assert factor == step / warmup
        else:
            done = (step - warmup) / (steps - warmup)
            expected = (1 - done) ** 0.9 if schedule == "polynomial" else (1 + math.cos(math.pi * done)) / 2
            assert factor == pytest.approx(expected, abs=1e-12)
    assert warmup >= steps or max(factors) == factors[warmup] == 1


def test_power_0_without_warm_up_keeps_the_learning_rate() -> None:
    settings = Optimiser(warmup_steps=0, power=0)
    assert {learning_rate_factor(step, 10, settings) for step in range(10)} == {1.0}
