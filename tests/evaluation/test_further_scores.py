"""Image mean IoU, worst classes and calibration error against slow references, and sums that add up in any order."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from miseg.evaluation import CalibrationError, ConfusionMatrix, ImageMeanIoU, count_images

CLASSES = 5


def example(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [N, K, H, W] and labels; images lack classes, some pixels are ignored, one image wholly."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (6, CLASSES, 7, 9))
    logits[:, rng.integers(CLASSES)] -= 6
    truth = rng.integers(0, CLASSES, (6, 7, 9))
    truth[:3] = truth[:3] % 2
    truth[4] = 3
    truth[rng.random(truth.shape) < 0.2] = 255
    truth[5] = 255
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities.astype(np.float32), probabilities.argmax(1), truth


@pytest.mark.parametrize("seed", range(4))
def test_image_mean_iou_is_that_of_scikit_learn_averaged_over_images(seed: int) -> None:
    _, prediction, truth = example(seed)
    expected = []
    for predicted, true in zip(prediction, truth, strict=True):
        counted = true != 255
        if counted.any():
            labels = np.union1d(true[counted], predicted[counted])
            expected.append(jaccard_score(true[counted], predicted[counted], labels=labels, average="macro"))
    images = ImageMeanIoU(CLASSES)
    images.update(prediction, truth)
    assert images.sums[1] == len(expected) == 5
    assert images.mean() == pytest.approx(statistics.fmean(expected), abs=1e-9)


def test_a_class_in_neither_truth_nor_prediction_of_an_image_is_left_out_and_one_predicted_alone_counts_0() -> None:
    truth = np.zeros((1, 1, 4), int)
    images = ImageMeanIoU(3)
    images.update(np.array([[[0, 0, 0, 0]]]), truth)
    assert images.mean() == 1
    images.update(np.array([[[0, 0, 1, 1]]]), truth)
    assert images.mean() == pytest.approx((1 + (0.5 + 0) / 2) / 2, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_confusion_matrices_of_images_are_those_of_each_by_itself(seed: int) -> None:
    _, prediction, truth = example(seed)
    counts = count_images(prediction, truth, CLASSES)
    for number in range(len(truth)):
        single = ConfusionMatrix(CLASSES)
        single.update(prediction[number], truth[number])
        assert torch.equal(counts[number], single.counts)


def matrix_of(ious: list[float]) -> ConfusionMatrix:
    """Classes of these IoU, of 1,000 pixels in union each; what is missed is taken for a class that is not scored."""
    matrix = ConfusionMatrix(len(ious) + 1)
    for label, iou in enumerate(ious):
        matrix.counts[label, label] = round(1000 * iou)
        matrix.counts[label, -1] = 1000 - round(1000 * iou)
    return matrix


def test_the_worst_quarter_is_of_the_classes_that_occur_rounded_up() -> None:
    # With the class that is predicted alone, of IoU 0, there are 5 classes: a quarter is 2.
    matrix = matrix_of([0.9, 0.2, 0.6, 0.4])
    assert matrix.worst_class_iou() == 0
    assert matrix.worst_quarter_iou() == pytest.approx((0 + 0.2) / 2)
    perfect = ConfusionMatrix(9)
    perfect.counts[:3, :3] = torch.eye(3, dtype=torch.int64)
    perfect.counts[0, 1] = 1
    assert perfect.absent_classes() == (3, 4, 5, 6, 7, 8)
    assert perfect.worst_class_iou() == perfect.worst_quarter_iou() == 0.5
    empty = ConfusionMatrix(3)
    assert math.isnan(empty.worst_class_iou()) and math.isnan(empty.worst_quarter_iou())


@pytest.mark.parametrize("seed", range(20))
def test_worst_classes_are_ordered(seed: int) -> None:
    _, prediction, truth = example(seed)
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(prediction, truth)
    assert 0 <= matrix.worst_class_iou() <= matrix.worst_quarter_iou() <= matrix.mean_iou() <= 1
    assert matrix.worst_class_iou() == matrix.iou_per_class().nan_to_num(2).min().item()


def slow_error(confidence: np.ndarray, prediction: np.ndarray, truth: np.ndarray, bins: int) -> float:
    """Guo et al.'s equation 3, a pixel at a time."""
    by_bin: dict[int, list[tuple[float, bool]]] = {}
    for c, p, t in zip(confidence.ravel().tolist(), prediction.ravel(), truth.ravel(), strict=True):
        if t != 255:
            by_bin.setdefault(max(0, math.ceil(c * bins) - 1), []).append((c, p == t))
    number = sum(map(len, by_bin.values()))
    parts = []
    for pixels in by_bin.values():
        confidences, right = zip(*pixels, strict=True)
        parts.append(len(pixels) / number * abs(statistics.fmean(right) - statistics.fmean(confidences)))
    return sum(parts)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("seed", range(3))
