"""Images that look alike: copies across splits, and series whose neighbours were drawn apart.

Images are compared by thumbnails from which the data set's mean thumbnail is subtracted, so that a layout that all
images share (a retina's disc, a road below a sky) makes no two of them alike. `docs/data-report.md` tells what the
thresholds were measured on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from miseg.data.listing import by_number
from miseg.data.survey.measures import THUMBNAIL, ImageMeasures

COPY = 0.92
"""Likeness from which two images are told as copies."""

_BLUR = 5
"""Pixels of a thumbnail over which copies' slow changes of brightness are removed."""
_OF_MEAN = 2
"""Images that stand against the mean: of two images, which may be copies, half their mean is subtracted."""
_AT_ONCE = 2**24
_PAIRS = 20_000
_OF_CHANCE = 0.9
"""Share of random pairs that are less alike than the pairs that count as alike."""
_OF_SERIES = 0.4
"""Share of pairs of neighbouring names that are alike, from which names number a series; 1 - 0.9 by chance."""
_FEWEST = 10


@dataclass(frozen=True)
class Copy:
    """Two images of different splits that are alike.

    Attributes:
        splits: the earlier split in packed order, and the later.
        ids: of the images, likewise.
        likeness: correlation of their thumbnails, up to 1.
    """

    splits: tuple[str, str]
    ids: tuple[str, str]
    likeness: float


@dataclass(frozen=True)
class NameSeries:
    """Names that number a series, such as frames of clips or slices of a stack: neighbours are alike.

    Attributes:
        alike: share of neighbouring names whose images are more alike than 90 % of random pairs.
        beside: by split other than the first, (id, id in the first split) of images that are alike their neighbour
            there.
    """

    alike: float
    beside: dict[str, tuple[tuple[str, str], ...]]


def find_copies(measures: Mapping[str, Sequence[ImageMeasures]]) -> tuple[Copy, ...]:
    """For each image the copy, if any, in each earlier split that is most alike, the most alike pairs first."""
    features = {split: _detail(images) for split, images in measures.items()}
    number = sum(map(len, features.values()))
    mean = sum(values.sum(0) for values in features.values()) / (number + _OF_MEAN)
    units = {split: _to_units(values, mean) for split, values in features.items()}
    copies = []
    for earlier, later in itertools.combinations(measures, 2):
        rows = max(1, _AT_ONCE // len(units[earlier]))
        for start in range(0, len(units[later]), rows):
            likeness = units[later][start : start + rows] @ units[earlier].T
            best = likeness.argmax(1)
            for row in np.flatnonzero(likeness[np.arange(len(best)), best] >= COPY):
                ids = measures[earlier][int(best[row])].id, measures[later][start + int(row)].id
                copies.append(Copy((earlier, later), ids, round(float(likeness[row, best[row]]), 3)))
    return tuple(sorted(copies, key=lambda copy: (-copy.likeness, copy.ids)))


def find_series(measures: Mapping[str, Sequence[ImageMeasures]]) -> NameSeries | None:
    """The series that the names number, in all splits together; None where neighbours are no more alike than others."""
    images = sorted(
        (
            (by_number(image.id.removeprefix(f"{split}/")), split, image)
            for split, images in measures.items()
            for image in images
        ),
        key=lambda entry: (entry[0], entry[1]),
    )
    if len(images) < _FEWEST:
        return None
    thumbnails = np.stack([image.thumbnail for *_, image in images]).reshape(len(images), -1).astype(np.float32)
    thumbnails -= thumbnails.mean(1, keepdims=True)
    units = _to_units(thumbnails, thumbnails.sum(0) / (len(images) + _OF_MEAN))
    # The same pairs every time.
    first, second = np.random.default_rng(0).integers(0, [[len(images)], [len(images) - 1]], (2, _PAIRS))
    second += second >= first
    by_chance = np.concatenate([(units[a] * units[b]).sum(1) for a, b in _parts(first, second)])
    alike = (units[1:] * units[:-1]).sum(1) > np.quantile(by_chance, _OF_CHANCE)
    if alike.mean() < _OF_SERIES:
        return None
    reference, *others = measures
    beside: dict[str, dict[str, str]] = {split: {} for split in others}
    for number in np.flatnonzero(alike):
        for (_, split, image), (_, neighbour_split, neighbour) in itertools.permutations(images[number : number + 2]):
            if neighbour_split == reference and split != reference:
                beside[split].setdefault(image.id, neighbour.id)
    return NameSeries(round(float(alike.mean()), 3), {split: tuple(pairs.items()) for split, pairs in beside.items()})


def _detail(images: Sequence[ImageMeasures]) -> np.ndarray:
    """Thumbnails less their surroundings, float32 [N, 1024]: a change of light does not part copies."""
    thumbnails = np.stack([image.thumbnail for image in images]).astype(np.float32)
    detail = thumbnails - uniform_filter(thumbnails, (1, _BLUR, _BLUR), mode="nearest")
    return detail.reshape(len(images), THUMBNAIL**2)


def _to_units(values_ND: np.ndarray, mean_D: np.ndarray) -> np.ndarray:
    """Rows less the mean, of length 1 or 0; in place, for there may be many."""
    values_ND -= mean_D
    values_ND /= np.maximum(np.linalg.norm(values_ND, axis=1, keepdims=True), 1e-6)
    return values_ND


def _parts(first: np.ndarray, second: np.ndarray, size: int = 1000) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(first[start : start + size], second[start : start + size]) for start in range(0, len(first), size)]
