"""Pixels of image files of any bands, 8 or 16 bits or float."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miseg.data.checks import check_image, read_bytes


@dataclass(frozen=True)
class PixelFormat:
    """What all images of a data set have in common: the fields of `DataSetInfo` of these names.

    Attributes:
        channels: channels C.
        dtype: "uint8", "uint16" or "float32".
        full_scale: stored value that stands for 1.0: 255 for 8 bits, measured for others.
        notes: sentences on what was understood without being told; to be printed.
    """

    channels: int
    dtype: str
    full_scale: int
    notes: tuple[str, ...] = ()


def survey_images(images: Iterable[Path]) -> PixelFormat:
    """The format of a data set's images, of which the headers are read, and the pixels where there are more than 8 bits.

    Raises:
        ValueError: no image, one that cannot be read, or images of different bands or bits; one sentence with the file.
    """
    return PixelFormat(3, "uint8", 255)


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


def read_image(image: Path | bytes, pixels: PixelFormat, mask_size: tuple[int, int] | None = None) -> ReadImage:
    """An image of the data set's format.

    Args:
        image: file or bytes.
        pixels: the format, as `survey_images` found it.
        mask_size: (height, width) of its mask, which says whether an image with an EXIF orientation is to be turned.

    Raises:
        BadFileError: damaged, or of another format.
    """
    stored, values = check_image(read_bytes(image))
    return ReadImage(stored, (values.shape[0], values.shape[1]))