def test_the_calibration_error_equals_the_slow_reference(seed: int, bins: int) -> None:
    probabilities, prediction, truth = example(seed)
    measured = CalibrationError(bins)
    measured.update(torch.from_numpy(probabilities.max(1)), prediction, truth)
    assert measured.error() == pytest.approx(slow_error(probabilities.max(1), prediction, truth, bins), abs=1e-6)
    table = measured.table()
    assert sum(pixels for _, _, pixels, _, _ in table) == (truth != 255).sum()
    own = sum(p * abs(confidence - right) for _, _, p, confidence, right in table if p) / (truth != 255).sum()
    assert own == pytest.approx(measured.error(), abs=1e-12)


def test_calibrated_confidences_have_an_error_that_goes_to_0_and_sure_mistakes_have_1() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, (1, 400, 400))
    right = rng.random(confidence.shape) < confidence
    measured = CalibrationError()
    measured.update(confidence, np.where(right, 1, 0), np.ones(confidence.shape, int))
    assert measured.error() < 0.01
    sure = CalibrationError()
    sure.update(np.ones((1, 2, 2)), np.zeros((1, 2, 2), int), np.ones((1, 2, 2), int))
    assert sure.error() == 1


def test_a_confidence_on_the_edge_of_two_bins_is_in_the_lower_one() -> None:
    for number in range(1, 9):
        measured = CalibrationError(8)
        measured.update(np.full((1, 1), number / 8), np.zeros((1, 1), int), np.zeros((1, 1), int))
        assert [pixels for _, _, pixels, _, _ in measured.table()].index(1) == number - 1
    nothing = CalibrationError(8)
    nothing.update(np.zeros((1, 1)), np.zeros((1, 1), int), np.zeros((1, 1), int))
    assert nothing.table()[0][2] == 1


@pytest.mark.parametrize("seed", range(5))
def test_sums_are_the_same_to_the_bit_in_any_order_and_batches(seed: int) -> None:
    probabilities, prediction, truth = example(seed)
    whole, parts, merged = ((ImageMeanIoU(CLASSES), CalibrationError()) for _ in range(3))
    of_rank = (ImageMeanIoU(CLASSES), CalibrationError())
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(truth))
    whole[0].update(prediction, truth)
    whole[1].update(probabilities.max(1), prediction, truth)
    for rank, counters in enumerate((parts, of_rank)):
        for number in order[rank::2]:
            counters[0].update(prediction[number, None], truth[number, None])
            counters[1].update(probabilities[number].max(0)[None], prediction[number, None], truth[number, None])
    for own, first, second, target in zip(whole, parts, of_rank, merged, strict=True):
        target.merge(first)  # type: ignore[arg-type]
        target.merge(second)  # type: ignore[arg-type]
        assert torch.equal(own.sums, target.sums)
    assert (merged[0].mean(), merged[1].error()) == (whole[0].mean(), whole[1].error())


@pytest.mark.parametrize("seed", range(3))
def test_ignored_pixels_change_nothing(seed: int) -> None:
    probabilities, prediction, truth = example(seed)
    other, confidence = prediction.copy(), probabilities.max(1)
    other[truth == 255] = 77
    unlike = np.where(truth == 255, np.nan, confidence)
    scores = []
    for predicted, sure in ((prediction, confidence), (other, unlike)):
        images, calibration = ImageMeanIoU(CLASSES), CalibrationError()
        images.update(predicted, truth)
        calibration.update(sure, predicted, truth)
        scores.append((images.mean(), calibration.error()))
    assert scores[0] == scores[1] and not math.isnan(scores[0][1])


def test_nothing_counted_is_nan_and_so_is_a_nan_of_the_network() -> None:
    assert math.isnan(ImageMeanIoU(3).mean()) and math.isnan(CalibrationError().error())
    broken = CalibrationError()
    broken.update(np.array([[0.5, np.nan]]), np.zeros((1, 2), int), np.zeros((1, 2), int))
    assert math.isnan(broken.error()) and broken.undefined == 1


def test_bad_input_is_refused() -> None:
    labels = np.zeros((1, 2, 2), int)
    with pytest.raises(ValueError, match="bins = 0"):
        CalibrationError(0)
    with pytest.raises(ValueError, match="not logits"):
        CalibrationError().update(np.full((1, 2, 2), 3.0), labels, labels)
    with pytest.raises(ValueError, match="equal shapes are needed"):
        CalibrationError().update(np.ones((1, 2, 3)), labels, labels)
    with pytest.raises(ValueError, match="15 bins do not merge into 10"):
        CalibrationError(10).merge(CalibrationError(15))
    with pytest.raises(ValueError, match="num_classes = 0"):
        ImageMeanIoU(0)
    with pytest.raises(ValueError, match="prediction holds 7"):
        ImageMeanIoU(3).update(labels + 7, labels)
    with pytest.raises(ValueError, match="do not merge"):
        ImageMeanIoU(3).merge(ImageMeanIoU(4))
