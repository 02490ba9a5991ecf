"""Centerline Dice (clDice): whether thin structures are found along their length, and connected.

Shit, Paetzold, Sekuboyina, Ezhov, Unger, Zhylka, Pluim, Bauer and Menze: clDice, a Novel Topology-Preserving Loss
Function for Tubular Structure Segmentation, CVPR 2021 (arXiv:2003.07311), equations 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from miseg.evaluation.confusion import integers
from miseg.extras import require
from miseg.interface import IGNORE_INDEX


class CenterlineDice:
    """Skeletons of thin classes inside the other's mask, summed over images.

    Topology precision is the share of the prediction's skeleton that lies in the true mask, topology sensitivity that
    of the truth's skeleton in the predicted mask; clDice is their harmonic mean, 0..1. Skeletons are those of Zhang and
    Suen (Communications of the ACM 27, 1984), one pixel wide, which the authors' metric takes; the soft skeleton is for
    losses. It says something of classes that are thin everywhere, such as vessels, roads and poles; a skeleton of sky
    means nothing. Ignored pixels belong to no class in truth and prediction alike.

    Papers average clDice over images; here the four sums are over all images, as for IoU.

    Args:
        classes: the thin classes, by their numbers.
        ignore_index: truth value of pixels that do not count.

    Attributes:
        sums: int64 [T, 4] on the CPU for T classes: pixels of the prediction's skeleton in the true mask, of the
            prediction's skeleton, of the truth's skeleton in the predicted mask, of the truth's skeleton. Ranks sum
            them.

    Raises:
        ValueError: no class, or one twice.
        MissingExtraError: scikit-image is not installed.
    """

    def __init__(self, classes: Sequence[int], ignore_index: int = IGNORE_INDEX) -> None:
        if not classes or len(set(classes)) < len(classes) or min(classes) < 0:
            raise ValueError(f"classes = {tuple(classes)}: name each thin class once, by its number")
        require("cldice", "clDice, which takes skeletons,", "skimage")
        self.classes, self.ignore_index = tuple(classes), ignore_index
        self.sums = torch.zeros(len(classes), 4, dtype=torch.int64)

    def update(self, prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> None:
        """Count the skeletons of integer labels [N, H, W]; they are computed on the CPU.

        Raises:
            TypeError: labels that are no integers.
            ValueError: unequal shapes, or other than three axes.
        """
        # Here alone: it takes half a second to import.
        from skimage.morphology import skeletonize

        predicted_NHW, true_NHW = integers(prediction, "prediction"), integers(truth, "truth")
        if predicted_NHW.shape != true_NHW.shape or true_NHW.ndim != 3:
            raise ValueError(
                f"prediction of shape {tuple(predicted_NHW.shape)} for a truth of shape {tuple(true_NHW.shape)}: "
                "labels [N, H, W] of equal shape are needed"
            )
        for predicted_HW, true_HW in zip(predicted_NHW.cpu().numpy(), true_NHW.cpu().numpy(), strict=True):
            counted_HW = true_HW != self.ignore_index
            for number, label in enumerate(self.classes):
                masks = (predicted_HW == label) & counted_HW, (true_HW == label) & counted_HW
                skeletons = [skeletonize(mask) if mask.any() else mask for mask in masks]
                parts = skeletons[0] & masks[1], skeletons[0], skeletons[1] & masks[0], skeletons[1]
                self.sums[number] += torch.tensor([int(part.sum()) for part in parts])

    def merge(self, other: CenterlineDice) -> None:
        """Add another's sums to these. Raises ValueError where the classes differ."""
        if other.classes != self.classes:
            raise ValueError(f"skeletons of the classes {other.classes} do not merge into those of {self.classes}")
        self.sums += other.sums

    def dice_per_class(self) -> list[float]:
        """clDice in 0..1 in the order of `classes`; nan for a class in neither truth nor prediction, 0 for one in one
        of them alone."""
        return [_dice(*sums) for sums in self.sums.tolist()]

    def mean(self) -> float:
        """Mean over the classes that occur, in 0..1; nan where none does."""
        values = [value for value in self.dice_per_class() if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan


def _dice(predicted_inside: int, predicted: int, true_inside: int, true: int) -> float:
    if not predicted and not true:
        return math.nan
    if not predicted_inside or not true_inside:
        return 0.0
    precision, sensitivity = predicted_inside / predicted, true_inside / true
    return 2 * precision * sensitivity / (precision + sensitivity)
