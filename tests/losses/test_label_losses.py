"""What every loss of logits and labels keeps to, and its equality with a slow reference from its paper's equation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from miseg.interface import combine
from miseg.losses import MixedLoss, cross_entropy_parts
from tests.support.label_losses import LABEL_LOSSES, LabelLoss

each = pytest.mark.parametrize("loss", LABEL_LOSSES.values(), ids=LABEL_LOSSES)
SIZE = (7, 6)


def example(classes: int, scale: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and labels of three images: a row ignored, a label beyond the classes, an image without the last class."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(3, classes, *SIZE, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (3, *SIZE), generator=generator)
    labels[0, 0] = 255
    labels[1, 2, 1] = classes
    labels[1, 3, 1] = -7
    labels[2] = labels[2] % (classes - 1)
    return logits.requires_grad_(), labels


def counted(labels: Tensor, classes: int) -> Tensor:
    return (labels >= 0) & (labels < classes)


def gradient(loss: LabelLoss, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    value = combine(*loss.parts(logits, labels))
    return value.detach(), torch.autograd.grad(value, logits)[0]


@each
@pytest.mark.parametrize(("classes", "scale"), [(2, 0.5), (3, 8.0), (6, 1.0)])
def test_value_and_gradient_equal_the_slow_reference(loss: LabelLoss, classes: int, scale: float) -> None:
    logits, labels = example(classes, scale)
    total, count = loss.parts(logits, labels)
    expected, number = loss.slow(logits, labels)
    assert count == number > 0 and not count.requires_grad
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-12)
    (actual,), (reference,) = (torch.autograd.grad(value, logits) for value in (total, expected))
    torch.testing.assert_close(actual, reference, rtol=1e-7, atol=1e-11)


@each
def test_gradcheck(loss: LabelLoss) -> None:
    logits, labels = example(3)
    logits, labels = logits.detach()[1:, :, :5, :5].clone().requires_grad_(), labels[1:, :5, :5]
    assert torch.autograd.gradcheck(lambda x: loss.parts(x, labels)[0], logits)


@each
@pytest.mark.parametrize("value", [1e30, float("nan"), float("-inf")])
def test_pixels_that_do_not_count_change_nothing_and_have_no_gradient(loss: LabelLoss, value: float) -> None:
    logits, labels = example(4)
    ignored = ~counted(labels, 4)[:, None].expand_as(logits)
    other = logits.detach().masked_fill(ignored, value).requires_grad_()
    relabelled = labels.masked_fill(~counted(labels, 4), 255)
    expected, actual = gradient(loss, logits, labels), gradient(loss, other, relabelled)
    assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])
    assert actual[1][ignored].count_nonzero() == 0 < actual[1][~ignored].count_nonzero()


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_nothing_that_counts_gives_0_and_no_gradient(loss: LabelLoss, dtype: torch.dtype) -> None:
    logits = torch.full((2, 3, *SIZE), float("inf"), dtype=dtype, requires_grad=True)
    value, slope = gradient(loss, logits, torch.full((2, *SIZE), 255))
    assert value == 0 and slope.count_nonzero() == 0 and slope.isfinite().all()


@each
def test_the_order_of_a_batch_changes_nothing(loss: LabelLoss) -> None:
    logits, labels = example(4)
    order = torch.tensor([2, 0, 1])
    value, slope = gradient(loss, logits, labels)
    moved = gradient(loss, logits.detach()[order].requires_grad_(), labels[order])
    torch.testing.assert_close(moved[0], value)
    torch.testing.assert_close(moved[1], slope[order])


@each
def test_the_order_of_classes_changes_nothing(loss: LabelLoss) -> None:
    logits, labels = example(4)
    renamed = torch.where(counted(labels, 4), 3 - labels, 255)
    torch.testing.assert_close(
        gradient(loss, logits.detach().flip(1).requires_grad_(), renamed)[0], gradient(loss, logits, labels)[0]
    )


@each
def test_moved_around_the_borders_it_is_the_same(loss: LabelLoss) -> None:
    if not loss.rolls:
        pytest.skip("its neighbourhoods end at the border")
    logits, labels = example(4)
    value, slope = gradient(loss, logits, labels)
    moved = gradient(loss, logits.detach().roll((2, 3), (2, 3)).requires_grad_(), labels.roll((2, 3), (1, 2)))
    torch.testing.assert_close(moved[0], value)
    torch.testing.assert_close(moved[1].roll((-2, -3), (2, 3)), slope)


@each
def test_parts_of_a_batch_add_up_to_the_whole(loss: LabelLoss) -> None:
    """Two processes with unequal shares, one of which may count nothing, divide by what one would."""
    logits, labels = example(4)
    labels[0] = 255
    whole = loss.parts(logits, labels)
    parts = [loss.parts(logits[share], labels[share]) for share in (slice(0, 1), slice(1, 3))]
    for index in (0, 1):
        torch.testing.assert_close(parts[0][index] + parts[1][index], whole[index])
    assert parts[0][1] == 0 < parts[1][1]


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single_under_autocast_too(loss: LabelLoss, dtype: torch.dtype) -> None:
    logits, labels = example(4, scale=20.0)
    half = logits.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        total, count = loss.parts(half, labels)
    total.backward()
    expected = loss.parts(half.detach().double(), labels)[0]
    assert total.dtype == count.dtype == torch.float32
    assert half.grad is not None and half.grad.isfinite().all()
    torch.testing.assert_close(total.double(), expected, rtol=1e-4, atol=1e-5)


@each
def test_confident_logits_have_a_finite_gradient(loss: LabelLoss) -> None:
    _, labels = example(4)
    right = torch.nn.functional.one_hot(labels.clamp(0, 3), 4).permute(0, 3, 1, 2).float()
    for factor in (-1e4, 1e4):
        value, slope = gradient(loss, (factor * right).requires_grad_(), labels)
        assert value.isfinite() and slope.isfinite().all()


@each
def test_a_right_prediction_has_the_lowest_loss(loss: LabelLoss) -> None:
    logits, labels = example(4)
    right = 60 * torch.nn.functional.one_hot(labels.clamp(0, 3), 4).permute(0, 3, 1, 2).double()
    best = combine(*loss.parts(right, labels))
    for other in (right.roll(1, 1), right * 0, logits, right.roll(1, 3)):
        assert best < combine(*loss.parts(other, labels))


@each
def test_other_shapes_and_types_are_refused(loss: LabelLoss) -> None:
    logits, labels = example(4)
    with pytest.raises(ValueError, match="logits of shape"):
        loss.parts(logits[0], labels)
    with pytest.raises(ValueError, match="labels of shape"):
        loss.parts(logits, labels[:, 1:])
    with pytest.raises(ValueError, match="expected integers"):
        loss.parts(logits, labels.float())


@each
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_plain_loop_mixes_it_with_cross_entropy(loss: LabelLoss, weight: float) -> None:
    logits, labels = example(4)
    expected = weight * combine(*cross_entropy_parts(logits, labels, ignore_index=2))
    expected = expected + (1 - weight) * combine(*loss.parts(logits, labels, ignore_index=2))
    torch.testing.assert_close(MixedLoss(loss.parts, weight, ignore_index=2)(logits, labels), expected)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weight \(λ\) = .*0 is the loss alone"):
        MixedLoss(cross_entropy_parts, weight)
