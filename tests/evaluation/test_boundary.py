"""Boundary IoU against a slow reference, and what it must and must not see."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from miseg.evaluation import BoundaryIoU


def slow_bands(labels: np.ndarray, label: int, distance: int) -> set[tuple[int, ...]]:
    """Pixels of a class with a pixel of another, or the outside, within the chessboard distance; one by one."""
    found = set()
    images, height, width = labels.shape
    steps = range(-distance, distance + 1)
    for n, row, column in itertools.product(range(images), range(height), range(width)):
        if labels[n, row, column] != label:
            continue
        for down, right in itertools.product(steps, steps):
            y, x = row + down, column + right
            if not (0 <= y < height and 0 <= x < width) or labels[n, y, x] != label:
                found.add((n, row, column))
                break
    return found


def example(seed: int, size: tuple[int, int] = (17, 23)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 4, (2, 5, 6))
    truth = coarse.repeat(4, 1).repeat(4, 2)[:, : size[0], : size[1]].copy()
    prediction = np.roll(truth, 1, axis=2)
    prediction[generator.random(prediction.shape) < 0.05] = 2
    truth[generator.random(truth.shape) < 0.05] = 255
    return prediction, truth


@pytest.mark.parametrize("ratio", [0.02, 0.06, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_equals_the_slow_reference(ratio: float, seed: int) -> None:
    prediction, truth = example(seed)
    measured = BoundaryIoU(5, ratio=ratio)
    measured.update(torch.from_numpy(prediction), truth)
    distance = max(1, round(ratio * math.hypot(17, 23)))
    prediction = np.where(truth == 255, 255, prediction)
    for label in range(5):
        true, predicted = (slow_bands(labels, label, distance) for labels in (truth, prediction))
        assert measured.intersections[label] == len(true & predicted)
        assert measured.unions[label] == len(true | predicted)
    assert measured.iou_per_class()[4].isnan()
    assert measured.mean() == pytest.approx(measured.iou_per_class()[:4].mean().item())


def test_a_perfect_prediction_is_1_and_nothing_counted_is_nan() -> None:
    _, truth = example(0)
    measured = BoundaryIoU(4)
    assert math.isnan(measured.mean())
    measured.update(np.where(truth == 255, 3, truth), truth)
    assert measured.mean() == 1


def test_it_sees_a_shifted_outline_that_area_hides() -> None:
    truth = torch.zeros(1, 100, 100, dtype=torch.int64)
    truth[:, 20:80, 20:80] = 1
    shifted = torch.roll(truth, 2, 2)
    measured = BoundaryIoU(2)
    measured.update(shifted, truth)
    area = ((shifted == 1) & (truth == 1)).sum() / ((shifted == 1) | (truth == 1)).sum()
    assert measured.iou_per_class()[1] < area - 0.2


def test_images_add_up_and_halves_merge() -> None:
    prediction, truth = example(3)
    whole, first, second = BoundaryIoU(4), BoundaryIoU(4), BoundaryIoU(4)
    whole.update(prediction, truth)
    first.update(prediction[:1], truth[:1])
    second.update(prediction[1:], truth[1:])
    first.merge(second)
    assert torch.equal(whole.intersections, first.intersections) and torch.equal(whole.unions, first.unions)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio = 0"):
        BoundaryIoU(3, ratio=0)
    with pytest.raises(ValueError, match="num_classes = 0"):
        BoundaryIoU(0)
    with pytest.raises(ValueError, match="of equal shape are needed"):
        BoundaryIoU(3).update(np.zeros((1, 4, 4), int), np.zeros((1, 4, 5), int))
    with pytest.raises(ValueError, match="do not merge"):
        BoundaryIoU(3).merge(BoundaryIoU(4))
