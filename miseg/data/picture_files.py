"""Encoded pictures opened: the one place that asks Pillow, with the formats named and sizes known before decoding.

Pillow tells formats by content and knows some that are programs: it has Ghostscript draw an EPS, whatever the file is
called. So only formats are opened that pictures and masks come in.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM")
"""By Pillow's names; none of them starts a program. JPEG files of several pictures (MPO) are opened as JPEG."""

OF_DAMAGED = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError),
    *(struct.error, zlib.error),
)
"""Errors that Pillow raises on damaged files, beside its own: it believes what stands in them."""


MOST_BYTES = 2**32
"""Of pixels that one picture is decoded to, at most."""


class PictureTooLargeError(ValueError):
    """A picture of more pixels than one may have, by its header."""


def open_header(file: Path | bytes) -> Image.Image:
    """A picture of which the header alone is read, so that its size and mode can be checked.

    Raises:
        PictureTooLargeError: it has more pixels than Pillow holds for safe (`Image.MAX_IMAGE_PIXELS`).
        PIL.UnidentifiedImageError: (an OSError) none of `FORMATS`.
        OSError, ValueError, and others of `OF_DAMAGED`: it cannot be read, or is damaged.
    """
    try:
        with warnings.catch_warnings():
            # Damaged metadata beside sound pixels only warns; a picture too large to be one does not pass.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(file if isinstance(file, Path) else io.BytesIO(file), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError(f"too large ({error}): cut it into tiles") from None


def check_raster_size(height: int, width: int, bands: int, dtype: str) -> None:
    """Raise PictureTooLargeError where a raster, by its header, is too large to be decoded as one picture."""
    most = Image.MAX_IMAGE_PIXELS or 0
    if height * width > most:
        raise PictureTooLargeError(f"too large ({height}x{width} pixels, {most} are allowed): cut it into tiles")
    taken = height * width * bands * np.dtype(dtype).itemsize
    if taken > MOST_BYTES:
        raise PictureTooLargeError(
            f"too large ({height}x{width} pixels of {bands} bands, {dtype}, are {taken / 2**30:.3g} GiB decoded, "
            f"{MOST_BYTES >> 30} are allowed): cut it into tiles"
        )


def pixels_of_size(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a picture of `size` = (height, width), [H, W] or [H, W, C]; of another size nothing is decoded.

    Raises:
        ValueError: another size, or too large.
        OSError and others of `OF_DAMAGED`: it is damaged.
    """
    picture = open_header(data)
    if (picture.height, picture.width) != size:
        raise ValueError(f"a picture of {picture.height}x{picture.width} pixels, not {size[0]}x{size[1]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(picture)
