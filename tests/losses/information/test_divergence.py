"""The divergence of mutual learning against a slow reference, and the Porto code's stand-in for it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from miseg.losses import divergence_from_logits_parts, mutual_learning_parts


def slow_divergence(logits: Tensor, target: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Equation 4 of Zhang et al. (2018), pixel by pixel over the valid ones, in the precision of the logits."""
    images, classes, height, width = logits.shape
    total, count = logits.sum() * 0, 0
    for n, row, column in itertools.product(range(images), range(height), range(width)):
        if not 0 <= labels[n, row, column] < classes:
            continue
        count += 1
        own, other = (torch.exp(maps[n, :, row, column]) for maps in (logits, target))
        own, other = own / own.sum(), other / other.sum()
        total = total + sum(other[k] * torch.log(other[k] / own[k]) for k in range(classes))
    return total, count


def example(classes: int = 3, scale: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, target = scale * torch.randn(2, 2, classes, 5, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, 5, 4), generator=generator)
    labels[0, 0] = 255
    labels[1, 2, 1] = classes
    return logits.requires_grad_(), target.requires_grad_(), labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("scale", [0.5, 8.0])
@pytest.mark.parametrize("networks", [2, 3])
def test_values_and_gradients_equal_the_reference(classes: int, scale: float, networks: int) -> None:
    logits, target, labels = example(classes, scale)
    together = [logits, target, (logits - 2 * target).detach().requires_grad_()][:networks]
    ce, divergences, count = mutual_learning_parts(together, labels)
    weights = torch.arange(1.0, networks + 1, dtype=torch.float64)
    found = torch.autograd.grad((weights * (ce + 0.7 * divergences)).sum(), together)
    for k, own in enumerate(together):
        others = [slow_divergence(own, other.detach(), labels) for j, other in enumerate(together) if j != k]
        assert count == others[0][1]
        divergence = sum(total for total, _ in others) / (networks - 1)
        torch.testing.assert_close(divergences[k], divergence, rtol=1e-10, atol=1e-12)
        counted = torch.where((labels >= 0) & (labels < classes), labels, -100)
        cross_entropy = torch.nn.functional.cross_entropy(own, counted, reduction="sum")
        torch.testing.assert_close(ce[k], cross_entropy, rtol=1e-10, atol=1e-12)
        (expected,) = torch.autograd.grad(weights[k] * (cross_entropy + 0.7 * divergence), own)
        torch.testing.assert_close(found[k], expected, rtol=1e-8, atol=1e-12)


def test_the_target_and_ignored_pixels_get_no_gradient() -> None:
    logits, target, labels = example()
    ce, divergences, _ = mutual_learning_parts([logits, target], labels)
    (ce[0] + divergences[0]).backward()
    assert not target.grad.any()
    counted = ((labels >= 0) & (labels < 3)).unsqueeze(1).expand_as(logits)
    assert logits.grad[counted].count_nonzero() > 0 == logits.grad[~counted].count_nonzero()


def test_it_is_zero_for_equal_predictions_and_above_it_otherwise() -> None:
    logits, target, labels = example()
    shifted = logits.detach() + 7.0
    assert mutual_learning_parts([shifted, logits], labels)[1].abs().max() < 1e-12
    assert mutual_learning_parts([logits, target], labels)[1].min() > 0


def test_sure_predictions_stay_finite_in_half_precision() -> None:
    logits = torch.tensor([[60000.0], [-60000.0]], dtype=torch.float16).view(1, 2, 1, 1).requires_grad_()
    labels = torch.zeros(1, 1, 1, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        _, divergences, _ = mutual_learning_parts([logits, -logits], labels)
    divergences.sum().backward()
    assert divergences.dtype == torch.float32 and divergences.isfinite().all() and logits.grad.isfinite().all()


def test_from_logits_is_torchs_kl_div_over_the_positive_logits() -> None:
    logits, target, _ = example()
    total, count = divergence_from_logits_parts(logits, target)
    expected = 0.0
    log_p = logits.log_softmax(1)
    for own, other in zip(log_p.flatten().tolist(), target.flatten().tolist(), strict=True):
        expected += other * (math.log(other) - own) if other > 0 else 0.0
    assert math.isclose(total.item(), expected, rel_tol=1e-10) and count == logits.numel()
    positive = target.detach().clamp_min(1e-3)
    kl_div = torch.nn.functional.kl_div(log_p, positive, reduction="sum")
    torch.testing.assert_close(divergence_from_logits_parts(logits, positive)[0], kl_div)
    total.backward()
    assert target.grad is None and logits.grad.isfinite().all()


def test_targets_of_another_shape_are_refused() -> None:
    logits, target, labels = example()
    with pytest.raises(ValueError, match="expected floating logits of the same shape"):
        mutual_learning_parts([logits, target[:1]], labels)
    with pytest.raises(ValueError, match="1 networks: give the logits of two or more"):
        mutual_learning_parts([logits], labels)
