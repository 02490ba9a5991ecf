"""The place of one grid on another: whether it can be read there, and which of its pixels that takes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from miseg.data.raster.grid import Grid, Window

SAME = 1e-3
"""Part of a pixel below which two grids count as one."""


def check_alignable(file: Path, own: Grid, grid: Grid, resample: bool = False) -> None:
    """Refuses a `file` on the grid `own` that cannot be read on `grid`.

    Args:
        file: what the message names.
        own: the file's grid.
        grid: where it is to be read.
        resample: whether another pixel size is accepted.

    Raises:
        ValueError: another CRS, another pixel size, no overlap, or other pixels where neither has a CRS.
    """
    if (own.crs is None) != (grid.crs is None) or (own.crs is not None and not same_crs(own.crs, str(grid.crs))):
        raise ValueError(
            f"{file}: its CRS is {own.crs or 'missing'}, that of the other files {grid.crs or 'missing'}: "
            "bring all to one with gdalwarp -t_srs"
        )
    if own.crs is None and (own.height, own.width) != (grid.height, grid.width):
        raise ValueError(
            f"{file}: {own.height} x {own.width} pixels, the other files have {grid.height} x {grid.width}, and "
            "without a georeference they cannot be aligned: cut them to one size or add georeferences"
        )
    sizes = [math.sqrt(abs(a * e - b * d)) for a, b, _, d, e, _ in (own.transform, grid.transform)]
    if not resample and abs(sizes[0] / sizes[1] - 1) > 0.01:
        raise ValueError(
            f"{file}: pixels of {sizes[0]:g} beside pixels of {sizes[1]:g} in the other files (units of the CRS): use "
            "files of one resolution, or ask for resampling (resample=True)"
        )
    top, left, bottom, right = extent_in(own, grid)
    if min(bottom, own.height) <= max(top, 0) or min(right, own.width) <= max(left, 0):
        raise ValueError(f"{file}: it does not overlap the other files' area: leave it out")


def same_crs(first: str, second: str) -> bool:
    # Not at the top: images alone need no extra 'geo'.
    from rasterio.crs import CRS

    return first == second or CRS.from_string(first) == CRS.from_string(second)


def extent_in(own: Grid, area: Grid) -> tuple[float, float, float, float]:
    """Top, left, bottom and right of the area in pixels of `own`."""
    a, b, c, d, e, f = area.transform
    corners = [
        (a * column + b * row + c, d * column + e * row + f) for column in (0, area.width) for row in (0, area.height)
    ]
    a, b, c, d, e, f = own.transform
    determinant = a * e - b * d
    rows = [(a * (y - f) - d * (x - c)) / determinant for x, y in corners]
    columns = [(e * (x - c) - b * (y - f)) / determinant for x, y in corners]
    return min(rows), min(columns), max(rows), max(columns)


def whole_shift(own: Grid, area: Grid) -> tuple[int, int] | None:
    """Whole pixels (rows, columns) from the first pixel of `own` to that of `area`; None where it takes more."""
    if not np.allclose(np.take(own.transform, (0, 1, 3, 4)), np.take(area.transform, (0, 1, 3, 4)), rtol=1e-9, atol=0):
        return None
    top, left, _, _ = extent_in(own, area)
    return (round(top), round(left)) if max(abs(top - round(top)), abs(left - round(left))) < SAME else None


def source_window(own: Grid, area: Grid) -> Window:
    """Row, column, height and width of the pixels of `own` that the area is made from; 0 pixels outside."""
    shift = whole_shift(own, area)
    if shift is not None:
        top, left, bottom, right = *shift, shift[0] + area.height, shift[1] + area.width
    else:
        extent = extent_in(own, area)
        # Interpolation reaches one pixel further.
        top, left, bottom, right = (*(math.floor(v) - 2 for v in extent[:2]), *(math.ceil(v) + 2 for v in extent[2:]))
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, own.height), min(right, own.width)
    return top, left, bottom - top, right - left
