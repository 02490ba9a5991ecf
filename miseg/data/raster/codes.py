"""Codes of pixels in a raster, such as classes, cloud masks and quality bits, on the grid of a scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miseg.data.raster.alignment import check_alignable, same_crs, source_window, whole_shift
from miseg.data.raster.grid import Grid
from miseg.data.raster.rasters import grid_of, open_raster, read_stored


def read_codes(file: Path, area: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of a file's first band on `area` as they are stored, by nearest neighbour; its CRS may be another.

    Returns:
        int64 [h, w], 0 outside the file, and where the file is, bool [h, w].

    Raises:
        ValueError: the file cannot be read, or holds a number that is not whole; it has no CRS and another size than
            the area, or one without a CRS.
    """
    # Not at the top: images alone need no extra 'geo'.
    from rasterio.enums import Resampling
    from rasterio.transform import Affine
    from rasterio.vrt import WarpedVRT

    with open_raster(file) as source:
        own = grid_of(source)
        if (own.crs is None) != (area.crs is None):
            check_alignable(file, own, area)
        if own.crs is None or (same_crs(own.crs, str(area.crs)) and whole_shift(own, area) is not None):
            return _window_codes(file, own, area)
        # Without a tolerance each pixel is looked up where it lies. Its nodata value is a number like others here.
        with WarpedVRT(
            source,
            crs=area.crs,
            transform=Affine(*area.transform),
            height=area.height,
            width=area.width,
            resampling=Resampling.nearest,
            tolerance=0,
            src_nodata=None,
            add_alpha=True,
        ) as aligned:
            values, covered = aligned.read(1), aligned.read(aligned.count) > 0
    return _whole(file, values, covered), covered


def _window_codes(file: Path, own: Grid, area: Grid) -> tuple[np.ndarray, np.ndarray]:
    shift = whole_shift(own, area) or (0, 0)
    result, covered = np.zeros((area.height, area.width), np.int64), np.zeros((area.height, area.width), bool)
    row, column, height, width = source_window(own, area)
    if min(height, width) < 1:
        return result, covered
    there = slice(row - shift[0], row - shift[0] + height), slice(column - shift[1], column - shift[1] + width)
    values = read_stored(file, (row, column, height, width))[..., 0]
    covered[there] = True if values.dtype.kind != "f" else ~np.isnan(values)
    result[there] = _whole(file, values, covered[there])
    return result, covered


def _whole(file: Path, values: np.ndarray, covered: np.ndarray) -> np.ndarray:
    numbers = np.where(covered, values, 0)
    if values.dtype.kind == "f" and (wrong := numbers[numbers != np.floor(numbers)]).size:
        raise ValueError(f"{file}: {wrong[0]:g} is no class number: save whole numbers")
    return numbers.astype(np.int64)
