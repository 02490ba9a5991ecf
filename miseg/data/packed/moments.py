"""Mean and deviation of stored pixel values: of whole numbers from exact sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SMALLEST_DEVIATION = 1e-6
"""Deviation of a constant channel of float, in units of the full scale: the sidecar's last digit."""


class Moments:
    """Count, sum and sum of squares of each channel's stored values; of whole numbers exact, whatever their order.

    Sums are of Python's numbers: squares of 16 bits over two thousand megapixels would not fit into 64 bits.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.whole = True
        self.sums = np.zeros((2, channels), object)

    def add(self, pixels_NC: np.ndarray) -> None:
        """Counts these pixels in: uint8, uint16 or float32."""
        self.whole &= pixels_NC.dtype.kind != "f"
        values = pixels_NC.astype(np.int64 if self.whole else np.float64)
        self.count += len(values)
        self.sums += np.stack([values.sum(0), (values**2).sum(0)]).astype(object)


def scene_series(series: str) -> str:
    """The name of the whole scene's place, from the series of one of its chips."""
    return series.rpartition("/")[0] or series


def statistics(parts: Sequence[Moments], full_scale: int) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel over all parts, in units of the full scale."""
    count, sums = sum(part.count for part in parts), np.sum([part.sums for part in parts], 0).astype(np.float64)
    mean = sums[0] / count / full_scale
    variance = sums[1] / count / full_scale**2 - mean**2
    # A constant channel would be divided by 0; one step is the smallest deviation that whole numbers can show.
    smallest = 1 / full_scale if all(part.whole for part in parts) else SMALLEST_DEVIATION
    std = np.maximum(np.sqrt(np.maximum(variance, 0)), smallest)
    return [round(float(v), 6) for v in mean], [round(float(v), 6) for v in std]
