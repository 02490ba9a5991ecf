"""What each loss of the package keeps to, however it is computed: pixels that do not count, labels, derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

import miseg.losses
from miseg.interface import combine
from miseg.losses import (
    AffinityFieldLoss,
    MixedLoss,
    RegionMutualInformationLoss,
    binary_cross_entropy_parts,
    cross_entropy_parts,
    divergence_from_logits_parts,
    iic_segmentation_loss,
    jensen_shannon_parts,
    mutual_learning_parts,
)
from miseg.losses.labels import counted
from miseg.methods.dice import Dice
from tests.support.label_losses import LABEL_LOSSES

Loss = Callable[[Tensor, Tensor], Tensor]
CLASSES = 3
SIZE = (14, 13)


def of_parts(parts: Callable[..., tuple[Tensor, Tensor]], logits: Tensor, labels: Tensor, **settings: int) -> Tensor:
    return combine(*parts(logits, labels, **settings))


def mutual(logits: Tensor, labels: Tensor, **settings: int) -> Tensor:
    """Of a network and of one that says the same of the image upside down; both get a gradient."""
    networks = logits, (logits * 0.5).roll(1, 1)
    ce_M, divergence_M, count = mutual_learning_parts(networks, labels, **settings)
    return (ce_M + divergence_M).sum() / count.clamp_min(1)


def from_logits(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    """The Porto code's, whose sum has the other pixels too: with their logits at 0 it sees as much of them."""
    _, _, valid = counted(logits, labels, ignore_index)
    shown = logits.where(valid[:, None] | ~logits.isfinite(), 0)
    # The target is the same whatever the logits are, but not finite where they are not.
    other = torch.linspace(-1, 2, logits.numel(), dtype=logits.dtype).view_as(logits) * valid[:, None]
    other = other.where(logits.isfinite(), logits)
    return of_parts(lambda x, _: divergence_from_logits_parts(x, other, valid), shown, labels)


