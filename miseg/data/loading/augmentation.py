"""Joint geometry of image and mask.

Images leave as they are stored: the trainer standardises on the device, and a byte a value is a quarter of what float32
ships.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from miseg.data.configs import Augmentation, Interpolation
from miseg.data.samples import IGNORE_LABEL

_FILTERS: dict[Interpolation, tuple[Image.Resampling, int]] = {
    "bilinear": (Image.Resampling.BILINEAR, 1),
    "bicubic": (Image.Resampling.BICUBIC, 2),
}
"""PIL's filter, and how many pixels it reaches to each side where nothing is shrunk."""

Part = tuple[slice, slice]
"""Rows and columns of a picture."""


class Statistics(Protocol):
    """Mean and standard deviation of a data set's channels, for standardisation: `PackedDataset.info` has them."""

    @property
    def channels(self) -> int:
        """Channels C of an image."""

    @property
    def full_scale(self) -> int:
        """Stored value that stands for 1.0."""

    @property
    def dtype(self) -> str:
        """Type of stored values: "uint8", "uint16" or "float32"."""

    @property
    def mean(self) -> tuple[float, ...]:
        """C means, 0..1."""

    @property
    def std(self) -> tuple[float, ...]:
        """C deviations, 0..1."""


def augment(
    image_HWC: np.ndarray,
    mask_HW: np.ndarray | None,
    config: Augmentation,
    rng: np.random.Generator,
    pad_colour: Sequence[float] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None]:
    """One random view of an image with its mask: resize, random scale, crop with padding, flip.

    Resize and scale are one resampling, so that nothing is blurred twice. The crop window lies uniformly over all
    places where it is inside the image or, along an axis where the image is smaller, around it; with `padding="end"`,
    an image that is smaller lies at its top or left.

    Args:
        image_HWC: uint8, uint16 or float32 [H, W, C].
        mask_HW: uint8 [H, W], or None.
        config: what to do.
        rng: where the randomness comes from; see `miseg.data.loading.order.augmentation_generator`.
        pad_colour: C stored values beside an image that is smaller than the crop; the mask has 255 there.

    Returns:
        Image [h, w, C] of the same type and mask uint8 [h, w] (or None), contiguous.

    Raises:
        ValueError: mask and image differ in size.
    """
    _check_pair(image_HWC, mask_HW)
    height, width = target_size(image_HWC.shape[0], image_HWC.shape[1], config.resize)
    if config.scale is not None:
        factor = rng.uniform(*config.scale) if len(config.scale) == 2 else rng.choice(config.scale)
        height, width = max(1, round(height * factor)), max(1, round(width * factor))
    crop, top, left = config.crop or (height, width), 0, 0
    if config.crop is not None:
        top, left = (_offset(have, want, rng) for have, want in zip((height, width), crop, strict=True))
        if config.padding == "end":
            top, left = max(top, 0), max(left, 0)
    # The part of the resampled picture that the window shows: nothing else of it is made.
    part = slice(max(top, 0), min(top + crop[0], height)), slice(max(left, 0), min(left + crop[1], width))
    image, mask = _resample(image_HWC, mask_HW, (height, width), config.interpolation, part)
    top, left = min(top, 0), min(left, 0)
    image = window(image, top, left, crop, np.asarray(pad_colour).astype(image.dtype))
    mask = None if mask is None else window(mask, top, left, crop, np.uint8(IGNORE_LABEL))
    if rng.random() < config.flip:
        image, mask = _flipped(image), None if mask is None else mask[:, ::-1]
    return np.ascontiguousarray(image), None if mask is None else np.ascontiguousarray(mask)


def prepare(
    image_HWC: np.ndarray, mask_HW: np.ndarray | None, config: Augmentation
) -> tuple[np.ndarray, np.ndarray | None]:
    """The image and its mask as evaluation sees them: resized (if `config.resize` says so) and nothing else.

    Shapes and errors as in `augment`.
    """
    _check_pair(image_HWC, mask_HW)
    size = target_size(image_HWC.shape[0], image_HWC.shape[1], config.resize)
    return _resample(image_HWC, mask_HW, size, config.interpolation)


