"""Soft Dice against a slow reference, with its gradient, and what it promises beside every method's contract."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from miseg.losses.labels import valid_pixels
from miseg.methods.dice import Dice


def slow_dice(logits: Tensor, labels: Tensor, squared: bool) -> tuple[Tensor, int]:
    """Σ 1 − 2 Σ p g / (Σ p^q + Σ g), pixel by pixel, over images and the classes that they show, and their number."""
    images, classes, height, width = logits.shape
    total, count = logits.sum() * 0, 0
    for n, k in itertools.product(range(images), range(classes)):
        overlap, predicted, shown = logits.sum() * 0, logits.sum() * 0, 0
        for row, column in itertools.product(range(height), range(width)):
            if not 0 <= labels[n, row, column] < classes:
                continue
            shares = torch.exp(logits[n, :, row, column])
            share = shares[k] / shares.sum()
            predicted = predicted + (share**2 if squared else share)
            if labels[n, row, column] == k:
                overlap, shown = overlap + share, shown + 1
        if shown:
            total, count = total + 1 - 2 * overlap / (predicted + shown), count + 1
    return total, count


def example(classes: int, scale: float) -> tuple[Tensor, Tensor]:
    """Logits and labels: a row ignored, a label beyond the classes, and an image without the last class."""
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(3, classes, 5, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (3, 5, 4), generator=generator)
    labels[0, 0] = 255
    labels[1, 2, 1] = classes
    labels[2] = labels[2] % (classes - 1)
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("scale", [0.5, 8.0])
def test_value_and_gradient_equal_the_reference(classes: int, scale: float, squared: bool) -> None:
    logits, labels = example(classes, scale)
    total, count = Dice(squared=squared).loss(logits, labels, valid_pixels(labels, classes))
    expected, number = slow_dice(logits, labels, squared)
    assert count == number > 0
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-12)
    (found,), (reference,) = (torch.autograd.grad(value, logits) for value in (total, expected))
    torch.testing.assert_close(found, reference, rtol=1e-8, atol=1e-12)
    counted = valid_pixels(labels, classes)[:, None].expand_as(logits)
    assert found[counted].count_nonzero() > 0 == found[~counted].count_nonzero()


def test_it_lies_between_0_where_all_is_right_and_1_where_nothing_is() -> None:
    labels = torch.tensor([[[0, 1], [2, 2]]])
    right = 60.0 * torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2)
    for squared, logits, mean in itertools.product((True, False), (right, right.roll(1, 1)), (0.0, 1.0)):
        total, count = Dice(squared=squared).loss(logits, labels, torch.ones_like(labels, dtype=torch.bool))
        if (logits is right) == (mean == 0.0):
            torch.testing.assert_close(total / count, torch.tensor(mean))


def test_halves_of_a_batch_add_up_to_the_whole() -> None:
    """Counts are of images and classes, so that two processes divide by what one would."""
    logits, labels = example(4, 1.0)
    valid = valid_pixels(labels, 4)
    whole = Dice().loss(logits, labels, valid)
    parts = [Dice().loss(logits[half], labels[half], valid[half]) for half in (slice(0, 1), slice(1, 3))]
    for index in (0, 1):
        torch.testing.assert_close(parts[0][index] + parts[1][index], whole[index])
