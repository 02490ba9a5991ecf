"""clDice against the published definition one image at a time, and against skeletons that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.draw import disk, line
from skimage.morphology import dilation, skeletonize

from miseg.evaluation import CenterlineDice


def strokes(seed: int, images: int = 4) -> np.ndarray:
    """Labels [N, 40, 50]: strokes of class 1, three pixels wide, and a disc of class 2."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((images, 40, 50), int)
    for image in labels:
        for _ in range(3):
            rows, columns = rng.integers(0, 40, 2), rng.integers(0, 50, 2)
            drawn = np.zeros(image.shape, bool)
            drawn[line(rows[0], columns[0], rows[1], columns[1])] = True
            image[dilation(drawn, np.ones((3, 3)))] = 1
        image[disk((20, 25), 6, shape=image.shape)] = 2
    return labels


def example(seed: int) -> tuple[np.ndarray, np.ndarray]:
    truth = strokes(seed)
    prediction = np.roll(truth, 1, axis=2)
    rng = np.random.default_rng(seed)
    prediction[:, :, 20:23] = 0
    truth[rng.random(truth.shape) < 0.02] = 255
    return prediction, truth


def published(predicted_HW: np.ndarray, true_HW: np.ndarray) -> float:
    """Equations 1 and 2 of Shit et al. for one pair of masks."""
    precision = (skeletonize(predicted_HW) & true_HW).sum() / skeletonize(predicted_HW).sum()
    sensitivity = (skeletonize(true_HW) & predicted_HW).sum() / skeletonize(true_HW).sum()
    return 2 * precision * sensitivity / (precision + sensitivity)


@pytest.mark.parametrize("seed", range(4))
def test_of_one_image_it_is_the_published_figure(seed: int) -> None:
    prediction, truth = example(seed)
    for predicted, true in zip(prediction, truth, strict=True):
        measured = CenterlineDice((1, 2))
        measured.update(predicted[None], torch.from_numpy(true[None]))
        expected = [published((predicted == label) & (true != 255), true == label) for label in (1, 2)]
        assert measured.dice_per_class() == pytest.approx(expected)
        assert measured.mean() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("seed", range(3))
def test_images_add_up_in_any_order(seed: int) -> None:
    prediction, truth = example(seed)
    whole, first, second = CenterlineDice((1,)), CenterlineDice((1,)), CenterlineDice((1,))
    whole.update(prediction, truth)
    first.update(prediction[[3, 0]], truth[[3, 0]])
    second.update(prediction[[2, 1]], truth[[2, 1]])
    first.merge(second)
    assert torch.equal(whole.sums, first.sums)


def test_a_gap_costs_its_length_and_a_thicker_line_nothing() -> None:
    truth = np.zeros((1, 20, 100), int)
    truth[0, 9:12] = 1
    thicker = truth.copy()
    thicker[0, 7:14] = 1
    measured = CenterlineDice((1,))
    measured.update(thicker, truth)
    assert measured.mean() == pytest.approx(1, abs=0.02)
    gap = truth.copy()
    gap[0, :, 40:60] = 0
    measured = CenterlineDice((1,))
    measured.update(gap, truth)
    # Of the truth's centerline four fifths are found, and all of the prediction's is true.
    assert measured.mean() == pytest.approx(2 * 0.8 / 1.8, abs=0.01)


def test_ignored_pixels_change_nothing() -> None:
    prediction, truth = example(5)
    other = prediction.copy()
    other[truth == 255] = 1
    first, second = CenterlineDice((1, 2)), CenterlineDice((1, 2))
    first.update(prediction, truth)
    second.update(other, truth)
    assert torch.equal(first.sums, second.sums)


def test_a_class_that_is_nowhere_is_nan_and_one_in_the_truth_alone_0() -> None:
    _, truth = example(0)
    measured = CenterlineDice((1, 3))
    assert math.isnan(measured.mean())
    measured.update(np.zeros_like(truth), truth)
    assert measured.dice_per_class()[0] == 0 and math.isnan(measured.dice_per_class()[1])
    assert measured.mean() == 0


def test_bad_input_is_refused() -> None:
    for classes in ((), (1, 1), (-1,)):
        with pytest.raises(ValueError, match="name each thin class once"):
            CenterlineDice(classes)
    with pytest.raises(ValueError, match="of equal shape are needed"):
        CenterlineDice((1,)).update(np.zeros((1, 4, 4), int), np.zeros((1, 4, 5), int))
    with pytest.raises(TypeError, match="expected integer labels"):
        CenterlineDice((1,)).update(np.zeros((1, 4, 4)), np.zeros((1, 4, 4), int))
    with pytest.raises(ValueError, match="do not merge"):
        CenterlineDice((1,)).merge(CenterlineDice((2,)))
