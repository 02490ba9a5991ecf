"""Two textures of the same colours: what a data set looks like on which colour tells nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from miseg.data.checks import encode_png
from miseg.data.samples import DataSetInfo, Rejection, Sample

CLASSES = ("across", "down")
COLOURS = ((230, 159, 0), (0, 114, 178))
COUNTS = {"train": 192, "val": 32}


@dataclass(frozen=True)
class Textures:
    """Images of regions with horizontal and with vertical stripes, drawn by the program.

    Stripes of both are two pixels bright and two dark, and a little noise is added: the values of a region have the
    same distribution in both classes, and only the direction in which they repeat differs. Where stripes begin is
    drawn for each image.

    Attributes:
        counts: images by split; every split has images of its own.
        seed: 0 or more; another seed gives other images.
        size: pixels of a side.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict(COUNTS))
    seed: int = 0
    size: int = 64

    @property
    def info(self) -> DataSetInfo:
        """The two directions."""
        return DataSetInfo("textures", CLASSES, COLOURS)

    def available(self) -> tuple[str, ...]:
        """The splits with at least one image."""
        return tuple(split for split, count in self.counts.items() if count)

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The split's images as PNG bytes.

        Raises:
            ValueError: a split without images.
        """
        if split not in self.available():
            raise ValueError(f"split {split!r}: textures are drawn for {', '.join(self.available()) or 'none'}")
        first = list(self.counts).index(split) * 10**6
        for number in range(self.counts[split]):
            image, mask = draw_textures(self.seed, first + number, self.size)
            yield Sample(f"{split}/{number:05d}", split, encode_png(image), encode_png(mask))


def draw_textures(seed: int, index: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Image number `index` of `seed`: uint8 [size, size, 3], and its classes, uint8 [size, size]."""
    rng = np.random.default_rng((seed, index))
    # It takes a second to import, which no other data set should wait for.
    from scipy.ndimage import gaussian_filter

    field_HW = gaussian_filter(rng.standard_normal((size, size)), size / 6, mode="wrap")
    # The median makes the two classes even, so that calling all one class is right half of the time.
    mask = (field_HW > np.median(field_HW)).astype(np.uint8)
    bright = (np.arange(size)[None] + rng.integers(4, size=2)[:, None]) % 4 < 2
    lines = np.where(bright, 185.0, 70.0)
    values = np.where(mask == 0, lines[0][:, None], lines[1][None, :]) + rng.normal(0, 12, (size, size))
    grey = values.round().clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2), mask
