"""Sizes and class counts of the images of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miseg.data.samples import IGNORE_LABEL
from miseg.data.survey.measures import ImageMeasures


@dataclass(frozen=True)
class SplitSummary:
    """A split in numbers.

    Attributes:
        images: how many.
        masks: how many have one.
        smallest: (height, width) in pixels of the image of fewest pixels.
        median: likewise of the middle one.
        largest: likewise of the one of most.
        pixels: pixels of each of the K classes.
        ignored: pixels that count nowhere.
        beyond: pixels of labels that are neither a class nor ignored.
        shown: images that show each of the K classes.
        borders: neighbouring pairs of pixels of different labels.
        isolated: pixels whose four neighbours have other labels.
        unlabelled: ids of images whose masks have ignored pixels alone.
        constant: ids of images whose pixels all have the same value.
    """

    images: int
    masks: int
    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    pixels: tuple[int, ...]
    ignored: int
    beyond: int
    shown: tuple[int, ...]
    borders: int
    isolated: int
    unlabelled: tuple[str, ...]
    constant: tuple[str, ...]

    @classmethod
    def of(cls, measures: Sequence[ImageMeasures], classes: int) -> SplitSummary:
        """The summary of at least one image's measures, of a data set of `classes` classes."""
        sizes = sorted(((image.height, image.width) for image in measures), key=lambda size: (size[0] * size[1], size))
        with_mask = [image for image in measures if image.counts is not None]
        by_mask = [image.counts for image in with_mask if image.counts is not None]
        counts = np.stack(by_mask) if by_mask else np.zeros((1, IGNORE_LABEL + 1), np.int64)
        total = counts.sum(0)
        return cls(
            images=len(measures),
            masks=len(with_mask),
            smallest=sizes[0],
            median=sizes[len(sizes) // 2],
            largest=sizes[-1],
            pixels=tuple(total[:classes].tolist()),
            ignored=int(total[IGNORE_LABEL]),
            beyond=int(total[classes:IGNORE_LABEL].sum()),
            shown=tuple(np.count_nonzero(counts[:, :classes], 0).tolist()),
            borders=sum(image.borders for image in with_mask),
            isolated=sum(image.isolated for image in with_mask),
            unlabelled=tuple(image.id for image in with_mask if not image.labelled),
            constant=tuple(image.id for image in measures if image.constant),
        )

    @property
    def labelled(self) -> int:
        """Pixels of all classes."""
        return sum(self.pixels)

    def share(self, label: int) -> float:
        """Share of a class among the labelled pixels, 0..1; 0 where there are none."""
        return self.pixels[label] / max(1, self.labelled)

    @property
    def ignored_share(self) -> float:
        """Share of ignored pixels among all pixels of masks, 0..1; 0 without masks."""
        return self.ignored / max(1, self.labelled + self.beyond + self.ignored)
