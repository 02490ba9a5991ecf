"""The survey of a packed data set: its splits in numbers, images that look alike, and what looks wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from miseg.data.packed.dataset import PackedDataset
from miseg.data.survey.duplicates import Copy, NameSeries, find_copies, find_series
from miseg.data.survey.examples import choose_examples
from miseg.data.survey.measures import ImageMeasures
from miseg.data.survey.problems import find_problems
from miseg.data.survey.splits import SplitSummary
from miseg.data.survey.table import class_table, copy_lines, series_lines, split_table

_THREADS = 8


@dataclass(frozen=True)
class Survey:
    """The numbers of a packed data set, and what looks wrong in it.

    Attributes:
        name: the data set's.
        classes: K names.
        splits: numbers by split, in packed order.
        copies: pairs of images of different splits that are alike.
        series: None unless names number frames, slices or the like.
        examples: (split, index) of images to look at.
        problems: sentences on what looks wrong, each with its mend.
    """

    name: str
    classes: tuple[str, ...]
    splits: dict[str, SplitSummary]
    copies: tuple[Copy, ...]
    series: NameSeries | None
    examples: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]

    def lines(self) -> list[str]:
        """The survey as text for a terminal: tables, then sentences."""
        lines = [*split_table(self.splits), ""]
        if any(split.masks for split in self.splits.values()):
            lines += [*class_table(self.classes, self.splits), ""]
        lines += [*copy_lines(self.copies), *series_lines(self.series, self.splits)]
        lines += [f"look at this: {problem}" for problem in self.problems]
        return lines if self.problems else [*lines, "nothing looks wrong"]

    def to_dict(self) -> dict[str, object]:
        """The survey as JSON takes it."""
        return asdict(self)


def survey(packed: PackedDataset) -> Survey:
    """Surveys all images of a packed data set; each is decoded once, and its pixels are not kept.

    Kept are 2 kB of thumbnail and 2 kB of label counts an image. The same packed folder gives the same survey.

    Raises:
        ValueError: a shard is damaged, or an image cannot be decoded.
    """
    measures = {split: list(_measures(packed, split)) for split in packed.splits}
    classes = packed.info.classes
    splits = {split: SplitSummary.of(images, len(classes)) for split, images in measures.items()}
    # Chips at several dates are alike, and their splits are drawn by place.
    copies, series = find_copies(measures), None if packed.info.dates else find_series(measures)
    problems = find_problems(classes, splits, copies, series)
    return Survey(packed.info.name, classes, splits, copies, series, choose_examples(measures, len(classes)), problems)


def _measures(packed: PackedDataset, split: str) -> Iterator[ImageMeasures]:
    """Measures of the split's images, in order. Pillow, zlib and NumPy let other threads run while they compute."""
    threads = min(_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(
            lambda index: ImageMeasures.of(packed.pixels(split, index), packed.info), range(packed.size(split))
        )
