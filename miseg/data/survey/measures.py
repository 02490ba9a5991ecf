"""Measures of one packed image with its mask: class counts, borders, and a thumbnail to compare it by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from miseg.data.packed.decoded import Pixels
from miseg.data.packed.sidecar import PackedInfo
from miseg.data.samples import IGNORE_LABEL

THUMBNAIL = 32
"""Pixels of a thumbnail's side."""

_LABELS = 256
_SAMPLED = 512
"""Rows or columns of an image that thumbnails are made of, at least, where it has as many."""
_COARSE = 16


@dataclass(frozen=True)
class ImageMeasures:
    """Measures of an image.

    Attributes:
        id: the row's.
        height: pixels.
        width: pixels.
        constant: whether all its pixels have the same value.
        thumbnail: float16 [32, 32], grey and standardised: its bands less their means in units of their deviations,
            averaged.
        counts: pixels of each label, int64 [256]; None without a mask.
        borders: pairs of neighbouring pixels of different labels.
        isolated: pixels whose four neighbours have other labels.
    """

    id: str
    height: int
    width: int
    constant: bool
    thumbnail: np.ndarray
    counts: np.ndarray | None = None
    borders: int = 0
    isolated: int = 0

    @classmethod
    def of(cls, pixels: Pixels, info: PackedInfo) -> ImageMeasures:
        """Measures of decoded pixels of the data set that `info` describes."""
        image, mask = pixels.image, pixels.mask
        height, width = image.shape[:2]
        measures = pixels.id, height, width, is_constant(image), thumbnail(image, info)
        if mask is None:
            return cls(*measures)
        # Labels of 8 bits: their counts by bytes.
        counts = np.bincount(mask.ravel(), minlength=_LABELS)
        return cls(*measures, counts, *borders_and_isolated(mask))

    @property
    def labelled(self) -> int:
        """Pixels that are not ignored; 0 without a mask."""
        return 0 if self.counts is None else int(self.counts.sum() - self.counts[IGNORE_LABEL])


def is_constant(image_HWC: np.ndarray) -> bool:
    """Whether all pixels of an image have the same value."""
    first = image_HWC[0, 0]
    # Nearly every image differs within a few of its pixels.
    coarse = image_HWC[::_COARSE, ::_COARSE]
    return bool((coarse == first).all() and (image_HWC == first).all())


def thumbnail(image_HWC: np.ndarray, info: PackedInfo) -> np.ndarray:
    """The image as float16 [32, 32], each pixel the mean over its part of the image.

    Bands count alike, whatever their range: each is standardised by the data set's statistics. Pixels without data
    count as the mean. Of large images every second, third, … row and column is taken.
    """
    step = max(1, min(image_HWC.shape[:2]) // _SAMPLED)
    sampled = image_HWC[::step, ::step]
    mean, std = np.asarray(info.mean), np.asarray(info.std)
    weights = (1 / (std * info.full_scale * info.channels)).astype(np.float32)
    grey = sampled.astype(np.float32) @ weights - np.float32((mean / std).mean())
    if info.nodata is not None:
        grey[(sampled == info.nodata).all(2)] = 0
    small = Image.fromarray(grey).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    most = np.finfo(np.float16).max
    return np.asarray(small).clip(-most, most).astype(np.float16)


def borders_and_isolated(mask_HW: np.ndarray) -> tuple[int, int]:
    """Neighbouring pairs of pixels of different labels, and pixels that no neighbour above, below or beside shares."""
    across, down = mask_HW[:, 1:] == mask_HW[:, :-1], mask_HW[1:] == mask_HW[:-1]
    shared = np.zeros(mask_HW.shape, bool)
    shared[:, 1:] |= across
    shared[:, :-1] |= across
    shared[1:] |= down
    shared[:-1] |= down
    borders = across.size + down.size - int(np.count_nonzero(across)) - int(np.count_nonzero(down))
    return borders, shared.size - int(np.count_nonzero(shared))
