"""Raster files, read by window, brought onto one grid where they lie a little apart."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from miseg.data.raster.grid import Grid, Window
from miseg.extras import require

# Rasterio takes most of a second to import; data sets of plain pictures do without it.
if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_SATURATED = 2**16 - 1
_SAME = 1e-3
"""Part of a pixel below which two grids count as one."""


FORMATS = {
    b"II*\x00": "GTiff",
    b"MM\x00*": "GTiff",
    b"II+\x00": "GTiff",
    b"MM\x00+": "GTiff",
    b"\x00\x00\x00\x0cjP": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
"""First bytes of the files that are read, and GDAL's name of the format. It knows others, told by content and not by
name, that stand for files elsewhere on the machine (VRT) or on the net (WMS): a stranger's scene must not be one."""


@contextmanager
def open_raster(path: Path) -> Iterator[DatasetReader]:
    """The file, open for reading; what fails while it is open is reported in the same way.

    Raises:
        ValueError: it is missing, no raster, truncated or damaged.
    """
    require("geo", "reading a raster", "rasterio")
    # Not at the top: images alone need no extra 'geo'.
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    # GDAL's fast path for whole PNGs returns a truncated one's garbage without an error.
    with errors_naming(path), rasterio.Env(GDAL_PNG_WHOLE_IMAGE_OPTIM="NO"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path, driver=_format(path))
        with source:
            yield source


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Turn GDAL's errors in the block into a ValueError that names the file."""
    from rasterio._err import CPLE_BaseError  # what GDAL raises where rasterio has no error of its own
    from rasterio.errors import RasterioError

    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise ValueError(f"{path}: no raster, truncated or damaged ({reason}): copy or export it again") from None


def _format(path: Path) -> str:
    with path.open("rb") as file:
        first = file.read(8)
    driver = next((name for mark, name in FORMATS.items() if first.startswith(mark)), None)
    if driver is None:
        raise ValueError(
            f"{path}: no raster, truncated or damaged (no GeoTIFF, JPEG 2000, PNG or JPEG): export it again"
        )
    return driver


def grid_of(source: DatasetReader) -> Grid:
    """The grid of an open file."""
    a, b, c, d, e, f = source.transform[:6]
    crs = source.crs.to_string() if source.crs else None
    return Grid(source.height, source.width, crs, (a, b, c, d, e, f) if crs else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))


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
    if (own.crs is None) != (grid.crs is None) or (own.crs is not None and not _same_crs(own.crs, str(grid.crs))):
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
    top, left, bottom, right = _extent(own, grid)
    if min(bottom, own.height) <= max(top, 0) or min(right, own.width) <= max(left, 0):
        raise ValueError(f"{file}: it does not overlap the other files' area: leave it out")


def read_bands(bands: Sequence[tuple[Path, int]], area: Grid, *, nearest: bool = False) -> np.ndarray:
    """The stored values of `bands` (file, number from 1) on `area`; only the part that it needs is read from disk.

    A pixel is missing where all bands of one file grid hold the nodata value (0 where the file names none), where any
    is NaN, or where 16 unsigned bits are saturated (65535). A file whose pixels lie a fraction of a pixel beside the
    area's is interpolated bilinearly without its missing pixels, or by nearest neighbour.

    Returns:
        float32 [C, h, w], NaN where a pixel is missing or outside its file.

    Raises:
        ValueError: a file cannot be read, or lacks the band.
    """
    result = np.full((len(bands), area.height, area.width), np.nan, np.float32)
    for own, indices in _by_grid(bands).items():
        row, column, height, width = _source_window(own, area)
        if min(height, width) < 1:
            continue
        stored = np.empty((len(indices), height, width), np.float32)
        missing = np.ones((height, width), bool)
        unusable = np.zeros((height, width), bool)
        for file in dict.fromkeys(bands[index][0] for index in indices):
            planes = [plane for plane, index in enumerate(indices) if bands[index][0] == file]
            numbers = [bands[indices[plane]][1] for plane in planes]
            values, nodata = _read(file, numbers, (row, column, height, width))
            stored[planes] = values
            missing &= (values == (0 if nodata is None else nodata)).all(0)
            unusable |= (np.isnan(values) | ((values == _SATURATED) & (values.dtype == np.uint16))).any(0)
        stored[:, missing | unusable] = np.nan
        result[indices] = _aligned(stored, own.part((row, column, height, width)), area, nearest)
    return result


