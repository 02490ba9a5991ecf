"""Splits of a series by place: what a pixel shows at any date is in one split alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping

import numpy as np

from miseg.data.folders.names.splits import draw_splits
from miseg.data.packed.chips import CHIP
from miseg.data.raster.grid import Grid, Window

BLOCKS = 20
"""Chips of a scene from which whole chips are drawn into splits; a smaller scene is cut into strips."""
NARROWEST = 16
"""Pixels of a strip's width, at least."""

Areas = dict[str, tuple[Window, ...]]
"""By split, windows of the grid; no pixel is in two."""


def divide(
    grid: Grid, shares: Mapping[str, float], seed: int, shown: Callable[[Window], frozenset[int]] | None = None
) -> tuple[Areas, str]:
    """The area of each split, and a sentence on how it was drawn, which is empty for a single split.

    A scene of 20 chips or more is divided by chips, drawn by `seed` so that each class has its share in each split; a
    smaller one into strips along its longer side, in the splits' order, or for another seed than 0 in a drawn order.

    Args:
        grid: the series' pixels.
        shares: of each split, above 0; they add up to 1.
        seed: which draw.
        shown: classes that a window's labels show.

    Raises:
        ValueError: a strip of less than 16 pixels.
    """
    if len(shares) == 1:
        return {next(iter(shares)): ((0, 0, grid.height, grid.width),)}, ""
    windows = {f"r{row:05d}-c{column:05d}": (row, column, tall, wide) for row, column, tall, wide in grid.windows(CHIP)}
    shares_text = " ".join(f"{share:g}" for share in shares.values())
    if len(windows) >= BLOCKS:
        classes = {} if shown is None else {name: shown(window) for name, window in windows.items()}
        drawn = draw_splits({name: [name] for name in windows}, classes, shares, seed)
        areas = {split: tuple(windows[name] for name in windows if drawn[name] == split) for split in shares}
        counts = ", ".join(f"{split} {len(areas[split])}" for split in shares)
        return areas, f"splits drawn by place with seed {seed} ({shares_text}): {counts} of {len(windows)} chips"
    order = list(shares)
    if seed:
        random.Random(seed).shuffle(order)
    wide = grid.width >= grid.height
    length = grid.width if wide else grid.height
    ends = np.rint(np.cumsum([0.0, *(shares[split] for split in order)]) * length).astype(int).tolist()
    strips = dict(zip(order, itertools.pairwise(ends), strict=True))
    if min(end - start for start, end in strips.values()) < NARROWEST:
        narrow = min(strips, key=lambda split: strips[split][1] - strips[split][0])
        raise ValueError(
            f"--split {shares_text}: {narrow} would be {strips[narrow][1] - strips[narrow][0]} pixels of {length}, and "
            f"{NARROWEST} are the fewest: give it more, or fewer splits, such as --split 0.7 0.3"
        )
    areas = {
        split: ((0, start, grid.height, end - start) if wide else (start, 0, end - start, grid.width),)
        for split, (start, end) in strips.items()
    }
    sides = "from left to right" if wide else "from top to bottom"
    counts = ", ".join(f"{split} {strips[split][1] - strips[split][0]}" for split in order)
    what = "columns" if wide else "rows"
    return {split: areas[split] for split in shares}, f"splits by place, {sides} ({shares_text}): {what} {counts}"
