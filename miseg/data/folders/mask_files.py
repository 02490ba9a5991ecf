"""Content of mask files as it stands in them: ids, grey levels or colours, never scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from miseg.data.checks import BadFileError, bits_of, load_picture, tiff_bands, tiff_bits
from miseg.data.folders.raster_bytes import header_bits, is_tiff, read_raster

Colour = tuple[int, int, int]

_AT_ONCE = 2**18
_SHOWN = 16
"""Values beyond those that are allowed of which a message may name some."""
_ORIENTATION = 0x0112
_GDAL_NODATA = 42113
_ARRAYS = {b"MATLAB": "MATLAB", b"\x93NUMPY": "NumPy", b"\x89HDF": "HDF5"}


@dataclass(frozen=True)
class MaskPixels:
    """A mask's content.

    Attributes:
        values: numbers [H, W], or colours uint8 [H, W, 3].
        palette: colours of a palette picture's indices; None for others.
        lossy: whether the format's compression alters values, as JPEG's does.
        nodata: value that the file names as "no data"; None where it names none.
        grey_palette: whether these are the grey levels of a palette whose indices are other numbers.
    """

    values: np.ndarray
    palette: tuple[Colour, ...] | None = None
    lossy: bool = False
    nodata: float | None = None
    grey_palette: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.values.shape[0], self.values.shape[1]

    def is_grey(self) -> bool:
        """Whether these are values, or colours of three equal channels."""
        return self.values.ndim == 2 or bool((self.values == self.values[..., :1]).all())

    def grey(self) -> np.ndarray:
        """The values [H, W].

        Raises:
            BadFileError: colours.
        """
        if not self.is_grey():
            raise BadFileError(
                "mask of RGB colours, where ids are expected: save ids, or name all colours in --colours"
            )
        return self.values if self.values.ndim == 2 else self.values[..., 0]

    def ids(self) -> np.ndarray:
        """The values as integers [H, W].

        Raises:
            BadFileError: colours, fractions, infinities, or pixels that are no number.
        """
        return _whole(self.grey())

    def rgb(self) -> np.ndarray:
        """The colours, uint8 [H, W, 3]: a palette's, and grey as three equal channels.

        Raises:
            BadFileError: values beyond 8 bits, or beyond the palette.
        """
        if self.values.ndim == 3:
            return self.values
        if self.palette is not None:
            if int(self.values.max()) >= len(self.palette):
                raise BadFileError(f"index {int(self.values.max())} of a palette of {len(self.palette)} colours")
            return np.array(self.palette, np.uint8)[self.values]
        if self.values.dtype != np.uint8:
            raise BadFileError(
                f"mask of values of type {self.values.dtype}, where colours are expected: save it as RGB"
            )
        return np.repeat(self.values[..., None], 3, 2)


def read_mask(data: bytes) -> MaskPixels:
    """The content of a mask file's bytes.

    A palette picture is its indices, but for a palette of greys, which is its grey levels; a 1-bit picture is 0 and 1,
    and grey of 2 or 4 bits is not scaled to 8.

    Raises:
        BadFileError: no picture, too large a one or a damaged one; transparent pixels; CMYK.
    """
    if program := next((name for mark, name in _ARRAYS.items() if data.startswith(mark)), None):
        raise BadFileError(f"file of {program}: save the map of ids in it as a PNG or TIFF of whole numbers")
    if is_tiff(data) and header_bits(data) > 8:
        tiff = read_raster(data)
        if tiff.masked is not None and tiff.masked.any():
            raise BadFileError(
                f"mask with a mask of its own, which leaves {int(tiff.masked.sum())} pixels out: give these a value "
                "and name it with --ignore"
            )
        if tiff.pixels.shape[2] == 3 and tiff.pixels.dtype == np.uint8:
            return MaskPixels(tiff.pixels)
        if tiff.pixels.shape[2] != 1 or tiff.pixels.dtype.kind not in "iuf":
            raise BadFileError(
                f"mask of {tiff.pixels.shape[2]} bands of type {tiff.pixels.dtype}: save ids as one band of whole "
                "numbers, or colours as 8-bit RGB"
            )
        return MaskPixels(tiff.pixels[..., 0], nodata=tiff.nodata)
    picture = load_picture(data)
    if (orientation := picture.getexif().get(_ORIENTATION, 1)) != 1:
        raise BadFileError(f"EXIF orientation {orientation}: turn the mask upright and save it without the tag")
    if picture.format == "TIFF" and (bands := tiff_bands(picture)) != len(picture.getbands()):
        raise BadFileError(f"mask of {bands} bands: save ids as one band of whole numbers, or colours as RGB")
    lossy = picture.format in ("JPEG", "MPO") or (picture.format == "WEBP" and b"VP8 " in data[:64])
    if picture.mode == "1":
        return MaskPixels(np.asarray(picture).astype(np.uint8))
    if picture.mode == "P":
        return _of_palette(picture)
    if picture.mode in ("LA", "RGBA"):
        pixels = np.asarray(picture)
        if transparent := int((pixels[..., -1] < 255).sum()):
            raise BadFileError(f"mask with {transparent} transparent pixels: flatten it onto a colour of its own")
        picture = picture.convert(picture.mode[:-1])
    if picture.mode == "RGB":
        if (bits := bits_of(picture, data)) > 8:
            raise BadFileError(f"mask of colours of {bits} bits a channel: save it as 8-bit RGB")
        return MaskPixels(np.asarray(picture), None, lossy)
    if picture.mode == "L":
        return MaskPixels(np.asarray(picture) // _step(picture, data), None, lossy, _nodata(picture))
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return MaskPixels(np.asarray(picture), None, lossy)
    raise BadFileError(f"mask in colour mode {picture.mode}: save ids as grey PNG, or colours as RGB")


def count_values(values: np.ndarray, most: int) -> dict[int, int]:
    """Pixels of each value; of colours [H, W, 3], by red · 65536 + green · 256 + blue.

    Args:
        values: integers [H, W], or uint8 [H, W, 3].
        most: number of values after which counting ends, so that an image that poses as a mask costs little.

    Returns:
        Value -> number of pixels, in order of values; more than `most` of them where counting ended early.
    """
    if values.ndim == 3:
        return _counted(values.reshape(-1, 3), most, pack_colours)
    return _counted(values.reshape(-1), most, lambda part: part)


def count_ids(values: np.ndarray, most: int) -> dict[int, int]:
    """Pixels of each id of a mask [H, W], whose numbers may be of any type, as `count_values` has them.

    Raises:
        BadFileError: fractions, infinities, or pixels that are no number.
    """
    return _counted(values.reshape(-1), most, _whole)


def _counted(flat: np.ndarray, most: int, converted: Callable[[np.ndarray], np.ndarray]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for first in range(0, len(flat), _AT_ONCE):
        part = converted(flat[first : first + _AT_ONCE])
        # Masks are runs of equal pixels: far fewer have to be sorted.
        starts = np.concatenate([[0], np.flatnonzero(part[1:] != part[:-1]) + 1])
        seen, where = np.unique(part[starts], return_inverse=True)
        pixels = np.bincount(where, np.diff(np.append(starts, len(part)))).astype(np.int64)
        # Beyond what is told, to go through one value after the other would take seconds.
        shown = slice(most + _SHOWN)
        for value, number in zip(seen[shown].tolist(), pixels[shown].tolist(), strict=True):
            counts[value] = counts.get(value, 0) + number
        if len(counts) > most:
            break
    return dict(sorted(counts.items()))


def pack_colours(colours: np.ndarray) -> np.ndarray:
    """Colours uint8 [..., 3] as uint32 [...]: red · 65536 + green · 256 + blue."""
    wide = colours.astype(np.uint32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def unpack_colour(code: int) -> Colour:
    """The colour of a number that `pack_colours` made."""
    return code >> 16, code >> 8 & 255, code & 255


def _step(picture: Image.Image, data: bytes) -> int:
    """The factor by which Pillow scaled grey of 2 or 4 bits."""
    bits = 8
    if picture.format == "PNG":
        bits = bits_of(picture, data)
    elif picture.format == "TIFF":
        bits = tiff_bits(picture)
    return 255 // (2**bits - 1) if bits in (2, 4) else 1


def _nodata(picture: Image.Image) -> float | None:
    """The value that a TIFF picture names as "no data", as GDAL writes it."""
    if picture.format != "TIFF":
        return None
    text = str(picture.tag_v2.get(_GDAL_NODATA, "")).strip("\0 ")  # type: ignore[attr-defined]
    try:
        return float(text)
    except ValueError:
        return None


def _of_palette(picture: Image.Image) -> MaskPixels:
    indices, numbers = np.asarray(picture), picture.getpalette("RGB") or []
    palette = tuple(zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True))
    values = np.unique(indices).tolist()
    if values[-1] >= len(palette):
        return MaskPixels(indices, palette)
    used = [palette[index] for index in values]
    # A GIF has no grey but a palette, whose indices are whatever its writer made of the grey levels. A PNG of greys
    # alone is likewise: reducing the number of colours puts the most frequent or the lightest first. A coloured palette
    # of which a mask shows the greys alone is not, nor is one that gives several indices the same grey.
    greys = used if picture.format == "GIF" else palette
    alike = picture.format != "GIF" and len(set(used)) < len(used)
    if alike or any(len(set(colour)) > 1 for colour in greys):
        return MaskPixels(indices, palette)
    changed = picture.format != "GIF" and [colour[0] for colour in used] != values
    return MaskPixels(np.array(palette, np.uint8)[indices][..., 0], grey_palette=changed)


def _whole(values: np.ndarray) -> np.ndarray:
    """Values as integers.

    Raises:
        BadFileError: fractions, infinities, or pixels that are no number.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize < 8:
        return values
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise BadFileError("pixels that are no number (NaN or infinite): write an id there, and give it with --ignore")
    wrong = (values != np.rint(values)) | (np.abs(values) > 2**32)
    if wrong.any():
        raise BadFileError(
            f"values that are no ids, such as {float(values[wrong][0]):g}: give masks of whole "
            "numbers, or --threshold for the level from which a pixel is foreground"
        )
    return values.astype(np.int64)