def read_stored(file: Path, window: Window) -> np.ndarray:
    """All bands of a window as they are stored, [h, w, C].

    Raises:
        ValueError: the file cannot be read.
    """
    # Not at the top: images alone need no extra 'geo'.
    from rasterio import windows

    row, column, height, width = window
    with open_raster(file) as source:
        return np.ascontiguousarray(source.read(window=windows.Window(column, row, width, height)).transpose(1, 2, 0))


def _by_grid(bands: Sequence[tuple[Path, int]]) -> dict[Grid, list[int]]:
    grids: dict[Path, Grid] = {}
    groups: dict[Grid, list[int]] = {}
    for index, (file, number) in enumerate(bands):
        if file not in grids:
            with open_raster(file) as source:
                grids[file], count = grid_of(source), source.count
            if number > count:
                raise ValueError(f"{file}: {count} bands, band {number} was asked for: give the file that was opened")
        groups.setdefault(grids[file], []).append(index)
    return groups


def _read(file: Path, numbers: list[int], window: Window) -> tuple[np.ndarray, float | None]:
    # Not at the top: images alone need no extra 'geo'.
    from rasterio import windows

    row, column, height, width = window
    with open_raster(file) as source:
        return source.read(numbers, window=windows.Window(column, row, width, height)), source.nodata


def _same_crs(first: str, second: str) -> bool:
    # Not at the top: images alone need no extra 'geo'.
    from rasterio.crs import CRS

    return first == second or CRS.from_string(first) == CRS.from_string(second)


def _extent(own: Grid, area: Grid) -> tuple[float, float, float, float]:
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


def _shift(own: Grid, area: Grid) -> tuple[int, int] | None:
    """Whole pixels (rows, columns) from the first pixel of `own` to that of `area`; None where it takes more."""
    if not np.allclose(np.take(own.transform, (0, 1, 3, 4)), np.take(area.transform, (0, 1, 3, 4)), rtol=1e-9, atol=0):
        return None
    top, left, _, _ = _extent(own, area)
    return (round(top), round(left)) if max(abs(top - round(top)), abs(left - round(left))) < _SAME else None


def _source_window(own: Grid, area: Grid) -> Window:
    """Row, column, height and width of the pixels of `own` that the area is made from; 0 pixels outside."""
    shift = _shift(own, area)
    if shift is not None:
        top, left, bottom, right = *shift, shift[0] + area.height, shift[1] + area.width
    else:
        extent = _extent(own, area)
        # Interpolation reaches one pixel further.
        top, left, bottom, right = (*(math.floor(v) - 2 for v in extent[:2]), *(math.ceil(v) + 2 for v in extent[2:]))
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, own.height), min(right, own.width)
    return top, left, bottom - top, right - left


def _aligned(stored: np.ndarray, own: Grid, area: Grid, nearest: bool) -> np.ndarray:
    result = np.full((len(stored), area.height, area.width), np.nan, np.float32)
    shift = _shift(own, area)
    if shift is not None:
        row, column = -shift[0], -shift[1]
        result[:, row : row + own.height, column : column + own.width] = stored
        return result
    # Not at the top: images alone need no extra 'geo'.
    from rasterio.transform import Affine
    from rasterio.warp import Resampling, reproject

    # Arrays, not a WarpedVRT of the file: GDAL takes a fourth band that is marked as alpha, as the near infrared of
    # aerial images often is, for the mask of the other three.
    reproject(
        stored,
        result,
        src_transform=Affine(*own.transform),
        dst_transform=Affine(*area.transform),
        src_crs=own.crs,
        dst_crs=own.crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.nearest if nearest else Resampling.bilinear,
    )
    return result
