"""Codes of pixels in a raster, such as classes, cloud masks and quality bits, on the grid of a scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miseg.data.raster.alignment import check_alignable, same_crs
from miseg.data.raster.grid import Grid
from miseg.data.raster.rasters import grid_of, open_raster, read_stored

TIE = 1e-6
"""Part of a pixel by which a border is taken to lie nearer."""


def read_codes(file: Path, area: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of a file's first band on `area` as they are stored, by nearest neighbour; its CRS may be another.

    Each pixel has the number of the file's pixel in which its middle lies.

    Returns:
        int64 [h, w], 0 outside the file, and where the file is, bool [h, w].

    Raises:
        ValueError: the file cannot be read, or holds a number that is not whole; one of it and the area has a CRS.
    """
    with open_raster(file) as source:
        own = grid_of(source)
    if (own.crs is None) != (area.crs is None):
        check_alignable(file, own, area)
    rows, columns = _places(own, area)
    covered = (rows >= 0) & (rows < own.height) & (columns >= 0) & (columns < own.width)
    result = np.zeros(covered.shape, np.int64)
    if not covered.any():
        return result, covered
    rows, columns = rows[covered], columns[covered]
    top, left = int(rows.min()), int(columns.min())
    window = (top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1)
    values = read_stored(file, window)[..., 0][rows - top, columns - left]
    if values.dtype.kind == "f":
        numbers = ~np.isnan(values)
        covered[covered], values = numbers, values[numbers]
        if (wrong := values[values != np.floor(values)]).size:
            raise ValueError(f"{file}: {wrong[0]:g} is no class number: save whole numbers")
    result[covered] = values
    return result, covered


def _places(own: Grid, area: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the pixel of `own` in which the middle of each pixel of the area lies, int64 [h, w] each."""
    # Not at the top: images alone need no extra 'geo'.
    from rasterio.warp import transform

    columns, rows = np.meshgrid(np.arange(area.width) + 0.5, np.arange(area.height) + 0.5)
    a, b, c, d, e, f = area.transform
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    if own.crs is not None and not same_crs(own.crs, str(area.crs)):
        moved = transform(area.crs, own.crs, x.ravel(), y.ravel())
        x, y = (np.asarray(values).reshape(rows.shape) for values in moved)
    a, b, c, d, e, f = own.transform
    determinant = a * e - b * d
    places = (a * (y - f) - d * (x - c)) / determinant, (e * (x - c) - b * (y - f)) / determinant
    # A middle on the border of two pixels, as of finer files, is in the second, whatever the last digit says.
    row, column = (
        np.floor(np.nan_to_num(place, nan=-1, posinf=-1, neginf=-1) + TIE).astype(np.int64) for place in places
    )
    return row, column
