"""Images of any size, read by window, for the methods that learn from images; and at another size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from miseg.data.checks import BadFileError, check_image, tiff_orientation
from miseg.data.raster.grid import Grid, Window
from miseg.data.raster.rasters import errors_naming, grid_of, open_raster

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SMALL = 2**22
"""Pixels up to which PNG and JPEG files are read whole, as packing reads them; larger ones are read row by row."""


@dataclass(frozen=True)
class StoredPixels:
    """Type of the images that a model was trained on.

    Attributes:
        dtype: "uint8", "uint16" or "float32".
        nodata: value that all bands of a pixel without data hold, beside the file's own; None where there is none.
        fill: C stored values that stand where there is no data; none: what the file has there. Of 8 bits always that.
    """

    dtype: str = "uint8"
    nodata: int | None = None
    fill: tuple[float, ...] = ()


EIGHT_BITS = StoredPixels()
_TYPES = {
    "uint8": ("uint8",),
    "uint16": ("uint16",),
    "float32": ("float32", "float64", "int16", "int32", "uint32", "int8"),
}
"""Types of files that readers of own images pack as each type."""


class Picture(Protocol):
    """An open image.

    Attributes:
        grid: its pixels.
    """

    grid: Grid

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [h, w, C] of the model's type, and which have data, bool [h, w].

        Raises:
            ValueError: the file is truncated or damaged.
        """


@contextmanager
def open_picture(path: Path, channels: int, stored: StoredPixels = EIGHT_BITS) -> Iterator[Picture]:
    """The image of `channels` channels in a PNG, JPEG or TIFF file, with pixels as `stored` says.

    Small PNG and JPEG files are understood as packing understands them. Of others, which GDAL reads, grey becomes three
    equal channels, and a further channel that is marked as alpha says where there is data, as the file's own mask does
    and its nodata value, in all channels of a pixel or, signed or of float and not 0, in any.

    Raises:
        ValueError: no such file; no raster, truncated or damaged; of another type; another number of channels;
            a TIFF that is to be turned.
    """
    with open_raster(path) as source:
        grid = grid_of(source)
        if (
            stored == EIGHT_BITS
            and channels == 3
            and source.driver in ("PNG", "JPEG")
            and grid.height * grid.width <= SMALL
        ):
            try:
                yield _Whole(grid, check_image(path.read_bytes())[1])
            except BadFileError as error:
                raise ValueError(f"{path}: {error}") from None
            return
        _check(path, source, channels, stored)
        yield _Opened(path, source, grid, channels, stored)


class _Whole:
    """An image in memory."""

    def __init__(self, grid: Grid, pixels_HWC: np.ndarray) -> None:
        self.grid, self.pixels = grid, pixels_HWC

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        row, column, height, width = window
        part = self.pixels[row : row + height, column : column + width]
        return part, np.ones(part.shape[:2], bool)


class _Opened:
    """An image that stays in its file. GDAL keeps the rows that it read last, so that tiles beside each other, and the
    row of tiles below, do not begin again where a format is read from its top."""

    def __init__(self, path: Path, source: DatasetReader, grid: Grid, channels: int, stored: StoredPixels) -> None:
        # Not at the top: images alone need no extra 'geo'.
        from rasterio.enums import MaskFlags

        self.path, self.source, self.grid, self.channels, self.stored = path, source, grid, channels, stored
        flags = source.mask_flag_enums[0]
        self.masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        # Not at the top: images alone need no extra 'geo'.
        from rasterio import windows

        row, column, height, width = window
        # Else what fails in writing beside it would be told as this file's.
        with errors_naming(self.path):
            layers = self.source.read(window=windows.Window(column, row, width, height))
        values = np.repeat(layers[:1], self.channels, 0) if len(layers) < self.channels else layers[: self.channels]
        valid = np.ones((height, width), bool) if len(layers) <= self.channels else layers[self.channels] > 0
        if self.masked:
            valid &= self.source.dataset_mask(window=windows.Window(column, row, width, height)) > 0
        if (nodata := self.source.nodata) is not None:
            missing = values == nodata
            # Such as -9999: in one channel alone it is no measurement either.
            valid &= ~(missing.any(0) if nodata != 0 and values.dtype.kind in "if" else missing.all(0))
        return _as_stored(values, valid, self.stored)


class ArrayPicture:
    """An image in memory, understood as `open_picture` understands a file of its pixels.

    Args:
        pixels: [H, W, C], or [H, W] of one channel; of 8 bits one channel is grey where `channels` is 3.
        channels: that the model takes.
        stored: type of the images that it was trained on.

    Raises:
        ValueError: no pixels, another type, or another number of channels.
    """

    def __init__(self, pixels: np.ndarray, channels: int, stored: StoredPixels = EIGHT_BITS) -> None:
        layers_HWC = pixels[..., None] if pixels.ndim == 2 else pixels
        if layers_HWC.ndim != 3 or not layers_HWC.size:
            raise ValueError(f"image of shape {pixels.shape}: give [H, W, {channels}]")
        if pixels.dtype.name not in _TYPES[stored.dtype]:
            mend = {
                "uint8": "give 0..255 as uint8, as an 8-bit file has them",
                "uint16": "give the stored values as uint16",
                "float32": "give the values of the training images as float32",
            }
            raise ValueError(
                f"image of {pixels.dtype}: the model was trained on {stored.dtype}; {mend[stored.dtype]}, neither "
                "scaled nor standardised"
            )
        if layers_HWC.shape[2] == 1 and channels == 3 and stored.dtype == "uint8":
            layers_HWC = np.repeat(layers_HWC, 3, 2)
        if layers_HWC.shape[2] != channels:
            hint = "; a fourth channel of transparency is none of them" if layers_HWC.shape[2] == channels + 1 else ""
            raise ValueError(
                f"image of shape {pixels.shape}: the model takes {channels} channels, [H, W, {channels}]{hint}"
            )
        self.grid, self.pixels_HWC, self.stored = Grid(*layers_HWC.shape[:2]), layers_HWC, stored

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and mask of a window, as a `Picture`'s."""
        row, column, height, width = window
        part_CHW = self.pixels_HWC[row : row + height, column : column + width].transpose(2, 0, 1)
        return _as_stored(part_CHW, np.ones((height, width), bool), self.stored)


