"""The confusion matrix against loops over pixels."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from miseg.evaluation import ConfusionMatrix
from miseg.one_class import ONE_CLASS, class_of, phrase, tag_of


def example(seed: int, classes: int = 4, absent: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth [3, 7, 9] with ignored pixels, where the prediction may be anything."""
    rng = np.random.default_rng(seed)
    present = [k for k in range(classes) if k not in absent]
    truth, prediction = rng.choice(present, (2, 3, 7, 9))
    ignored = rng.random(truth.shape) < 0.2
    truth[ignored], prediction[ignored] = 255, rng.integers(-5, 300, ignored.sum())
    return prediction, truth


def counts_by_loops(prediction: np.ndarray, truth: np.ndarray, classes: int) -> list[list[int]]:
    counts = [[0] * classes for _ in range(classes)]
    for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if t != 255:
            counts[t][p] += 1
    return counts


def ious_by_sets(prediction: np.ndarray, truth: np.ndarray, classes: int) -> tuple[list[float], float, float]:
    """IoU a class, micro IoU and pixel accuracy from sets of pixel positions."""
    pairs = [(p, t) for p, t in zip(prediction.ravel(), truth.ravel(), strict=True) if t != 255]
    ious, hits, unions = [], 0, 0
    for k in range(classes):
        predicted = {i for i, (p, _) in enumerate(pairs) if p == k}
        true = {i for i, (_, t) in enumerate(pairs) if t == k}
        hits, unions = hits + len(predicted & true), unions + len(predicted | true)
        ious.append(len(predicted & true) / len(predicted | true) if predicted | true else math.nan)
    return ious, hits / unions, sum(p == t for p, t in pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("absent", [(), (1,), (0, 3)])
def test_scores_equal_loops(seed: int, absent: tuple[int, ...]) -> None:
    prediction, truth = example(seed, absent=absent)
    matrix = ConfusionMatrix(4)
    matrix.update(torch.from_numpy(prediction), torch.from_numpy(truth))
    ious, micro, accuracy = ious_by_sets(prediction, truth, 4)
    assert matrix.counts.dtype == torch.int64
    assert matrix.counts.tolist() == counts_by_loops(prediction, truth, 4)
    np.testing.assert_allclose(matrix.iou_per_class(), ious)
    assert matrix.mean_iou() == pytest.approx(np.nanmean(ious))
    assert matrix.micro_iou() == pytest.approx(micro)
    assert matrix.pixel_accuracy() == pytest.approx(accuracy)
    assert matrix.absent_classes() == absent


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "int64"])
def test_numpy_and_torch_integers_of_any_width_count_alike(dtype: str) -> None:
    prediction, truth = example(0)
    prediction = prediction.clip(0, 3)
    expected = counts_by_loops(prediction, truth, 4)
    from_numpy, from_torch = ConfusionMatrix(4), ConfusionMatrix(4)
    from_numpy.update(prediction.astype(dtype), truth.astype(dtype))
    from_torch.update(torch.from_numpy(prediction.astype(dtype)), torch.from_numpy(truth.astype(dtype)))
    assert from_numpy.counts.tolist() == from_torch.counts.tolist() == expected


def test_merged_parts_equal_the_whole() -> None:
    prediction, truth = example(0)
    whole, merged = ConfusionMatrix(4), ConfusionMatrix(4)
    whole.update(prediction, truth)
    for image in range(3):
        part = ConfusionMatrix(4)
        part.update(prediction[image], truth[image])
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert torch.equal(merged.counts, whole.counts)
    with pytest.raises(ValueError, match="5 classes does not merge into one of 4"):
        merged.merge(ConfusionMatrix(5))


def test_a_class_that_is_only_predicted_counts_as_0() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 1]), np.array([0, 0]))
    np.testing.assert_allclose(matrix.iou_per_class(), [0.5, 0, math.nan])
    assert matrix.mean_iou() == 0.25
    assert matrix.absent_classes() == (2,)


def test_predictions_of_one_class_are_told_from_the_matrix() -> None:
    matrix = ConfusionMatrix(3)
    assert matrix.only_prediction() is None and tag_of(matrix.only_prediction(), "abc", 5) == {ONE_CLASS: "no"}
    # What is predicted where nothing counts is not looked at.
    matrix.update(torch.tensor([1, 1, 1, 2]), torch.tensor([0, 1, 0, 255]))
    assert matrix.only_prediction() == 1
    tags = tag_of(matrix.only_prediction(), ["sky", "a: b", "pole"], 5)
    assert class_of(tags) == "a: b" and phrase([class_of(tags)]) == "predicts one class (a: b) everywhere"
    matrix.update(torch.tensor([2]), torch.tensor([1]))
    assert matrix.only_prediction() is None and class_of(tag_of(matrix.only_prediction(), "abc", 5)) == ""
    single = ConfusionMatrix(1)
    single.update(torch.tensor([0]), torch.tensor([0]))
    assert single.only_prediction() is None, "there is no other class to predict"


@pytest.mark.parametrize("ignored_only", [False, True])
def test_empty_matrix_scores_nan(ignored_only: bool) -> None:
    matrix = ConfusionMatrix(3)
    if ignored_only:
        matrix.update(np.array([[7, 1]]), np.array([[255, 255]]))
    assert math.isnan(matrix.mean_iou()) and math.isnan(matrix.micro_iou()) and math.isnan(matrix.pixel_accuracy())
    assert matrix.iou_per_class().isnan().all()
    assert matrix.absent_classes() == (0, 1, 2)


def test_ignore_index_is_a_setting() -> None:
    matrix = ConfusionMatrix(3, ignore_index=0)
    matrix.update(np.array([1, 1, 2]), np.array([0, 1, 1]))
    assert matrix.counts.tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_refuses_what_it_cannot_count_and_counts_nothing_then() -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"prediction of shape \(2, 3\) for a truth of shape \(3, 2\)"):
        matrix.update(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match=r"truth holds -1, 3 in 2 pixels: expected 0..2 or 255"):
        matrix.update(np.zeros(3, int), np.array([3, 0, -1]))
    with pytest.raises(ValueError, match=r"prediction holds 255 in 1 pixels: expected 0..2$"):
        matrix.update(np.array([255, 1]), np.array([1, 1]))
    for wrong in (torch.zeros(2), np.zeros(2), torch.zeros(2, dtype=torch.bool)):
        with pytest.raises(TypeError, match=r"prediction of type .*expected integer labels"):
            matrix.update(wrong, np.zeros(2, int))
    with pytest.raises(ValueError, match="num_classes = 0"):
        ConfusionMatrix(0)
    assert matrix.counts.sum() == 0
