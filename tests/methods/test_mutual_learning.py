"""What only mutual learning promises: gradients that stay at home, any number of networks, optimisers of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from miseg.interface import Batch, Step, Task
from miseg.methods import build_method
from miseg.methods.configs import MutualLearning
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, Optimiser, from_dict, to_dict
from miseg.service.training.loop import Loop
from miseg.service.training.scoring import evaluate

TASK = Task(num_classes=3)
SMALL, SMALLER = UNet(4, "group"), UNet(2, "group")
CONFIGS = [
    MutualLearning(SMALL),
    MutualLearning(SMALL, (SMALLER, SMALL), weight=0.5),
    MutualLearning(SMALL, target="logits"),
]
each_config = pytest.mark.parametrize("config", CONFIGS, ids=["two", "three", "two, from logits"])


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 24, 32), generator=generator)
    labels[0, :5] = 255
    return Batch(torch.randn(2, 3, 24, 32, generator=generator), labels, ("a", "b"))


def method_of(config: MutualLearning) -> Any:
    torch.manual_seed(0)
    return build_method(config, TASK)


def per_network(step: Step) -> list[torch.Tensor]:
    """Each network's own loss: its two terms of the four, six, …"""
    return list((step.total / step.count).view(-1, 2).sum(1))


@each_config
def test_a_networks_loss_reaches_its_own_weights_alone(config: MutualLearning) -> None:
    method = method_of(config)
    losses = per_network(method(batch()))
    assert len(losses) == len(method.networks) == len(config.networks)
    for k, loss in enumerate(losses):
        for j, network in enumerate(method.networks):
            gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
            reached = [bool(gradient.any()) for gradient in gradients]
            assert all(reached) if j == k else not any(reached)


@pytest.mark.parametrize("config", CONFIGS[:2], ids=["two", "three"])
def test_the_loss_is_cross_entropy_and_the_mean_divergence(config: MutualLearning) -> None:
    method, data = method_of(config), batch()
    logits = [network(data.images_NCHW) for network in method.networks]
    valid = data.labels_NHW != 255
    expected = []
    for k, own in enumerate(logits):
        others = [other.detach() for j, other in enumerate(logits) if j != k]
        kl = [
            F.kl_div(own.log_softmax(1), other.log_softmax(1), reduction="none", log_target=True).sum(1)[valid].mean()
            for other in others
        ]
        expected.append(F.cross_entropy(own, data.labels_NHW, ignore_index=255) + config.weight * sum(kl) / len(kl))
    torch.testing.assert_close(per_network(method(data)), expected)


def test_each_network_runs_once_a_step() -> None:
    method = method_of(CONFIGS[1])
    calls = [0] * 3
    for k, network in enumerate(method.networks):
        network.register_forward_hook(lambda *_, k=k: calls.__setitem__(k, calls[k] + 1))
    method(batch()).loss().backward()
    assert calls == [1, 1, 1]


def test_weight_0_leaves_networks_that_learn_alone() -> None:
    method = method_of(replace(CONFIGS[0], weight=0.0))
    first = method.networks[0]
    method(batch()).loss().backward()
    together = [p.grad.clone() for p in first.parameters()]
    first.zero_grad()
    F.cross_entropy(first(batch().images_NCHW), batch().labels_NHW, ignore_index=255).backward()
    torch.testing.assert_close(together, [p.grad for p in first.parameters()])


def test_gradients_are_clipped_network_by_network() -> None:
    experiment = Experiment(CONFIGS[0], optimiser=Optimiser("sgd", 1.0, momentum=0, clip=1e-3, warmup_steps=0), steps=9)
    loop = Loop(experiment, TASK)
    before = [[p.detach().clone() for p in network.parameters()] for network in loop.method.networks]
    loop.train_step(batch())
    for network, earlier in zip(loop.method.networks, before, strict=True):
        moved = [(p.detach() - e).flatten() for p, e in zip(network.parameters(), earlier, strict=True)]
        assert torch.cat(moved).norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_every_network_is_evaluated() -> None:
    method, data = method_of(CONFIGS[1]), batch()
    found = evaluate(method, TASK, [data], device=torch.device("cpu"))
    assert set(found.others) == {"network_2", "network_3"}
    method.eval()
    for network, matrix in zip(method.networks, [found.matrix, *found.others.values()], strict=True):
        predicted = network(data.images_NCHW).argmax(1)
        valid = data.labels_NHW != 255
        assert matrix.pixel_accuracy() == pytest.approx((predicted == data.labels_NHW)[valid].float().mean().item())


def test_networks_start_from_weights_of_their_own() -> None:
    first, second = method_of(CONFIGS[0]).networks
    assert not torch.equal(first.head.weight, second.head.weight)


@each_config
def test_the_description_survives_json(config: MutualLearning) -> None:
    experiment = Experiment(config)
    assert from_dict(to_dict(experiment)) == experiment


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partners": ()}, "takes two networks or more"),
        ({"weight": -1.0}, "weight = -1.0: use 0 or more"),
        ({"target": "logit"}, "use one of probabilities, logits"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Experiment(MutualLearning(**settings))
