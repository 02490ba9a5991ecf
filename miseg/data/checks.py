"""Checks of pictures before they are packed; a refusal names the value and the mend.

Images are stored as 8-bit RGB. Conversions that lose nothing are made (grey to three equal channels, palette to its
colours, a fully opaque alpha channel dropped); those that would need a choice are refused (16 bits: which range becomes
0..255; CMYK: which profile; transparency: which background; several pages: which one; EXIF rotation: whether the mask
is turned too).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from miseg.data.picture_files import FORMATS, OF_DAMAGED, PictureTooLargeError, open_header
from miseg.data.samples import IGNORE_LABEL, DataSetInfo

_DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
ORIENTATION = 0x0112
"""EXIF's and TIFF's tag."""
_BIG_TIFF = (b"+\0", b"\0+")
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL = 258, 277


class BadFileError(ValueError):
    """A file that cannot be packed; the message is the reason, without the file's name."""


def read_bytes(file: Path | bytes) -> bytes:
    """The file's content.

    Raises:
        BadFileError: it cannot be read, or is empty.
    """
    try:
        data = file if isinstance(file, bytes) else file.read_bytes()
    except OSError as error:
        raise BadFileError(f"cannot be read ({error.strerror}): check the file and its permissions") from None
    if not data:
        raise BadFileError("empty file (0 bytes): copy it again")
    return data


def check_image(data: bytes) -> tuple[bytes, np.ndarray]:
    """The bytes to store and the pixels, uint8 [H, W, 3].

    8-bit RGB PNG and JPEG files are stored byte for byte; other accepted files as PNG.

    Raises:
        BadFileError: no 8-bit picture that becomes RGB without loss.
    """
    picture = load_picture(data)
    _refuse_deep(picture, data)
    orientation = picture.getexif().get(ORIENTATION, 1)
    if orientation != 1:
        raise BadFileError(f"EXIF orientation {orientation}: turn the pixels upright and save it without the tag")
    if picture.mode == "CMYK":
        raise BadFileError("CMYK colours: convert it to RGB with the profile that it was made for")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        rgba = np.asarray(picture.convert("RGBA"))
        see_through = int((rgba[..., 3] < 255).sum())
        if see_through:
            raise BadFileError(f"alpha channel with {see_through} transparent pixels: flatten it onto a background")
        pixels = np.ascontiguousarray(rgba[..., :3])
        return encode_png(pixels), pixels
    if picture.format == "TIFF" and (bands := tiff_bands(picture)) != len(picture.getbands()):
        raise BadFileError(f"{bands} bands: images of this data set are grey or RGB; save it with those alone")
    if picture.mode not in ("RGB", "L", "P"):
        raise BadFileError(f"colour mode {picture.mode}: save it as 8-bit RGB")
    pixels = np.asarray(picture.convert("RGB"))
    as_it_is = picture.mode == "RGB" and picture.format in ("PNG", "JPEG")
    return (data if as_it_is else encode_png(pixels)), pixels


def check_mask(data: bytes, info: DataSetInfo) -> np.ndarray:
    """Labels, uint8 [H, W], 0..K-1 and 255, from grey values or the indices of a palette picture.

    Raises:
        BadFileError: no 8-bit single-channel picture of the data set's labels.
    """
    picture = load_picture(data)
    if (bits := bits_of(picture, data)) > 8:
        raise BadFileError(
            f"mask of {bits} bits: its values are labels, so save them unscaled as 8-bit grey PNG; of own data, "
            "`miseg prepare-data --masks` reads ids of 16 and 32 bits as they are"
        )
    if picture.format in ("JPEG", "MPO"):
        raise BadFileError("JPEG mask: its compression alters labels; save the labels as 8-bit grey PNG")
    if picture.mode == "RGB":
        raise BadFileError(_colour_reason(np.asarray(picture), info))
    if picture.mode not in ("L", "P") or (picture.mode == "L" and png_depth(data) in (1, 2, 4)):
        mode = picture.mode if picture.mode not in ("L", "1") else "grey with fewer than 8 bits"
        raise BadFileError(f"mask in colour mode {mode}: save the labels as 8-bit grey PNG")
    return check_labels(np.asarray(picture), info)


def check_labels(values: np.ndarray, info: DataSetInfo) -> np.ndarray:
    """Labels, uint8, 0..K-1 and 255, from the `values` (uint8, same shape) that the source's masks hold.

    Raises:
        BadFileError: a value that the data set does not know.
    """
    known = range(len(info.classes)) if info.label_values is None else info.label_values
    labels = np.full(256, -1, np.int16)
    labels[list(known)] = range(len(info.classes))
    labels[list(info.ignore_values)] = IGNORE_LABEL
    mask = labels[values]
    if (wrong := np.unique(values[mask < 0])).size:
        listed = ", ".join(map(str, wrong[:5])) + (", …" if wrong.size > 5 else "")
        mend = f"correct it or map it to {info.ignore_values[0]}"
        if info.label_values is not None:
            # Renumbered masks share most values with the published ones: only an odd one shows that all are wrong.
            mend = f"{mend}; if the mask is renumbered to 0..{len(info.classes) - 1}, take the publisher's own"
        raise BadFileError(
            f"label {listed} is outside {_ranges(known)} and {_ranges(info.ignore_values)} (unlabelled): {mend}"
        )
    return mask.astype(np.uint8)


