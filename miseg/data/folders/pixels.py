"""Pixels of image files of any bands, 8 or 16 bits or float."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from miseg.data.checks import (
    BadFileError,
    encode_png,
    load_picture,
    png_depth,
    read_bytes,
    tiff_bands,
    tiff_bits,
)
from miseg.data.folders.hf_parquet import ParquetCell, content
from miseg.data.folders.raster_bytes import RasterPixels, is_tiff, read_raster, says_more
from miseg.data.packed.chips import SMALLEST_FLOAT
from miseg.data.picture_files import OF_DAMAGED, open_header

_ORIENTATION = 0x0112
_OPACITY = ("RGBA", "LA", "PA", "La", "RGBa")
_HEAD = 64
_LARGEST = 1e9
"""Values beyond it are no measurements: rasters hold such numbers where there is no data."""


@dataclass(frozen=True)
class PixelFormat:
    """Bands, type and scale that all images of a data set share; `DataSetInfo` has fields of these names.

    Attributes:
        channels: channels C.
        dtype: "uint8", "uint16" or "float32".
        full_scale: stored value that stands for 1.0: 255 for 8 bits, measured for others.
        nodata: value that all bands of a pixel without data hold; None where every pixel has data.
        opacity: whether the last band of the files is opacity, and no channel.
        notes: sentences on what was understood without being told; to be printed.
    """

    channels: int
    dtype: str
    full_scale: int
    nodata: int | None = None
    opacity: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadImage:
    """An image as it is packed.

    Attributes:
        image: for `Sample.image`: bytes of an 8-bit RGB PNG or JPEG, or pixels uint8, uint16 or float32 [H, W, C].
        size: (height, width) in pixels.
        valid: bool [H, W], the pixels that have data; None: all. The labels of others are to be 255.
    """

    image: bytes | np.ndarray
    size: tuple[int, int]
    valid: np.ndarray | None = None


@dataclass
class _Seen:
    """Formats of images: (bands, type, whether the last band is marked as opacity) and a file of each, and more."""

    kinds: dict[tuple[int, str, bool], str]
    highest: float = 0.0
    opacity: bool | None = None
    missing: bool = False


def survey_images(images: Iterable[Path | bytes | ParquetCell]) -> PixelFormat:
    """The format of a data set's images. Headers are read, and pixels where there are more than 8 bits, or bands.

    A file that cannot be read is passed over: packing lists it among the rejected.

    Raises:
        ValueError: no image, none that can be read, or images of different bands or types; one sentence with the file.
    """
    seen, unreadable = _Seen({}), ""
    for number, image in enumerate(images, 1):
        name = f"image {number}" if isinstance(image, bytes) else str(image)
        try:
            _add(seen, content(image), name)
        except BadFileError as error:
            unreadable = unreadable or f"{name}: {error}"
    if not seen.kinds:
        raise ValueError(unreadable or "no image: check --images")
    return _format(seen)


def _add(seen: _Seen, image: Path | bytes, name: str) -> None:
    kind = _of_header(image)
    if kind is None:
        raster = read_raster(read_bytes(image))
        values, valid = _values(raster)
        bands = values.shape[2]
        if raster.alpha:
            opaque = bool(np.isin(values[..., -1], (0, _opaque(raster.pixels))).all())
            # One that holds other numbers is a band, such as near infrared, whatever the file calls it.
            seen.opacity = opaque if seen.opacity is None else seen.opacity and opaque
        if valid.any():
            highest = float(np.abs(values[valid]).max())
            if highest > _LARGEST:
                raise ValueError(
                    f"{name}: holds {highest:g}, which is no measurement: write the file's nodata value into it "
                    "(gdal_edit.py -a_nodata), or cut such pixels off"
                )
            seen.highest = max(seen.highest, highest)
        seen.missing |= not bool(valid.all())
        seen.kinds.setdefault((bands, values.dtype.name, raster.alpha), name)
    else:
        seen.kinds.setdefault((*kind, False), name)


def _of_header(image: Path | bytes) -> tuple[int, str] | None:
    """Bands and type of a picture of 8 bits, of grey or of colours; None where the file has to be read as a raster."""
    try:
        picture = open_header(image)
    except OF_DAMAGED as error:
        data = read_bytes(image)
        if is_tiff(data):
            return None
        load_picture(data)
        raise BadFileError(f"truncated or damaged ({error}): copy it again") from None
    with picture:
        if picture.format == "TIFF":
            deep = tiff_bits(picture) > 8 or tiff_bands(picture) != len(picture.getbands())
            if deep or picture.mode in _OPACITY or says_more(picture):
                return None
        elif picture.format == "PNG" and (png_depth(_head(image)) or 8) > 8:
            return None
        elif picture.mode in ("I", "F") or picture.mode.startswith("I;"):
            raise BadFileError(f"{picture.format} of more than 8 bits: save it as TIFF or PNG")
        if picture.mode == "P":
            colours = np.array(picture.getpalette("RGB") or [0], np.uint8).reshape(-1, 3)
            return (1 if (colours == colours[:, :1]).all() else 3), "uint8"
        return (1 if picture.mode in ("1", "L", "LA", "La") else 3), "uint8"


def _format(seen: _Seen) -> PixelFormat:
    notes = []
    opacity = bool(seen.opacity)
    kinds = {(bands - (opacity and alpha), kind): name for (bands, kind, alpha), name in seen.kinds.items()}
    if opacity:
        notes.append("The last band is opacity: pixels of opacity 0 count nowhere.")
    elif seen.opacity is False:
        notes.append("The last band is marked as opacity but holds other numbers: it is taken as a band.")
    if set(kinds) == {(1, "uint8"), (3, "uint8")}:
        grey = kinds[1, "uint8"]
        notes.append(f"Grey images, such as {grey}, are packed as colours, as the others are.")
        kinds = {(3, "uint8"): grey}
    if len(kinds) > 1:
        (first, name), (second, other) = list(kinds.items())[:2]
        raise ValueError(
            f"{other} has {_text(*second)}, {name} {_text(*first)}: give images of the same bands and bits, the others "
            "as a data set of their own"
        )
    ((bands, kind), _), *_ = kinds.items()
    if kind == "uint8":
        full_scale = 255
    elif kind == "uint16":
        # The number of bits that instruments have: 10, 12, 14 and so on.
        full_scale = 2 ** max(9, math.ceil(math.log2(seen.highest + 1))) - 1
    else:
        full_scale = max(1, math.ceil(seen.highest))
    if seen.missing:
        notes.append("Pixels without data (the files' nodata value or mask, or NaN) count nowhere.")
    nodata = 0 if seen.missing and (bands, kind) not in ((1, "uint8"), (3, "uint8")) else None
    return PixelFormat(bands, kind, full_scale, nodata, opacity, tuple(notes))


def read_image(image: Path | bytes, pixels: PixelFormat, mask_size: tuple[int, int] | None = None) -> ReadImage:
    """An image of the data set's format.

    Args:
        image: file or bytes.
        pixels: the format, as `survey_images` gave it.
        mask_size: (height, width) of its mask, which says whether an image with an EXIF orientation is to be turned.

    Raises:
        BadFileError: damaged, of another format, or an orientation that the mask's size leaves open.
    """
    data = read_bytes(image)
    kind = _of_header(data)
    if kind is None:
        return _read_raster(data, pixels)
    if (kind[0], pixels.dtype) not in ((pixels.channels, "uint8"), (1, "uint8")) or pixels.channels not in (1, 3):
        raise BadFileError(f"{_text(*kind)}, where the data set has {_text(pixels.channels, pixels.dtype)}")
    picture = load_picture(data)
    if picture.mode == "CMYK":
        raise BadFileError("CMYK colours: convert it to RGB with the profile that it was made for")
    # With an orientation the bytes would be turned, or refused, by whoever reads them next.
    plain = picture.getexif().get(_ORIENTATION, 1) == 1
    as_it_is = plain and picture.mode == "RGB" and picture.format in ("PNG", "JPEG")
    picture, valid = _upright(picture, mask_size), None
    if picture.mode in _OPACITY or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        opaque = np.asarray(rgba)[..., 3] > 0
        valid = None if opaque.all() else opaque
        picture, as_it_is = rgba.convert("RGB"), False
    if pixels.channels == 1:
        values = np.asarray(picture.convert("L"))[..., None]
        return ReadImage(values, values.shape[:2], valid)
    values = np.asarray(picture.convert("RGB"))
    return ReadImage(data if as_it_is else encode_png(values), values.shape[:2], valid)


def _upright(picture: Image.Image, mask_size: tuple[int, int] | None) -> Image.Image:
    """The picture turned as its EXIF orientation says, unless its mask has the size of the pixels as stored."""
    orientation = picture.getexif().get(_ORIENTATION, 1)
    if orientation not in range(2, 9):
        return picture
    stored = (picture.height, picture.width)
    turned = stored[::-1] if orientation >= 5 else stored
    if mask_size is not None and mask_size == stored == turned:
        raise BadFileError(
            f"EXIF orientation {orientation}, and the mask's size does not tell whether it was drawn before or after "
            "turning: save the image as the mask shows it, without the tag"
        )
    return picture if mask_size == stored else ImageOps.exif_transpose(picture)


def _read_raster(data: bytes, pixels: PixelFormat) -> ReadImage:
    raster = read_raster(data)
    values, valid = _values(raster)
    if pixels.opacity and raster.alpha:
        valid &= values[..., -1] > 0
        values = values[..., :-1]
    if values.shape[2] == 1 and (pixels.channels, pixels.dtype) == (3, "uint8"):
        values = values.repeat(3, 2)  # grey among colours
    if (values.shape[2], values.dtype.name) != (pixels.channels, pixels.dtype):
        layout = _text(values.shape[2], values.dtype.name)
        raise BadFileError(f"{layout}, where the data set has {_text(pixels.channels, pixels.dtype)}")
    values = np.ascontiguousarray(values)
    size = values.shape[0], values.shape[1]
    if pixels.dtype == "uint8" and pixels.channels == 3:
        return ReadImage(encode_png(values), size, None if valid.all() else valid)
    if pixels.nodata is not None:
        values[~valid] = pixels.nodata
        # A pixel with data is never all nodata: one step of its first band tells it apart.
        values[..., 0][valid & (values == pixels.nodata).all(2)] = 1 if values.dtype.kind == "u" else SMALLEST_FLOAT
    return ReadImage(values, size, None if valid.all() else valid)


def _values(raster: RasterPixels) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8, uint16 or float32 [H, W, C], and which have data, bool [H, W].

    Raises:
        BadFileError: complex numbers, or integers that float32 cannot hold.
    """
    stored = raster.pixels
    if stored.dtype.kind not in "iuf":
        raise BadFileError(f"pixels of type {stored.dtype}: save them as whole numbers or float")
    valid = raster.valid()
    if stored.dtype in (np.uint8, np.uint16):
        return stored, valid
    if stored.dtype.kind in "iu" and valid.any() and np.abs(stored[valid].astype(np.float64)).max() > 2**24:
        raise BadFileError(f"values beyond {2**24} of type {stored.dtype}: scale them, or save them as float")
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(np.float32)
    values[~valid] = 0
    return values, valid


def _opaque(stored: np.ndarray) -> float:
    return float(np.iinfo(stored.dtype).max) if stored.dtype.kind in "iu" else 1.0


def _head(image: Path | bytes) -> bytes:
    if isinstance(image, bytes):
        return image[:_HEAD]
    with image.open("rb") as file:
        return file.read(_HEAD)


def _text(bands: int, kind: str) -> str:
    return f"{bands} band{'s' if bands > 1 else ''} of {kind}"
