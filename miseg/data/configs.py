"""Settings of the data path: what happens to an image between the packed shards and the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Augmentation:
    """Joint augmentation of image and mask, in the order resize, scale, crop (with padding), flip.

    Images are resampled bilinearly, masks by nearest neighbour. Padding is the mean colour in the image and ignored in
    the mask. Evaluation uses `resize`, `mean` and `std` alone.
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


Order = Literal["shuffle", "replacement"]
"""How training images are drawn: every image once an epoch in a new order, or each draw independent of the others."""