def invariant(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    _, _, valid = counted(logits, labels, ignore_index)
    # Of probabilities, here linear in the logits: a softmax of NaN would have the gradient NaN before the loss.
    views = (1 + 0.1 * logits) / 3, (1 - 0.2 * logits) / 3
    return iic_segmentation_loss(*views, valid, displacement=1)


def jensen_shannon(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    _, _, valid = counted(logits, labels, ignore_index)
    return of_parts(lambda x, _: jensen_shannon_parts(x[:, 0], x[:, 1], counted=(valid, valid)), logits, labels).sum()


def dice(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    return combine(*Dice().loss(*counted(logits, labels, ignore_index)))


def region(logits: Tensor, labels: Tensor, ignore_index: int = 255, **settings: object) -> Tensor:
    return RegionMutualInformationLoss(CLASSES, ignore_index=ignore_index, **settings)(logits, labels)


def affinity(logits: Tensor, labels: Tensor, ignore_index: int = 255, **settings: object) -> Tensor:
    return AffinityFieldLoss(CLASSES, ignore_index=ignore_index, **settings)(logits, labels)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "ce": partial(of_parts, cross_entropy_parts),
    "bce": partial(of_parts, binary_cross_entropy_parts),
    "dice": dice,
    "rmi": region,
    "rmi-alone": partial(region, weight=0.0),
    "rmi-full-resolution": partial(region, downsampling_factor=1),
    "rmi-max": partial(region, downsampling="max"),
    "rmi-interpolation": partial(region, downsampling="interpolation"),
    "affinity": partial(affinity, stride=1),
    "affinity-small": partial(affinity, stride=3),
    "affinity-published": partial(affinity, stride=1, pairs="published"),
    "mutual": mutual,
    "mutual-logits": from_logits,
    "iic": invariant,
    "jensen-shannon": jensen_shannon,
    "mixed": lambda x, y, ignore_index=255: MixedLoss(LABEL_LOSSES["lovasz"].parts, 0.5, ignore_index)(x, y),
    **{name: partial(of_parts, loss.parts) for name, loss in LABEL_LOSSES.items()},
}

each = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Two images: a block, a column and a single pixel do not count; every class is shown in both."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, *SIZE, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, CLASSES, (2, *SIZE), generator=generator)
    labels[0, :5] = 255
    labels[1, :, 6] = 255
    labels[1, 9, 11] = 255
    return logits, labels


def gradient(loss: Loss, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def test_every_public_loss_is_held_to_this() -> None:
    """A name for each function and class of the package that is a loss."""
    tested = {
        "AffinityFieldLoss": "affinity",
        "AffinityFieldParts": "affinity",
        "MixedLoss": "mixed",
        "RegionMutualInformationLoss": "rmi",
        "RegionMutualInformationParts": "rmi",
        "affinity_field_parts": "affinity",
        "binary_cross_entropy_parts": "bce",
        "boundary_parts": "boundary",
        "cl_dice_parts": "cldice",
        "complex_wavelet_mutual_information_parts": "cwmi",
        "cross_entropy_parts": "ce",
        "divergence_from_logits_parts": "mutual-logits",
        "focal_parts": "focal",
        "iic_loss_of_tables": "iic",
        "iic_segmentation_loss": "iic",
        "iic_tables": "iic",
        "jaccard_parts": "jaccard",
        "jensen_shannon_mutual_information": "jensen-shannon",
        "jensen_shannon_parts": "jensen-shannon",
        "lovasz_softmax_parts": "lovasz",
        "mutual_learning_parts": "mutual",
        "region_mutual_information_parts": "rmi",
        "region_vectors": "rmi",
        "tversky_parts": "tversky",
    }
    assert set(tested) == set(miseg.losses.__all__) and set(tested.values()) <= set(LOSSES)


@each
@pytest.mark.parametrize("value", [float("nan"), float("inf"), pytest.param(float("-inf"), marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("compiler", [None, ""])
def test_what_stands_at_an_ignored_pixel_is_not_seen(
    loss: Loss, value: float, dtype: torch.dtype, compiler: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiler is not None:
        monkeypatch.setenv("MISEG_COMPILER", compiler)
    logits, labels = example(dtype)
    ignored = (labels == 255)[:, None].expand_as(logits)
    expected, slope = gradient(loss, logits, labels)
    assert expected.isfinite() and slope[~ignored].count_nonzero() > 0
    one_channel = ignored & (torch.arange(CLASSES)[:, None, None] == 1)
    for poisoned in (ignored, one_channel):
        actual, other = gradient(loss, logits.masked_fill(poisoned, value), labels)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(other[~ignored], slope[~ignored])
        assert other[ignored].count_nonzero() == 0 or loss is from_logits
        assert other.isfinite().all()


@each
def test_a_nan_that_counts_is_told(loss: Loss) -> None:
    logits, labels = example()
    logits[1, :, 7:10, 7:10] = float("nan")
    assert not loss(logits, labels).isfinite()


@each
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_labels_of_every_integer_type_say_the_same(loss: Loss, dtype: torch.dtype) -> None:
    logits, labels = example(torch.float32)
    for ignore_index in (255, -1):
        named = labels.where(labels != 255, ignore_index if ignore_index > 0 or dtype != torch.uint8 else 255)
        expected, slope = gradient(partial(loss, ignore_index=ignore_index), logits, labels)
        actual, other = gradient(partial(loss, ignore_index=ignore_index), logits, named.to(dtype))
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(other, slope)


def test_more_classes_than_eight_bits_count() -> None:
    """Labels of a type that cannot name every class, and an ignore index that is one of its numbers by wrapping."""
    logits = torch.randn(1, 300, 4, 4)
    labels = torch.arange(240, 256).view(1, 4, 4)
    for parts in (cross_entropy_parts, binary_cross_entropy_parts):
        expected, count = parts(logits, labels, ignore_index=-1)
        assert count == 16
        torch.testing.assert_close(parts(logits, labels.to(torch.uint8), ignore_index=-1)[0], expected)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_labels_that_are_no_integers_are_refused(loss: Loss, dtype: torch.dtype) -> None:
    logits, labels = example()
    with pytest.raises(ValueError, match=rf"labels of type {dtype}: expected integers.*convert them by \.long\(\)"):
        loss(logits, labels.to(dtype))


@each
@pytest.mark.parametrize("compiler", [None, ""])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_second_derivative_is_right_or_refused(
    loss: Loss, compiler: str | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The penalty on the gradient of a loss, alone and beside cross-entropy, is never silently without the loss."""
    if compiler is not None:
        monkeypatch.setenv("MISEG_COMPILER", compiler)
    logits, labels = example(dtype)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)

    def slope(at: Tensor, create_graph: bool = False) -> Tensor:
        value = loss(at, labels) + combine(*cross_entropy_parts(at, labels))
        return torch.autograd.grad(value, at, create_graph=create_graph)[0]

    at = logits.clone().requires_grad_()
    first = slope(at, create_graph=True)
    torch.testing.assert_close(first, slope(at))
    try:
        (second,) = torch.autograd.grad((first * direction).sum(), at)
    except RuntimeError as error:
        assert "has a first derivative only" in str(error)
        with pytest.raises(RuntimeError, match="has a first derivative only, so its gradient cannot"):
            alone = torch.autograd.grad(loss(at, labels), at, create_graph=True)[0]
            torch.autograd.grad(alone.square().sum(), at)
        return
    if dtype == torch.float64:
        step = 1e-6
        ends = [slope((logits + sign * step * direction).requires_grad_()) for sign in (1, -1)]
        torch.testing.assert_close(second, (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6)
