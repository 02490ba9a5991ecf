"""The bounds on fixed critics against their equations a score at a time, and the gradient of MINE."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from miseg.information.trained import bounds
from miseg.information.trained.critics import JointCritic, SeparableCritic

JOINT = [0.4, -1.2, 2.5]
MARGINAL = [[-0.3, 1.1], [0.0, -2.0], [0.7, 0.2]]
ALL = [score for row in MARGINAL for score in row]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def log_sigmoid(score: float) -> float:
    return -math.log1p(math.exp(-score))


def infonce_reference() -> float:
    """Each joint score among those of its row, of which it is one of three."""
    rows = [[joint, *row] for joint, row in zip(JOINT, MARGINAL, strict=True)]
    return mean([row[0] - math.log(mean([math.exp(score) for score in row])) for row in rows])


REFERENCES = {
    "donsker_varadhan": mean(JOINT) - math.log(mean([math.exp(score) for score in ALL])),
    "nguyen_wainwright_jordan": mean(JOINT) - mean([math.exp(score - 1) for score in ALL]),
    "log_ratio_f_divergence": 1 + mean(JOINT) - mean([math.exp(score) for score in ALL]),
    "jensen_shannon": mean([log_sigmoid(score) for score in JOINT]) + mean([log_sigmoid(-score) for score in ALL]),
    "mean_log_ratio": mean(JOINT),
    "infonce": infonce_reference(),
    "smile": mean(JOINT) - math.log(mean([min(max(math.exp(score), math.exp(-1)), math.e) for score in ALL])),
}


def bound(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    return partial(bounds.smile, clip=1.0) if name == "smile" else getattr(bounds, name)


@pytest.mark.parametrize("name", REFERENCES)
def test_equals_the_equation_on_fixed_scores(name: str) -> None:
    found = bound(name)(torch.tensor(JOINT).double(), torch.tensor(MARGINAL).double())
    assert found.item() == pytest.approx(REFERENCES[name], abs=1e-6)


def table() -> tuple[Tensor, Tensor, float]:
    """log r of a 3 x 3 table, its joint probabilities, and its mutual information."""
    joint = torch.tensor([[0.30, 0.05, 0.05], [0.02, 0.20, 0.08], [0.05, 0.05, 0.20]], dtype=torch.float64)
    log_ratio = (joint / torch.outer(joint.sum(1), joint.sum(0))).log()
    return log_ratio, joint, (joint * log_ratio).sum().item()


def drawn(scores: Tensor, joint: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in the shares that the table and its independent counterpart ask for, of which each is a whole number."""
    apart = torch.outer(joint.sum(1), joint.sum(0))
    return tuple(
        torch.repeat_interleave(scores.flatten(), (10_000 * shares).round().long().flatten())
        for shares in (joint, apart)
    )


@pytest.mark.parametrize(
    ("name", "offset"),
    [("donsker_varadhan", 3.0), ("nguyen_wainwright_jordan", 1.0), ("log_ratio_f_divergence", 0.0)],
)
def test_lower_bounds_are_tight_at_their_critic_and_below_at_others(name: str, offset: float) -> None:
    log_ratio, joint, information = table()
    scores, apart = drawn(log_ratio + offset, joint)
    assert bound(name)(scores, apart[:, None]).item() == pytest.approx(information, abs=1e-3)
    for seed in range(5):
        noise = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        scores, apart = drawn(log_ratio + offset + noise, joint)
        assert bound(name)(scores, apart[:, None]).item() < information - 0.01


def test_the_log_ratio_maximises_jensen_shannon_and_gives_the_information_as_plug_in() -> None:
    log_ratio, joint, information = table()
    scores, apart = drawn(log_ratio, joint)
    assert bounds.mean_log_ratio(scores, apart).item() == pytest.approx(information, abs=1e-3)
    best = bounds.jensen_shannon(scores, apart).item()
    for other in (log_ratio + 0.5, log_ratio - 0.5, 1.3 * log_ratio):
        assert bounds.jensen_shannon(*drawn(other, joint)).item() < best - 1e-3


def test_clipping_without_a_limit_is_donsker_varadhan_and_never_lowers_high_ratios() -> None:
    joint, marginal = torch.tensor(JOINT), torch.tensor(MARGINAL)
    unclipped = bounds.smile(joint, marginal, clip=math.inf)
    torch.testing.assert_close(unclipped, bounds.donsker_varadhan(joint, marginal))
    assert bounds.smile(joint, marginal + 5, clip=1.0) > bounds.donsker_varadhan(joint, marginal + 5)


def test_infonce_never_exceeds_the_logarithm_of_its_candidates() -> None:
    perfect = bounds.infonce(torch.full((8,), 60.0), torch.full((8, 7), -60.0)).item()
    assert perfect == pytest.approx(math.log(8), abs=1e-6)
    assert bounds.infonce(torch.zeros(8), torch.zeros(8, 7)).item() == pytest.approx(0, abs=1e-6)


def test_mines_gradient_has_the_average_over_batches_for_denominator() -> None:
    """∇ = ⟨∇T⟩_joint − ⟨e^T ∇T⟩_marginal / average, the average 0.9 of the older and 0.1 of the newest."""
    loss = bounds.MovingAverageDonskerVaradhan(0.1)
    first = torch.tensor([[0.3], [1.5]], dtype=torch.float64)
    loss(torch.zeros(2, dtype=torch.float64), first)
    joint = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    marginal = torch.tensor([[0.5], [-0.5]], dtype=torch.float64, requires_grad=True)
    loss(joint, marginal).backward()
    average = 0.9 * first.exp().mean() + 0.1 * marginal.detach().exp().mean()
    torch.testing.assert_close(joint.grad, torch.full((2,), -0.5, dtype=torch.float64))
    torch.testing.assert_close(marginal.grad, marginal.detach().exp() / 2 / average)


def test_mine_with_the_newest_batch_alone_has_the_bounds_own_gradient() -> None:
    joint, marginal = torch.tensor(JOINT), torch.tensor(MARGINAL, requires_grad=True)
    loss = bounds.MovingAverageDonskerVaradhan(1.0)
    for _ in range(2):
        (found,) = torch.autograd.grad(loss(joint, marginal), marginal)
        (expected,) = torch.autograd.grad(-bounds.donsker_varadhan(joint, marginal), marginal)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["donsker_varadhan", "jensen_shannon", "infonce", "smile"])
def test_scores_beyond_the_range_of_the_exponential_stay_finite(name: str) -> None:
    joint = torch.tensor([400.0, -400.0], requires_grad=True)
    found = bound(name)(joint, torch.tensor([[300.0], [-300.0]]))
    found.backward()
    assert found.isfinite() and joint.grad is not None and joint.grad.isfinite().all()


@pytest.mark.parametrize("kind", [JointCritic, SeparableCritic])
def test_a_critic_scores_all_pairings_as_it_scores_pairs(kind: type) -> None:
    torch.manual_seed(0)
    critic, x, y = kind((2, 3), (8, 5)), torch.randn(4, 2), torch.randn(4, 3)
    scores = critic(x[:, None], y)
    assert scores.shape == (4, 4)
    for i in range(4):
        for j in range(4):
            torch.testing.assert_close(scores[i, j], critic(x[i], y[j]))
    assert scores.std() > 1e-3
