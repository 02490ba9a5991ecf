"""Files that Pillow cannot read as they are: TIFF of more than 8 bits or of many bands, PNG of 16-bit colours."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from miseg.data.checks import ORIENTATION, BadFileError, tiff_bits, tiff_orientation
from miseg.data.picture_files import OF_DAMAGED, PictureTooLargeError, check_raster_size, open_header
from miseg.extras import require

_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNKNOWN = 64
_SAMPLE_FORMAT, _SIGNED, _NODATA = 339, 2, 42113


def is_tiff(data: bytes) -> bool:
    """Whether bytes are a TIFF file's, small or big."""
    return data[:4] in _MARKS


def says_more(picture: Image.Image) -> bool:
    """Whether a TIFF picture holds what Pillow does not tell: signs, a value for no data, a mask, or smaller copies."""
    if picture.mode not in ("L", "RGB"):
        return False
    tags = picture.tag_v2  # type: ignore[attr-defined]
    signed = _SIGNED in tags.get(_SAMPLE_FORMAT, ())
    return signed or _NODATA in tags or tags.next != 0


def header_bits(data: bytes) -> int:
    """Bits a channel of a TIFF file, by its header; 64 where Pillow does not tell all, 8 where it is damaged."""
    try:
        picture = open_header(data)
        return _UNKNOWN if says_more(picture) else tiff_bits(picture)
    except UnidentifiedImageError:
        return _UNKNOWN
    except OF_DAMAGED:
        return 8


@dataclass(frozen=True)
class RasterPixels:
    """Pixels of a TIFF or PNG file.

    Attributes:
        pixels: values as they are stored, [H, W, C], upright.
        alpha: whether the last band is marked as opacity.
        nodata: value that stands for "no data"; None where the file names none.
        masked: bool [H, W], the pixels that the file's own mask leaves out; None where it has none.
    """

    pixels: np.ndarray
    alpha: bool
    nodata: float | None
    masked: np.ndarray | None = None

    def valid(self) -> np.ndarray:
        """Pixels that have data, bool [H, W]: of finite numbers, and left out by neither mask nor nodata value.

        A nodata value stands in all bands, or, signed or of float and not 0, in any: -9999 is no measurement in one.
        """
        valid = np.ones(self.pixels.shape[:2], bool) if self.masked is None else ~self.masked
        if self.nodata is not None:
            missing = self.pixels == self.nodata
            alone = self.nodata != 0 and self.pixels.dtype.kind in "if"
            valid = valid & ~(missing.any(2) if alone else missing.all(2))
        if self.pixels.dtype.kind == "f":
            valid = valid & np.isfinite(self.pixels).all(2)
        return valid


def read_raster(data: bytes) -> RasterPixels:
    """All bands of a TIFF or PNG file's bytes, turned upright as a TIFF's orientation says.

    Raises:
        BadFileError: neither, truncated or damaged, several pictures, more pixels than a picture may have, or a PNG
            with an EXIF orientation.
        MissingExtraError: rasterio is not installed.
    """
    require("geo", "an image of more than 8 bits or of bands", "rasterio")
    # Not at the top: images alone need no extra 'geo'.
    import rasterio
    from rasterio._err import CPLE_BaseError  # what GDAL raises where rasterio has no error of its own
    from rasterio.enums import ColorInterp, MaskFlags
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile

    orientation = tiff_orientation(io.BytesIO(data)) if is_tiff(data) else _png_orientation(data)
    try:
        # GDAL's fast path for whole PNGs returns a truncated one's garbage without an error.
        with warnings.catch_warnings(), rasterio.Env(GDAL_PNG_WHOLE_IMAGE_OPTIM="NO"), MemoryFile(data) as memory:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # The driver is named, since GDAL knows formats that stand for files elsewhere.
            with memory.open(driver="GTiff" if is_tiff(data) else "PNG") as file:
                if len(file.subdatasets) > 1:
                    raise BadFileError(f"holds {len(file.subdatasets)} pictures: save the one that is meant")
                check_raster_size(file.height, file.width, file.count, file.dtypes[0])
                alpha = file.count > 1 and file.colorinterp[-1] is ColorInterp.alpha
                masked = None
                if any(
                    MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags for flags in file.mask_flag_enums
                ):
                    masked = np.ascontiguousarray(_upright(file.dataset_mask() == 0, orientation))
                pixels = np.ascontiguousarray(_upright(file.read().transpose(1, 2, 0), orientation))
                return RasterPixels(pixels, alpha, file.nodata, masked)
    except PictureTooLargeError as error:
        raise BadFileError(str(error)) from None
    except (RasterioError, CPLE_BaseError) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise BadFileError(f"truncated or damaged ({reason}): copy or export it again") from None


def _png_orientation(data: bytes) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = open_header(data).getexif().get(ORIENTATION, 1)
    except OF_DAMAGED:
        return 1
    if orientation in range(2, 9):
        raise BadFileError(f"EXIF orientation {orientation}: turn it upright and save it without the tag")
    return 1


def _upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns as the orientation says that they are to be seen: [H, W, …] or, for 5 to 8, [W, H, …]."""
    if orientation in (5, 7):
        stored = stored.swapaxes(0, 1)
    turns = {3: 2, 6: 3, 7: 2, 8: 1}.get(orientation, 0)
    if orientation in (2, 4):
        return np.flip(stored, 1 if orientation == 2 else 0)
    return np.rot90(stored, turns)
