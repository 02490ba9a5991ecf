"""Files that Pillow cannot read as they are: TIFF of more than 8 bits or of many bands, PNG of 16-bit colours."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from miseg.data.checks import OF_DAMAGED, BadFileError, tiff_bits
from miseg.extras import require

_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNKNOWN = 64


def is_tiff(data: bytes) -> bool:
    """Whether bytes are a TIFF file's, small or big."""
    return data[:4] in _MARKS


def header_bits(data: bytes) -> int:
    """Bits a channel of a TIFF file, by its header; 64 where Pillow knows no such picture, 8 where it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data))
        return tiff_bits(picture)
    except UnidentifiedImageError:
        return _UNKNOWN
    except (*OF_DAMAGED, Image.DecompressionBombError):
        return 8


@dataclass(frozen=True)
class RasterPixels:
    """Pixels of a TIFF or PNG file.

    Attributes:
        pixels: values as they are stored, [H, W, C].
        alpha: whether the last band is marked as opacity.
        nodata: value that stands for "no data"; None where the file names none.
    """

    pixels: np.ndarray
    alpha: bool
    nodata: float | None


def read_raster(data: bytes) -> RasterPixels:
    """All bands of a TIFF or PNG file's bytes.

    Raises:
        BadFileError: neither, truncated or damaged, several pictures, or more pixels than a picture may have.
        MissingExtraError: rasterio is not installed.
    """
    require("geo", "an image of more than 8 bits or of bands", "rasterio")
    # Not at the top: images alone need no extra 'geo'.
    import rasterio
    from rasterio._err import CPLE_BaseError  # what GDAL raises where rasterio has no error of its own
    from rasterio.enums import ColorInterp
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile

    try:
        # GDAL's fast path for whole PNGs returns a truncated one's garbage without an error.
        with warnings.catch_warnings(), rasterio.Env(GDAL_PNG_WHOLE_IMAGE_OPTIM="NO"), MemoryFile(data) as memory:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # The driver is named, since GDAL knows formats that stand for files elsewhere.
            with memory.open(driver="GTiff" if is_tiff(data) else "PNG") as file:
                if len(file.subdatasets) > 1:
                    raise BadFileError(f"holds {len(file.subdatasets)} pictures: save the one that is meant")
                most = Image.MAX_IMAGE_PIXELS or 0
                if file.height * file.width > most:
                    raise BadFileError(
                        f"too large ({file.height}x{file.width} pixels, {most} are allowed): cut it into tiles"
                    )
                alpha = file.count > 1 and file.colorinterp[-1] is ColorInterp.alpha
                return RasterPixels(np.ascontiguousarray(file.read().transpose(1, 2, 0)), alpha, file.nodata)
    except (RasterioError, CPLE_BaseError) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise BadFileError(f"truncated or damaged ({reason}): copy or export it again") from None
