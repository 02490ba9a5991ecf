"""Settings of the data path: what happens to an image between the packed shards and the network."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from miseg.settings import ADDED_LATER, check_choices

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Augmentation:
    """Joint augmentation of image and mask, in the order resize, scale, crop (with padding), flip.

    Masks are resampled by nearest neighbour. Padding is the mean colour in the image and ignored in the mask.
    Evaluation uses `resize`, `interpolation`, `mean` and `std` alone.
    """

    resize: tuple[int, int] | int | None = None
    """Pixels: (height, width), or the shorter side; applied in training and in evaluation."""
    scale: tuple[float, ...] | None = None
    """Factors of the random scaling: two values are a range (low, high), three or more a list to draw from."""
    crop: tuple[int, int] | None = None
    """(height, width) in pixels of a random crop; smaller images are padded."""
    flip: float = 0.5
    """Probability of a horizontal flip, 0..1."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean of the standardisation (x / 255 − mean) / std, in 0..1; None: the data set's own."""
    std: tuple[float, ...] | None = None
    """Per-channel deviation of the standardisation, in 0..1; None: the data set's own."""
    interpolation: Interpolation = field(default="bilinear", metadata=ADDED_LATER)
    """Resampling of images, by resize and scale; the RMI paper's code is bicubic."""
    padding: Literal["around", "end"] = field(default="around", metadata=ADDED_LATER)
    """Sides of a smaller image that are padded up to the crop: all, with the image anywhere inside, or right and bottom
    alone, as the RMI paper's code does."""

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip = {self.flip}: a probability lies in 0..1")
        if self.scale is not None and (len(self.scale) < 2 or min(self.scale) <= 0):
            raise ValueError(f"scale = {self.scale}: give a range (low, high) or a list of factors above 0")
        if self.scale is not None and len(self.scale) == 2 and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {self.scale}: a range is (low, high)")
        for name in ("crop", "resize"):
            size = getattr(self, name)
            if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
                raise ValueError(f"{name} = {size}: sizes are in pixels and at least 1")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both, or neither for the data set's own")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std = {self.std}: deviations are above 0")

    def at_size(self, size: tuple[int, int]) -> Augmentation:
        """The augmentation where every image is resized to (height, width) in pixels.

        Where images are scaled at random then, crops are of that size; else a batch would hold images of several sizes.
        """
        return replace(self, resize=size, crop=None if self.scale is None else size)


@dataclass(frozen=True)
class Pairs:
    """Settings of drawing two views of one place, for the methods that learn from pairs of patches without labels."""

    shift: int = 1
    """Pixels by which the second view's middle lies beside the first's, at most, along each axis."""
    turn: bool = True
    """Whether each view is flipped and turned by quarters at random."""
    jitter: float = 0.1
    """Deviation of the random gain (around 1) and offset (around 0) of each band of each view, 0 or more; values are
    standardised."""
    other_date: float = 1.0
    """Share of the pairs whose second view is of another date, 0..1, where the place has one."""
    min_valid: float = 0.5
    """Share of a chip's pixels that must be valid for it to be drawn, 0..1."""
    turns: Literal["all", "rotations", "flips"] = field(default="all", metadata=ADDED_LATER)
    """Changes that `turn` draws from: flips and turns by quarters, turns alone, or flips alone, of either axis."""
    unlabelled: bool = field(default=False, metadata=ADDED_LATER)
    """Whether pairs are of the data set's split `unlabelled`, where it has one, and not of train."""

    def __post_init__(self) -> None:
        check_choices(self)
        if self.shift < 0:
            raise ValueError(f"shift = {self.shift}: use 0 pixels or more")
        if not 0 <= self.jitter < math.inf:
            raise ValueError(f"jitter = {self.jitter}: use 0 or more")
        for name in ("other_date", "min_valid"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: a share lies in 0..1")


Order = Literal["shuffle", "replacement"]
"""Manner of drawing training images: each once an epoch in a new order, or each draw independent of the others."""