def _as_stored(values_CHW: np.ndarray, valid: np.ndarray, stored: StoredPixels) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [h, w, C] of the model's type, filled where there is no data, and where there is, bool [h, w]."""
    if stored.dtype != "uint8":
        valid = valid & np.isfinite(values_CHW).all(0)
        if stored.nodata is not None:
            valid &= (values_CHW != stored.nodata).any(0)
        values_CHW = np.where(valid, values_CHW, np.zeros((), values_CHW.dtype)).astype(stored.dtype)
        if stored.fill:
            values_CHW[:, ~valid] = np.asarray(stored.fill)[:, None].astype(values_CHW.dtype)
    return np.ascontiguousarray(values_CHW.transpose(1, 2, 0)), valid


def _check(path: Path, source: DatasetReader, channels: int, stored: StoredPixels) -> None:
    # Not at the top: images alone need no extra 'geo'.
    from rasterio.enums import ColorInterp

    kinds = sorted(set(source.dtypes))
    if len(kinds) > 1 or kinds[0] not in _TYPES[stored.dtype]:
        trained = {"uint8": "8 bits", "uint16": "16 bits (uint16)", "float32": "float"}[stored.dtype]
        raise ValueError(
            f"{path}: pixels of type {', '.join(kinds)}: the model was trained on {trained}; convert it to {trained} "
            "as its training images were"
        )
    if source.driver == "GTiff":
        with path.open("rb") as file:
            orientation = tiff_orientation(file)
        if orientation in range(2, 9):
            raise ValueError(
                f"{path}: TIFF orientation {orientation}, and a map has the rows and columns that are stored: turn it "
                "upright and save it without the tag"
            )
    if source.colorinterp[0] is ColorInterp.palette:
        raise ValueError(f"{path}: a palette's numbers: save it as RGB")
    grey = source.count == 1 and channels == 3 and stored.dtype == "uint8"
    masked = source.count == channels + 1 and source.colorinterp[-1] is ColorInterp.alpha
    if source.count != channels and not grey and not masked:
        raise ValueError(f"{path}: {source.count} channels, the model takes {channels}: save it with those alone")


class Resized:
    """A picture at another size, bilinear: what `augmentation.prepare` makes of the whole, by window.

    Args:
        picture: what is read.
        size: (height, width) in pixels.
    """

    def __init__(self, picture: Picture, size: tuple[int, int]) -> None:
        self.picture, self.grid = picture, Grid(*size)
        self.scale = picture.grid.height / size[0], picture.grid.width / size[1]

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and mask of a window, as a `Picture`'s, in pixels of this size."""
        row, column, height, width = window
        # A strip at a time: what a few rows are made of may be much of a large picture.
        rows = max(1, int(SMALL / (self.scale[0] * self.scale[1] * width)))
        strips = [
            self._strip((top, column, min(rows, row + height - top), width)) for top in range(row, row + height, rows)
        ]
        pixels, valid = zip(*strips, strict=True)
        return np.concatenate(pixels), np.concatenate(valid)

    def _strip(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        row, column, height, width = window
        own = self.picture.grid
        top, bottom = _reach(row, height, self.scale[0], own.height)
        left, right = _reach(column, width, self.scale[1], own.width)
        pixels, valid = self.picture.read((top, left, bottom - top, right - left))
        down, across = self.scale
        box = (column * across - left, row * down - top, (column + width) * across - left, (row + height) * down - top)
        # Rounding may lie a little outside.
        box = (max(box[0], 0), max(box[1], 0), min(box[2], right - left), min(box[3], bottom - top))
        as_colours = pixels.shape[2] == 3 and pixels.dtype == np.uint8
        layers = [pixels] if as_colours else np.moveaxis(pixels, 2, 0)
        # Of more than 8 bits as float32, which holds each of 16, and rounded once, as `augmentation.prepare` does.
        floats = [np.ascontiguousarray(layer if pixels.dtype == np.uint8 else layer.astype("f4")) for layer in layers]
        resized = [np.asarray(Image.fromarray(layer).resize((width, height), _BILINEAR, box)) for layer in floats]
        rows = ((row + np.arange(height) + 0.5) * down).astype(int) - top
        columns = ((column + np.arange(width) + 0.5) * across).astype(int) - left
        image = (resized[0] if len(resized) == 1 else np.stack(resized, -1)).reshape(height, width, -1)
        image = (np.rint(image) if pixels.dtype.kind == "u" else image).astype(pixels.dtype)
        return image, valid[np.ix_(rows, columns)]


_BILINEAR = Image.Resampling.BILINEAR


def _reach(first: int, number: int, scale: float, have: int) -> tuple[int, int]:
    """The pixels, first and one after the last, that `number` resized ones are interpolated from."""
    reach = max(scale, 1.0) + 1
    return max(0, int(first * scale - reach)), min(have, math.ceil((first + number) * scale + reach))
