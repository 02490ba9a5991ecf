"""Raster files, read by window, brought onto one grid where they lie a little apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from miseg.data.raster.alignment import source_window, whole_shift
from miseg.data.raster.grid import Grid, Window
from miseg.extras import require

# Rasterio takes most of a second to import; data sets of plain pictures do without it.
if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_SATURATED = 2**16 - 1


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


def read_bands(bands: Sequence[tuple[Path, int]], area: Grid, *, nearest: bool = False) -> np.ndarray:
    """The stored values of `bands` (file, number from 1) on `area`; only the part that it needs is read from disk.

    A pixel is missing where all bands of one file grid hold the nodata value (0 where the file names none), where the
    file's own mask says so, where any band is NaN or infinite or, signed or of float, holds a nodata value that the
    file names and that is not 0, or where 16 unsigned bits are saturated (65535). A file whose pixels lie a fraction of
    a pixel beside the area's is interpolated bilinearly without its missing pixels, or by nearest neighbour.

    Returns:
        float32 [C, h, w], NaN where a pixel is missing or outside its file.

    Raises:
        ValueError: a file cannot be read, or lacks the band.
    """
    result = np.full((len(bands), area.height, area.width), np.nan, np.float32)
    for own, indices in _by_grid(bands).items():
        row, column, height, width = source_window(own, area)
        if min(height, width) < 1:
            continue
        stored = np.empty((len(indices), height, width), np.float32)
        missing = np.ones((height, width), bool)
        unusable = np.zeros((height, width), bool)
        for file in dict.fromkeys(bands[index][0] for index in indices):
            planes = [plane for plane, index in enumerate(indices) if bands[index][0] == file]
            numbers = [bands[indices[plane]][1] for plane in planes]
            values, nodata, masked = _read(file, numbers, (row, column, height, width))
            stored[planes] = values
            missing &= (values == (0 if nodata is None else nodata)).all(0)
            unusable |= (~np.isfinite(values) | ((values == _SATURATED) & (values.dtype == np.uint16))).any(0) | masked
            if nodata and values.dtype.kind in "if":
                # Such as -9999: in one band alone it is no measurement either.
                unusable |= (values == nodata).any(0)
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


def _read(file: Path, numbers: list[int], window: Window) -> tuple[np.ndarray, float | None, np.ndarray]:
    """Bands [C, h, w] of a window, the nodata value, and where the file's own mask says that there is no data."""
    # Not at the top: images alone need no extra 'geo'.
    from rasterio import windows
    from rasterio.enums import MaskFlags

    row, column, height, width = window
    part = windows.Window(column, row, width, height)
    with open_raster(file) as source:
        values = source.read(numbers, window=part)
        # A band marked as alpha is none: the near infrared of aerial images often is.
        flags = source.mask_flag_enums[0]
        own = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        masked = source.read_masks(1, window=part) == 0 if own else np.zeros((height, width), bool)
        return values, source.nodata, masked


def _aligned(stored: np.ndarray, own: Grid, area: Grid, nearest: bool) -> np.ndarray:
    result = np.full((len(stored), area.height, area.width), np.nan, np.float32)
    shift = whole_shift(own, area)
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
