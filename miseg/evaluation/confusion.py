"""The confusion matrix of a data set and the scores that follow from it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX


class ConfusionMatrix:
    """Pixels counted by true and predicted class, over as many images as are handed in.

    Scores are over all pixels counted, never means of per-image scores. They are nan while nothing has been counted.

    Args:
        num_classes: K, at least 1.
        ignore_index: truth value of pixels that do not count; what was predicted there is not looked at.

    Attributes:
        counts: int64 [K, K] on the CPU, truth in rows and prediction in columns. Ranks sum them in place
            (`torch.distributed.all_reduce(matrix.counts)`, or through a copy on the device for NCCL).

    Raises:
        ValueError: num_classes below 1.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes = {num_classes}: use 1 or more")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> None:
        """Count the pixels of integer labels [N, H, W] (any equal shape will do), on any device.

        Raises:
            TypeError: labels that are no integers.
            ValueError: unequal shapes; or a value outside 0..K-1 other than an ignored truth. Nothing is counted then.
        """
        predicted, true = integers(prediction, "prediction"), integers(truth, "truth")
        if predicted.shape == true.shape:
            predicted, true = predicted.reshape(1, -1), true.reshape(1, -1)
        self.add(count_images(predicted, true, self.num_classes, self.ignore_index))

    def add(self, counts_NKK: Tensor) -> None:
        """Count images by their confusion matrices, int64 [N, K, K] with truth in rows."""
        self.counts += counts_NKK.sum(0).to(self.counts.device)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts to this one's. Raises ValueError where the number of classes differs."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"a matrix of {other.num_classes} classes does not merge into one of {self.num_classes}")
        self.counts += other.counts.to(self.counts.device)

    def iou_per_class(self) -> Tensor:
        """float64 [K] in 0..1: TP / (TP + FP + FN); nan for a class in neither truth nor prediction."""
        hits_K, unions_K = self._hits_and_unions()
        return hits_K.double() / unions_K.double()

    def absent_classes(self) -> tuple[int, ...]:
        """The classes that occur neither in truth nor prediction, which `mean_iou` leaves out."""
        return tuple((self._hits_and_unions()[1] == 0).nonzero().flatten().tolist())

    def only_prediction(self) -> int | None:
        """The class that every counted pixel is predicted as; None for several, of one class alone, and where empty."""
        predicted = self.counts.sum(0).nonzero().flatten().tolist()
        return predicted[0] if len(predicted) == 1 and self.num_classes > 1 else None

    def mean_iou(self) -> float:
        """Mean in 0..1 of the classes' IoU, without `absent_classes`; nan for an empty matrix."""
        return self.iou_per_class().nanmean().item()

    def worst_class_iou(self) -> float:
        """Lowest IoU of a class in 0..1, without `absent_classes`; nan for an empty matrix."""
        return self._lowest(1)

    def worst_quarter_iou(self) -> float:
        """Mean IoU in 0..1 of the quarter of the classes, rounded up, whose IoU is lowest; nan for an empty matrix.

        `absent_classes` are left out before the quarter is taken.
        """
        occurring = self.num_classes - len(self.absent_classes())
        return self._lowest(-(-occurring // 4))

    def micro_iou(self) -> float:
        """Sum of TP over sum of unions, 0..1; nan for an empty matrix."""
        hits_K, unions_K = self._hits_and_unions()
        return (hits_K.sum().double() / unions_K.sum()).item()

    def pixel_accuracy(self) -> float:
        """Share in 0..1 of counted pixels that are predicted right; nan for an empty matrix."""
        return (self.counts.diagonal().sum().double() / self.counts.sum()).item()

    def __repr__(self) -> str:
        return f"ConfusionMatrix({self.num_classes} classes, {self.counts.sum().item()} pixels)"

    def _hits_and_unions(self) -> tuple[Tensor, Tensor]:
        hits_K = self.counts.diagonal()
        return hits_K, self.counts.sum(0) + self.counts.sum(1) - hits_K

    def _lowest(self, number: int) -> float:
        iou_K = self.iou_per_class()
        return iou_K[~iou_K.isnan()].sort().values[:number].mean().item()


def count_images(
    prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Confusion matrices of single images, int64 [N, K, K] with truth in rows, on the labels' device.

    Args:
        prediction: integer labels [N, ...].
        truth: integer labels of the same shape, or the ignore index.
        num_classes: K.
        ignore_index: truth value of pixels that do not count; what was predicted there is not looked at.

    Raises:
        TypeError: labels that are no integers.
        ValueError: unequal shapes; or a value outside 0..K-1 other than an ignored truth.
    """
    predicted, true = integers(prediction, "prediction"), integers(truth, "truth")
    if predicted.shape != true.shape:
        raise ValueError(
            f"prediction of shape {tuple(predicted.shape)} for a truth of shape {tuple(true.shape)}: labels are "
            "needed, of equal shape (argmax over classes first)"
        )
    true = true.to(predicted.device)
    counted = true != ignore_index
    image = torch.arange(len(true), device=true.device).view(-1, *(1,) * (true.ndim - 1)).expand_as(true)[counted]
    predicted, true = predicted[counted], true[counted]
    _check_range(predicted, num_classes, "prediction")
    _check_range(true, num_classes, "truth", f" or {ignore_index} (ignored)")
    cells_of = (image * num_classes + true) * num_classes + predicted
    cells = torch.bincount(cells_of, minlength=len(counted) * num_classes**2)
    return cells.view(-1, num_classes, num_classes)


def _check_range(labels: Tensor, num_classes: int, name: str, also: str = "") -> None:
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if outside.numel():
        values = ", ".join(str(value) for value in outside.unique()[:8].tolist())
        raise ValueError(f"{name} holds {values} in {outside.numel()} pixels: expected 0..{num_classes - 1}{also}")


def integers(labels: Tensor | np.ndarray, name: str) -> Tensor:
    """The labels as int64, detached; TypeError, with `name`, where they are no integers."""
    if isinstance(labels, Tensor):
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"{name} of type {labels.dtype}: expected integer labels")
        return labels.detach().long()
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} of type {labels.dtype}: expected integer labels")
    return torch.from_numpy(labels.astype(np.int64))
