"""A data set that is drawn: a bright disc on a dark ground."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from miseg.data.checks import encode_png
from miseg.data.samples import DataSetInfo, Sample

COUNTS = {"train": 8, "val": 4}


class Discs:
    """Images of 32 x 32 pixels with a mask of two classes, in splits of `COUNTS`."""

    info = DataSetInfo("discs", ("ground", "disc"), ((0, 0, 0), (255, 255, 255)))

    def available(self) -> tuple[str, ...]:
        """Both splits."""
        return tuple(COUNTS)

    def samples(self, split: str) -> Iterator[Sample]:
        """The split's images and masks as PNG."""
        rows, columns = np.mgrid[:32, :32]
        for number in range(COUNTS[split]):
            generator = np.random.default_rng([list(COUNTS).index(split), number])
            row, column = generator.integers(8, 24, 2)
            mask = ((rows - row) ** 2 + (columns - column) ** 2 < 49).astype(np.uint8)
            grey = (60 + 120 * mask + generator.normal(0, 10, mask.shape)).clip(0, 255).astype(np.uint8)
            yield Sample(f"{split}/{number}", split, encode_png(np.repeat(grey[..., None], 3, 2)), encode_png(mask))


def opened(root: Path | None) -> Discs:
    """The data set; it is drawn, so it has no root."""
    if root is not None:
        raise ValueError(f"root = {root}: discs are drawn by the program; leave the root out")
    return Discs()
