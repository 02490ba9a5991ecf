"""Mean and deviation of stored pixel values, from integer sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Moments:
    """Count, sum and sum of squares of each channel's stored values; integers, so that order changes nothing."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sums = np.zeros((2, channels), np.int64)

    def add(self, pixels_NC: np.ndarray) -> None:
        """Counts these pixels in."""
        values = pixels_NC.astype(np.int64)
        self.count += len(values)
        self.sums += np.stack([values.sum(0), (values**2).sum(0)])


def scene_series(series: str) -> str:
    """The name of the whole scene's place, from the series of one of its chips."""
    return series.rpartition("/")[0] or series


def statistics(parts: Sequence[Moments], full_scale: int) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel over all parts, in units of the full scale."""
    count, sums = sum(part.count for part in parts), np.sum([part.sums for part in parts], 0)
    mean = sums[0] / count / full_scale
    variance = sums[1] / count / full_scale**2 - mean**2
    # A constant channel would be divided by 0; one step is the smallest deviation that stored values can show.
    std = np.maximum(np.sqrt(np.maximum(variance, 0)), 1 / full_scale)
    return [round(float(v), 6) for v in mean], [round(float(v), 6) for v in std]
