"""The Jensen-Shannon objective against its equation, and against a pair of distributions whose optimum is known."""

from __future__ import annotations

import math

import pytest
import torch

from miseg.losses import jensen_shannon_mutual_information, jensen_shannon_parts


def reference(joint: list[float], marginal: list[float]) -> float:
    """Deep InfoMax, equation 4, one score at a time: log(1 + e^x) for softplus."""
    of_joint = sum(-math.log1p(math.exp(-score)) for score in joint) / len(joint)
    of_marginal = sum(math.log1p(math.exp(score)) for score in marginal) / len(marginal)
    return of_joint - of_marginal


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_equation_with_its_gradient(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    joint = 3 * torch.randn(5, 3, 3, dtype=torch.float64, generator=generator)
    marginal = 3 * torch.randn(4, 2, dtype=torch.float64, generator=generator)
    found = jensen_shannon_mutual_information(joint.requires_grad_(), marginal.requires_grad_())
    assert found.item() == pytest.approx(reference(joint.flatten().tolist(), marginal.flatten().tolist()), rel=1e-12)
    found.backward()
    # d/dT −softplus(−T) = σ(−T), d/dT softplus(T) = σ(T).
    torch.testing.assert_close(joint.grad, torch.sigmoid(-joint.detach()) / joint.numel())
    torch.testing.assert_close(marginal.grad, -torch.sigmoid(marginal.detach()) / marginal.numel())


def test_scores_that_tell_nothing_give_minus_two_log_two() -> None:
    zeros = torch.zeros(4)
    assert jensen_shannon_mutual_information(zeros, zeros).item() == pytest.approx(-2 * math.log(2))


def test_the_optimum_is_the_log_ratio_and_gives_the_divergence() -> None:
    """For p = (0.7, 0.2, 0.1) and q = (0.1, 0.3, 0.6): T = log p/q, and the value is 2 (JSD − log 2)."""
    p, q = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    joint, marginal = (torch.repeat_interleave(torch.arange(3), (10 * share).round().long()) for share in (p, q))
    scores = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([scores], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -jensen_shannon_mutual_information(scores[joint], scores[marginal])
        loss.backward()
        return loss

    optimiser.step(step)
    torch.testing.assert_close(scores.detach(), (p / q).log(), atol=1e-5, rtol=1e-5)
    middle = (p + q) / 2
    divergence = 0.5 * (p * (p / middle).log()).sum() + 0.5 * (q * (q / middle).log()).sum()
    assert -step().item() == pytest.approx(2 * (divergence.item() - math.log(2)), abs=1e-9)


@pytest.mark.parametrize("score", [-1e4, 1e4])
def test_extreme_scores_stay_finite_under_autocast(score: float) -> None:
    joint = torch.full((4,), score, dtype=torch.float16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = jensen_shannon_mutual_information(joint, -joint.detach())
    found.backward()
    assert found.dtype == torch.float32 and found.isfinite() and joint.grad is not None and joint.grad.isfinite().all()


def test_parts_add_up_over_shares() -> None:
    joint, marginal = torch.randn(6, 2), torch.randn(6, 2)
    whole, count = jensen_shannon_parts(joint, marginal)
    shares = [jensen_shannon_parts(joint[part], marginal[part]) for part in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(whole, shares[0][0] + shares[1][0])
    torch.testing.assert_close(count, shares[0][1] + shares[1][1])


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.zeros(3, dtype=torch.int64)])
def test_bad_scores_are_named(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="marginal scores of shape"):
        jensen_shannon_mutual_information(torch.zeros(3), bad)
