"""Images of any number of bands as they are packed, of 8 or 16 bits or float: lossless GeoTIFF bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from miseg.data.checks import BadFileError, encode_png
from miseg.data.picture_files import check_raster_size
from miseg.data.raster.grid import Window
from miseg.data.samples import DataSetInfo, Sample
from miseg.extras import require

if TYPE_CHECKING:
    from miseg.data.raster.scenes import Scene

CHIP = 256
"""Pixels of a chip's side, at most."""
SMALLEST_FLOAT = np.float32(1e-30)
"""Value of a float pixel with data whose bands are all 0, which stands for no data."""
_MAGIC = (b"II*\0", b"MM\0*")


def check_chip(chip: np.ndarray, info: DataSetInfo) -> np.ndarray:
    """Mask of the pixels of a chip that have data, bool [H, W].

    Args:
        chip: [H, W, C].
        info: `channels`, and `nodata`: the value that all bands of a pixel without data hold.

    Raises:
        BadFileError: another type or number of channels than the data set has, no finite number, or no pixel with
            data.
    """
    known = ("uint8", "uint16") if info.dtype is None else (info.dtype,)
    if chip.dtype.name not in known or chip.ndim != 3 or chip.shape[2] != info.channels:
        raise BadFileError(
            f"pixels of shape {chip.shape} and type {chip.dtype}: {info.name} has {' or '.join(known)} of "
            f"[H, W, {info.channels}]"
        )
    if chip.dtype.kind == "f" and not np.isfinite(chip).all():
        raise BadFileError(f"{int((~np.isfinite(chip)).sum())} values that are no number (NaN or infinite)")
    valid = np.ones(chip.shape[:2], bool) if info.nodata is None else (chip != info.nodata).any(2)
    if not valid.any():
        raise BadFileError(f"no pixel with data (all are {info.nodata}): leave the chip out")
    return valid


def encode_chip(chip: np.ndarray) -> bytes:
    """`chip` (uint8, uint16 or float32, [H, W, C]) as deflated GeoTIFF bytes; the same bytes for the same pixels."""
    require("geo", "a chip of several bands", "rasterio")
    # Not at the top: images alone need no extra 'geo'.
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    height, width, bands = chip.shape
    # Without a transform of its own every reader would warn; where the chip lies is in its row, not here.
    transform = Affine(1, 0, 0, 0, -1, height)
    predictor = 3 if chip.dtype.kind == "f" else 2
    options = {
        "compress": "deflate",
        "predictor": predictor,
        "zlevel": 6,
        "interleave": "pixel",
        "photometric": "minisblack",
    }
    shape = {"height": height, "width": width, "count": bands, "dtype": chip.dtype.name}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", transform=transform, **shape, **options) as file:
            file.write(chip.transpose(2, 0, 1))
        return bytes(memory.getbuffer())


def is_chip(data: bytes) -> bool:
    """Whether encoded bytes are a chip's; packed pictures are PNG and JPEG."""
    return data[:4] in _MAGIC


def decode_chip(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """The pixels of `size` = (height, width) that `encode_chip` was given; of another size nothing is decoded.

    Raises:
        ValueError: truncated or damaged bytes, another size, or too large.
    """
    require("geo", "a chip of several bands", "rasterio")
    # Not at the top: images alone need no extra 'geo'.
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    try:
        with MemoryFile(data) as memory, memory.open(driver="GTiff") as file:
            if (file.height, file.width) != size:
                raise ValueError(f"a chip of {file.height}x{file.width} pixels, not {size[0]}x{size[1]}")
            check_raster_size(file.height, file.width, file.count, file.dtypes[0])
            return np.ascontiguousarray(file.read().transpose(1, 2, 0))
    except RasterioError as error:
        raise ValueError(str(error.__cause__ or error).split("\n")[0]) from None


def store(values: np.ndarray, valid: np.ndarray, info: DataSetInfo) -> np.ndarray:
    """Values as a chip stores them: value · full scale, of whole numbers rounded; 0 in all bands where not valid.

    Args:
        values: float32 [H, W, C], 1.0 at full scale.
        valid: bool [H, W].
        info: `full_scale`: 255 makes uint8, more uint16, but where `dtype` is "float32"; of float a full scale of 1
            keeps what is no whole number.

    Returns:
        uint8, uint16 or float32 [H, W, C]. A valid pixel that would be stored as nodata has 1 in its first band, of
        float the smallest step.
    """
    # Exact for stored values: float32 keeps 24 bits of the quotient.
    stored = values * np.float32(info.full_scale)
    if info.dtype != "float32" or info.full_scale != 1:
        stored = np.rint(stored)
    if info.dtype == "float32":
        stored = stored.astype(np.float32)
    else:
        kind, most = (np.uint8, 2**8 - 1) if info.full_scale <= 255 else (np.uint16, 2**16 - 1)
        stored = stored.clip(0, most).astype(kind)
    stored[~valid] = 0
    stored[..., 0][valid & ~stored.any(2)] = SMALLEST_FLOAT if info.dtype == "float32" else 1
    return stored


def scene_chips(
    scene: Scene, split: str, info: DataSetInfo, series: str, area: Window | None = None, size: int = CHIP
) -> Iterator[Sample]:
    """The chips of a scene that have at least one valid pixel, one in memory at a time.

    Args:
        scene: what to read.
        split: of the samples.
        info: the data set's, of which full scale and type count.
        series: name of the scenes' place; a sample's `series` is that of its chip, "<series>/r<row>-c<column>".
        area: part of the scene; None is all of it.
        size: pixels of a side, at most.

    Returns:
        An iterator over samples without masks: pixels as `store` gives them, and their grid in `georeference`.

    Raises:
        ValueError: while iterating, as `Scene.read`.
    """
    top, left, height, width = area or (0, 0, scene.grid.height, scene.grid.width)
    for row, column, tall, wide in scene.grid.part((top, left, height, width)).windows(size):
        window = (top + row, left + column, tall, wide)
        values, valid = scene.read(window)
        if not valid.any():
            continue
        corner, grid = f"r{window[0]:05d}-c{window[1]:05d}", scene.grid.part(window)
        name = f"{split}/{series}/{corner}/{scene.date or scene.name}"
        chip = store(values, valid, info)
        # A scene without a date has no other dates to be paired with.
        chip_series = None if scene.date is None else f"{series}/{corner}"
        yield Sample(name, split, chip, None, chip_series, scene.date, grid.to_json())


def labels_png(labels: np.ndarray, known: dict[int, int], ignore: int) -> bytes:
    """Labels of any integers as PNG bytes: `known` maps them to classes, all others become `ignore`."""
    result = np.full(labels.shape, ignore, np.uint8)
    for value, label in known.items():
        result[labels == value] = label
    return encode_png(result)
