"""Boundary IoU over a data set: how well outlines are met, which areas hide.

Cheng, Girshick, Dollár, Berg and Kirillov: Boundary IoU, CVPR 2021 (arXiv:2103.16562), equation 4, for semantic masks.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from miseg.interface import IGNORE_INDEX

RATIO = 0.02
"""Width of the band along an outline as a share of the image's diagonal: the paper's for whole images."""


class BoundaryIoU:
    """Intersection and union, by class, of the bands along true and predicted outlines, summed over images.

    A class's band is those of its pixels that lie within d pixels (chessboard distance) of another class or of the
    image's edge; d = max(1, round(ratio · diagonal)). Ignored pixels belong to no class in truth and prediction alike.

    Args:
        num_classes: K, at least 1.
        ignore_index: truth value of pixels that do not count.
        ratio: of the band's width to the image's diagonal, above 0.

    Attributes:
        intersections: int64 [K] on the CPU.
        unions: int64 [K] on the CPU.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX, ratio: float = RATIO) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes = {num_classes}: use 1 or more")
        if not 0 < ratio < 1:
            raise ValueError(f"ratio = {ratio}: it lies between 0 and 1; the paper uses 0.02")
        self.num_classes, self.ignore_index, self.ratio = num_classes, ignore_index, ratio
        self.intersections = torch.zeros(num_classes, dtype=torch.int64)
        self.unions = torch.zeros(num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> None:
        """Count the bands of integer labels [N, H, W], on any device.

        Raises:
            ValueError: unequal shapes, or other than three axes.
        """
        predicted_NHW, true_NHW = torch.as_tensor(prediction), torch.as_tensor(truth)
        if predicted_NHW.shape != true_NHW.shape or true_NHW.ndim != 3:
            raise ValueError(
                f"prediction of shape {tuple(predicted_NHW.shape)} for a truth of shape {tuple(true_NHW.shape)}: "
                "labels [N, H, W] of equal shape are needed"
            )
        true_NHW = true_NHW.to(predicted_NHW.device)
        predicted_NHW = torch.where(true_NHW == self.ignore_index, self.ignore_index, predicted_NHW)
        height, width = true_NHW.shape[1:]
        distance = max(1, round(self.ratio * math.hypot(height, width)))
        for label in range(self.num_classes):
            bands = [_band(labels_NHW == label, distance) for labels_NHW in (true_NHW, predicted_NHW)]
            self.intersections[label] += (bands[0] & bands[1]).sum().cpu()
            self.unions[label] += (bands[0] | bands[1]).sum().cpu()

    def merge(self, other: BoundaryIoU) -> None:
        """Add another's counts to these. Raises ValueError where classes or ratio differ."""
        if (other.num_classes, other.ratio) != (self.num_classes, self.ratio):
            raise ValueError(
                f"{other.num_classes} classes at ratio {other.ratio} do not merge into "
                f"{self.num_classes} at {self.ratio}"
            )
        self.intersections += other.intersections
        self.unions += other.unions

    def iou_per_class(self) -> Tensor:
        """float64 [K] in 0..1; nan for a class in neither truth nor prediction."""
        return self.intersections.double() / self.unions.double()

    def mean(self) -> float:
        """Mean over the classes that occur, in 0..1; nan while nothing has been counted."""
        return self.iou_per_class().nanmean().item()


def _band(mask_NHW: Tensor, distance: int) -> Tensor:
    """The mask's pixels within `distance` (chessboard) of a pixel outside it; outside the image is outside the mask."""
    outside_N1HW = F.pad((~mask_NHW).unsqueeze(1).float(), (distance,) * 4, value=1.0)
    # A square window's maximum, rows and columns apart.
    near_N1HW = F.max_pool2d(F.max_pool2d(outside_N1HW, (2 * distance + 1, 1), 1), (1, 2 * distance + 1), 1)
    return mask_NHW & near_N1HW.squeeze(1).bool()