def standardisation(config: Augmentation, info: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation to standardise with, float32 [C] each, for values in 0..1: the settings' or the data set's.

    Raises:
        ValueError: the settings give another number of channels than the data set has.
    """
    mean, std = (config.mean, config.std) if config.mean is not None else (info.mean, info.std)
    for name, values in (("mean", mean), ("std", std)):
        if values is None or len(values) != info.channels:
            raise ValueError(f"augmentation.{name} = {values}: the data set has {info.channels} channels, give as many")
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)


def padding_colour(config: Augmentation, info: Statistics) -> np.ndarray:
    """The mean colour, stored values [C]: what padding looks like, close to 0 once standardised.

    Raises:
        ValueError: as `standardisation`.
    """
    kind = np.dtype(info.dtype)
    colour = standardisation(config, info)[0] * info.full_scale
    return colour if kind.kind == "f" else np.rint(colour).clip(0, np.iinfo(kind).max).astype(kind)


def target_size(height: int, width: int, resize: tuple[int, int] | int | None) -> tuple[int, int]:
    """(height, width) in pixels that `Augmentation.resize` gives an image; an int sets the shorter side."""
    if resize is None:
        return height, width
    if isinstance(resize, tuple):
        return resize[0], resize[1]
    factor = resize / min(height, width)
    return (resize, max(1, round(width * factor))) if height <= width else (max(1, round(height * factor)), resize)


def window(pixels: np.ndarray, top: int, left: int, size: tuple[int, int], fill: np.ndarray | np.uint8) -> np.ndarray:
    """The part of `pixels` ([H, W] or [H, W, C]) of `size` = (height, width) whose corner is at (top, left).

    Either of which may be negative, and the part may reach beyond the other end: `fill`, one value or C, is beside the
    picture.
    """
    inside = pixels[max(top, 0) : max(top + size[0], 0), max(left, 0) : max(left + size[1], 0)]
    if inside.shape[:2] == size:
        return inside
    result = np.empty((*size, *pixels.shape[2:]), pixels.dtype)
    result[...] = fill
    y, x = max(-top, 0), max(-left, 0)
    result[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return result


def _check_pair(image: np.ndarray, mask: np.ndarray | None) -> None:
    if mask is not None and mask.shape != image.shape[:2]:
        raise ValueError(f"image {image.shape[:2]} and mask {mask.shape} differ in size: pack them at one size")


def _resample(
    image: np.ndarray,
    mask: np.ndarray | None,
    size: tuple[int, int],
    interpolation: Interpolation,
    part: Part | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """`part` (all, by default) of image and mask as they are at `size`."""
    rows, columns = part or (slice(0, size[0]), slice(0, size[1]))
    if image.shape[:2] == size:
        return image[rows, columns], None if mask is None else mask[rows, columns]
    if image.shape[2] == 3 and image.dtype == np.uint8:
        resampled = _interpolated(image, size, rows, columns, interpolation)
    else:
        # PIL takes four channels for colour and alpha and would weight one by the other.
        bands = (np.ascontiguousarray(image[..., band]) for band in range(image.shape[2]))
        resampled = np.stack([_interpolated(band, size, rows, columns, interpolation) for band in bands], -1)
    if mask is not None:
        mask = mask[_nearest(mask.shape[0], size[0])[rows]][:, _nearest(mask.shape[1], size[1])[columns]]
    return resampled, mask


def _flipped(image: np.ndarray) -> np.ndarray:
    """`image` [H, W, C] from right to left; by channel: NumPy copies single bytes twenty times faster than triples."""
    flipped = np.empty_like(image)
    for channel in range(image.shape[2]):
        flipped[..., channel] = image[:, ::-1, channel]
    return flipped


def _interpolated(
    pixels: np.ndarray, size: tuple[int, int], rows: slice, columns: slice, interpolation: Interpolation
) -> np.ndarray:
    """A part of `pixels` ([H, W], or uint8 [H, W, 3]) at `size`, bit for bit what PIL's resampling of all has there.

    Values of more than 8 bits are resampled as float32, which holds each of 16, and rounded once.

    PIL resamples columns, rounds, and resamples rows, so a row of the first pass depends on no other: those that the
    part is not made of are left out of it, and columns beside the part out of the second.
    """
    height = pixels.shape[0]
    manner, reach = _FILTERS[interpolation]
    first, last = _made_of(height, size[0], rows, reach)
    width = columns.stop - columns.start
    wide = Image.fromarray(resampled_as(pixels[first:last])).resize((size[1], last - first), manner)
    tall = Image.new(wide.mode, (width, height))
    tall.paste(wide.crop((columns.start, 0, columns.stop, last - first)), (0, first))
    tall = tall.resize((width, size[0]), manner)
    return stored_as(np.asarray(tall.crop((0, rows.start, width, rows.stop))), pixels.dtype)


def resampled_as(pixels: np.ndarray) -> np.ndarray:
    """The pixels in a type that PIL interpolates: bytes as they are, others as float32."""
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)


def stored_as(pixels: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Interpolated pixels in the type that they had before; whole numbers rounded, and no further than they reach."""
    if kind == pixels.dtype:
        return pixels
    return pixels.astype(kind) if kind.kind == "f" else np.rint(pixels).clip(0, np.iinfo(kind).max).astype(kind)


def _made_of(have: int, want: int, part: slice, pixels: int) -> tuple[int, int]:
    """The rows of `have`, first and one after the last, that `part` of `want` is interpolated from; one more a side."""
    step = have / want
    reach = pixels * max(step, 1.0) + 1
    return max(0, int((part.start + 0.5) * step - reach)), min(have, math.ceil((part.stop - 0.5) * step + reach))


@functools.lru_cache(maxsize=1024)
def _nearest(have: int, want: int) -> np.ndarray:
    """Index in 0..have − 1 of the pixel that each of `want` shows by PIL's nearest neighbour: int32 [want]."""
    line = Image.fromarray(np.arange(have, dtype=np.int32)[None])
    chosen = np.asarray(line.resize((want, 1), Image.Resampling.NEAREST))[0]
    chosen.flags.writeable = False
    return chosen


def _offset(have: int, want: int, rng: np.random.Generator) -> int:
    return int(rng.integers(min(0, have - want), max(0, have - want) + 1))
