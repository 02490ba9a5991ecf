"""Summary of a packed data set that settings are planned from; no image is decoded for it."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miseg.data.packed.dataset import PackedDataset

Size = tuple[int, int]
"""(height, width) in pixels."""
VALUE_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
"""Of the types that images are packed with."""


@dataclass(frozen=True)
class DataSummary:
    """Sizes, numbers and classes of a packed data set."""

    sizes: tuple[Size, ...]
    """Of each training image, one or more."""
    validation_sizes: tuple[Size, ...] = ()
    """Of each image that trainings are validated on."""
    classes: int = 2
    """0: no labels."""
    channels: int = 3
    dates: int = 0
    """Dates of the places that images show; 0 or 1: no two views of one place."""
    value_bytes: int = 1
    """Bytes of a pixel's value in one channel: 1, or 2 of 16 bits and 4 of float."""

    def __post_init__(self) -> None:
        if not self.sizes or min(map(min, self.sizes)) < 1:
            raise ValueError("a data set without a training image has nothing to plan from: pack a split train")

    @property
    def images(self) -> int:
        """Training images."""
        return len(self.sizes)

    @property
    def median(self) -> Size:
        """Median height and median width of the training images."""
        heights, widths = zip(*self.sizes, strict=True)
        return int(statistics.median_low(heights)), int(statistics.median_low(widths))

    @property
    def largest(self) -> Size:
        """The image of most pixels, of training or validation."""
        return max((*self.sizes, *self.validation_sizes), key=math.prod)

    @property
    def spread(self) -> float:
        """Ratio of the largest to the smallest training image, as the square root of their pixels; 1: all are alike."""
        pixels = [math.prod(size) for size in self.sizes]
        return math.sqrt(max(pixels) / min(pixels))

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the training images decoded, with their masks."""
        return sum(map(math.prod, self.sizes)) * (self.channels * self.value_bytes + (self.classes > 0))

    def __str__(self) -> str:
        heights, widths = zip(*self.sizes, strict=True)
        equal = len(set(self.sizes)) == 1
        low, high = min(self.sizes, key=math.prod), max(self.sizes, key=math.prod)
        sizes = f"{heights[0]}x{widths[0]}" if equal else f"{_text(low)} to {_text(high)}, median {_text(self.median)}"
        labels = f"{self.classes} classes" if self.classes else "no labels"
        images = "image" if self.images == 1 else "images"
        return f"{self.images:,} training {images} of {sizes} pixels, {self.channels} channels, {labels}"


def summarise(dataset: PackedDataset) -> DataSummary:
    """The summary of a packed data set, from its sidecar and the columns of sizes and dates.

    Raises:
        ValueError: no training image, or a shard that is damaged.
    """
    if "train" not in dataset.splits:
        raise ValueError(f"{dataset.uri} has no split train, only {', '.join(dataset.splits)}: pack one to train on")
    by_place: dict[str, set[str]] = {}
    for _, series, date in dataset.index("train"):
        if series is not None and date is not None:
            by_place.setdefault(series, set()).add(date)
    return DataSummary(
        tuple(dataset.columns("train", "height", "width")),
        tuple(dataset.columns("val", "height", "width")) if "val" in dataset.splits else (),
        len(dataset.info.classes),
        dataset.info.channels,
        max(map(len, by_place.values()), default=0),
        VALUE_BYTES[dataset.info.dtype],
    )


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