def check_sizes(image: np.ndarray, mask: np.ndarray | None, min_size: tuple[int, int] | None) -> None:
    """Refuses a pair of different sizes, and an image smaller than `min_size` = (height, width) pixels.

    Raises:
        BadFileError: as above.
    """
    height, width = image.shape[:2]
    if mask is not None and mask.shape != (height, width):
        raise BadFileError(
            f"image is {height}x{width} and mask {mask.shape[0]}x{mask.shape[1]} pixels (height x width): "
            "export both at one size, the mask with nearest-neighbour resampling"
        )
    if min_size is not None and (height < min_size[0] or width < min_size[1]):
        raise BadFileError(
            f"{height}x{width} pixels is smaller than the crop {min_size[0]}x{min_size[1]} (height x width): "
            "use a smaller crop (--min-size) or leave the image out"
        )


def encode_png(pixels: np.ndarray) -> bytes:
    """`pixels` (uint8, [H, W] or [H, W, 3]) as PNG bytes; the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def load_picture(data: bytes) -> Image.Image:
    """The picture that encoded bytes hold, decoded.

    Raises:
        BadFileError: no picture of a known format, too large a one, truncated or damaged, or several.
    """
    try:
        picture = open_header(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pages = getattr(picture, "n_frames", 1)
            picture.load()
    except UnidentifiedImageError:
        raise BadFileError(
            f"not a picture, or none of {', '.join(FORMATS)} (starts with {data[:8]!r}): replace it or remove it from "
            "the list"
        ) from None
    except PictureTooLargeError as error:
        raise BadFileError(str(error)) from None
    except OF_DAMAGED as error:
        raise BadFileError(f"truncated or damaged ({error}): copy it again") from None
    if pages > 1:
        raise BadFileError(f"holds {pages} pictures: save the one that is meant")
    return picture


def png_depth(data: bytes) -> int | None:
    """Bits a channel of a PNG file, by its header; None for other formats.

    Pillow reads 16-bit colour as 8-bit and scales 2- and 4-bit grey without a word.
    """
    return data[24] if data[:8] == b"\x89PNG\r\n\x1a\n" else None


def bits_of(picture: Image.Image, data: bytes) -> int:
    """Bits a channel of a picture that was loaded from `data`."""
    bits = png_depth(data) or 8
    if picture.format == "TIFF":
        bits = tiff_bits(picture)
    if picture.mode in _DEEP:
        bits = max(bits, 16)
    return bits


def tiff_bits(picture: Image.Image) -> int:
    """Bits a channel of a TIFF picture, by its header."""
    return max(picture.tag_v2.get(_BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]


def tiff_bands(picture: Image.Image) -> int:
    """Bands of a TIFF picture, by its header: Pillow leaves those beyond a colour's away without a word."""
    return picture.tag_v2.get(_SAMPLES_PER_PIXEL, 1)  # type: ignore[attr-defined]


def tiff_orientation(file: BinaryIO) -> int:
    """The Orientation tag of a TIFF file, 1 to 8; 1 where it has none. GDAL passes over it, and Pillow turns."""
    try:
        head = file.read(16)
        directory = ImageFileDirectory_v2(head if head[2:4] in _BIG_TIFF else head[:8])
        file.seek(directory.next)
        directory.load(file)
        return int(directory.get(ORIENTATION, 1))
    except OF_DAMAGED:
        return 1


def _refuse_deep(picture: Image.Image, data: bytes) -> None:
    if (bits := bits_of(picture, data)) > 8:
        raise BadFileError(
            f"{bits} bits a channel, and {picture.format} images of this data set are packed as 8-bit RGB: convert it "
            "with one scaling for all images; of own data, `miseg prepare-data --images` packs 16 bits as they are"
        )


def _ranges(values: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _colour_reason(colours: np.ndarray, info: DataSetInfo) -> str:
    seen = {tuple(map(int, colour)) for colour in np.unique(colours.reshape(-1, 3), axis=0)}
    if seen <= set(info.colours) | {(0, 0, 0)}:
        return (
            f"mask of RGB colours, all of them published colours of {info.name} (or black, unlabelled): "
            "save label numbers instead, as 8-bit grey PNG"
        )
    return f"mask of {len(seen)} RGB colours: save label numbers instead, as 8-bit grey PNG"
