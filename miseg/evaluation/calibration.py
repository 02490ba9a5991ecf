"""Expected calibration error: whether a network is right as often as its probabilities say.

Naeini, Cooper and Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015, in the form of
Guo, Pleiss, Sun and Weinberger: On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599), equation 3.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from miseg.evaluation.confusion import integers
from miseg.interface import IGNORE_INDEX

BINS = 15
"""Bins of equal width: Guo et al.'s number."""

TICKS = 2**24
"""Parts of 1 in which a confidence is counted: sums of integers are the same in any order. Float32 has no finer ones
above one half."""

SLACK = 1e-3
"""Excess over 1 that rounding and interpolation may give a probability."""


class CalibrationError:
    """Expected calibration error of the predicted class over a data set's pixels.

    A pixel's confidence is the probability of the class that is predicted there. Pixels are sorted by it into bins
    ((b − 1) / B, b / B], and the error is Σ_b n_b / n · |share predicted right − mean confidence|: 0..1, lower is
    better. Of methods of one sigmoid a class the confidence is that class's own, which need not be above 1 / K.

    Args:
        bins: B, at least 1.
        ignore_index: truth value of pixels that do not count.

    Attributes:
        sums: int64 [3, B] on the CPU: of each bin the pixels, those predicted right, and the confidences in parts of
            1/`TICKS`. Ranks sum them.
        undefined: int64, pixels whose confidence is NaN; with any the error is nan.

    Raises:
        ValueError: bins below 1.
    """

    def __init__(self, bins: int = BINS, ignore_index: int = IGNORE_INDEX) -> None:
        if bins < 1:
            raise ValueError(f"bins = {bins}: use 1 or more")
        self.bins, self.ignore_index = bins, ignore_index
        self.sums = torch.zeros(3, bins, dtype=torch.int64)
        self.undefined = torch.zeros((), dtype=torch.int64)

    def update(
        self, confidence: Tensor | np.ndarray, prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray
    ) -> None:
        """Count pixels of equal shape, on any device.

        Args:
            confidence: probability in 0..1 of the class that is predicted.
            prediction: integer labels.
            truth: integer labels, or the ignore index.

        Raises:
            TypeError: labels that are no integers.
            ValueError: unequal shapes, or a confidence outside 0..1. Nothing is counted then.
        """
        confidence = torch.as_tensor(confidence).detach()
        predicted, true = integers(prediction, "prediction"), integers(truth, "truth")
        if not confidence.shape == predicted.shape == true.shape:
            raise ValueError(
                f"confidence of shape {tuple(confidence.shape)} and prediction of shape {tuple(predicted.shape)} for a "
                f"truth of shape {tuple(true.shape)}: equal shapes are needed"
            )
        true = true.to(confidence.device)
        counted = true != self.ignore_index
        confidence = confidence[counted].float()
        right = predicted.to(confidence.device)[counted] == true[counted]
        defined = ~confidence.isnan()
        if not defined.all():
            confidence, right = confidence[defined], right[defined]
        if confidence.numel() and not (confidence.min() >= 0 and confidence.max() <= 1 + SLACK):
            raise ValueError(
                f"confidence holds {confidence.min().item():.4g}..{confidence.max().item():.4g}: expected 0..1; "
                "probabilities are needed, not logits"
            )
        ticks = (confidence.clamp_max(1) * TICKS).round()
        # ⌈confidence · B⌉ − 1, in whole numbers.
        bin_of = ((ticks.long() * self.bins - 1) // TICKS).clamp_min(0)
        hits = torch.bincount(2 * bin_of + right, minlength=2 * self.bins).view(self.bins, 2)
        # Whole numbers below 2^53 in all, so that their sum in double precision is exact.
        sums_B = torch.bincount(bin_of, ticks.double(), minlength=self.bins)
        self.sums += torch.stack([hits.sum(1), hits[:, 1], sums_B.long()]).to(self.sums.device)
        self.undefined += (~defined).sum().to(self.undefined.device)

    def merge(self, other: CalibrationError) -> None:
        """Add another's pixels to these. Raises ValueError where the number of bins differs."""
        if other.bins != self.bins:
            raise ValueError(f"{other.bins} bins do not merge into {self.bins}")
        self.sums += other.sums
        self.undefined += other.undefined

    def error(self) -> float:
        """The error in 0..1; nan while nothing has been counted, and where a confidence was NaN."""
        pixels_B, right_B, ticks_B = self.sums
        if self.undefined or not pixels_B.sum():
            return math.nan
        return ((right_B * TICKS - ticks_B).abs().sum().double() / TICKS / pixels_B.sum()).item()

    def table(self) -> list[tuple[float, float, int, float, float]]:
        """Of each bin: where it begins and ends, its pixels, their mean confidence and the share predicted right.

        Both are nan of an empty bin. It is what a reliability diagram shows.
        """
        rows = []
        for number, (pixels, right, ticks) in enumerate(self.sums.T.tolist()):
            confidence, accuracy = (ticks / TICKS / pixels, right / pixels) if pixels else (math.nan, math.nan)
            rows.append((number / self.bins, (number + 1) / self.bins, pixels, confidence, accuracy))
        return rows
