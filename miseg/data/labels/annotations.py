"""Labelled pixels of one image: from a file that a person made, or sampled from a truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from miseg.data.labels.geojson import read_geojson
from miseg.data.labels.marks import Mark, Problem, class_name, class_order
from miseg.data.labels.raster import read_label_raster
from miseg.data.labels.table import read_label_table
from miseg.data.raster.grid import Grid
from miseg.data.raster.raster_files import Colour
from miseg.data.samples import IGNORE_LABEL

__all__ = [
    "Annotations",
    "LabelledPixels",
    "Problem",
    "SampledPoints",
    "Valid",
    "read_annotations",
    "sample_points",
    "usable_pixels",
]

Valid = np.ndarray | Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Mask of the pixels that can be labelled (neither nodata nor cloud): bool [H, W], or a function from rows and
columns, int64 [n] each and inside the image, to bool [n]."""


@dataclass(frozen=True)
class Annotations:
    """Labelled pixels of one image, each once.

    Attributes:
        rows: int64 [n], from the top, 0 first.
        columns: int64 [n], from the left, 0 first.
        labels: int64 [n], 0..K-1.
        classes: K names; each has a pixel.
        sources: where labels came from: "points.geojson, feature 3", "points.csv, line 7", "labels.tif".
        origin: int64 [n], of each pixel the index of its source.
        colours: K (red, green, blue) of the label file's colour table; None where it has none or not for every class.
    """

    rows: np.ndarray
    columns: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    sources: tuple[str, ...]
    origin: np.ndarray
    colours: tuple[Colour, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def source(self, index: int) -> str:
        """The file and row, or the feature, that the pixel of that index in `labels` came from."""
        return self.sources[self.origin[index]]

    def counts(self) -> dict[str, int]:
        """Labelled pixels of each class."""
        pixels = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, pixels, strict=True))


def read_annotations(
    path: Path,
    grid: Grid,
    valid: Valid | None = None,
    *,
    classes: Sequence[str] | None = None,
    class_property: str = "class",
) -> tuple[Annotations, list[Problem]]:
    """The labelled pixels in a file, and what of it is left out.

    Left out are labels outside the image or on pixels that are not valid, pixels with two classes, and what has no
    class, or none of `classes`. A pixel that has a class twice is kept once.

    Args:
        path: .geojson or .json (see `read_geojson`), .csv, .tsv or .txt (see `read_label_table`), or else a label
            raster (see `read_label_raster`).
        grid: the image's.
        valid: pixels that may be labelled; None: all.
        classes: the classes in label order; by default those in the file, numbers by value, then names by alphabet.
        class_property: property of a GeoJSON feature, or column of a table, that holds the class.

    Raises:
        ValueError: the file cannot be read as it is; or what is left is of fewer than two classes, or lacks one of
            `classes`.
    """
    path = Path(path)
    problems: list[Problem]
    colours: dict[str, Colour] = {}
    if path.suffix.lower() in (".geojson", ".json"):
        marks, problems = read_geojson(path, grid, class_property)
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        marks, problems = read_label_table(path, class_property)
    else:
        (marks, colours), problems = read_label_raster(path, grid), []
    if classes is not None:
        named = tuple(class_name(value) or "" for value in classes)
        if len(set(named)) != len(named) or "" in named:
            raise ValueError(f"classes = {list(classes)}: give each class once, by a name")
        unknown = [mark for mark in marks if mark.name not in named]
        problems += [Problem(mark.source, f"class {mark.name!r} is none of {', '.join(named)}") for mark in unknown]
        marks = [mark for mark in marks if mark.name in named]
    else:
        named = tuple(sorted({mark.name for mark in marks}, key=class_order))
    pixels, unusable = usable_pixels(marks, named, grid, valid)
    problems += [problem for _, problem in unusable]
    present = np.isin(np.arange(len(named)), pixels.labels)
    without = [name for name, there in zip(named, present, strict=True) if not there]
    _check_enough(path, named, without, problems, given=classes is not None)
    problems += [Problem(path.name, f"class {name!r} has no label left: it is no class of the map") for name in without]
    # Labels count the classes that are left.
    labels = (np.cumsum(present) - 1)[pixels.labels]
    left = tuple(name for name in named if name not in without)
    known = tuple(colours[name] for name in left) if all(name in colours for name in left) else None
    sources = tuple(mark.source for mark in marks)
    return Annotations(pixels.rows, pixels.columns, labels, left, sources, pixels.origin, known), problems


class LabelledPixels(NamedTuple):
    """Pixels of several marks, int64 [n] each; `origin` is the index of the mark."""

    rows: np.ndarray
    columns: np.ndarray
    labels: np.ndarray
    origin: np.ndarray

    @classmethod
    def of(cls, marks: Sequence[Mark], classes: Sequence[str]) -> LabelledPixels:
        """All pixels of the marks, labelled by the place of their class in `classes`."""
        number = {name: label for label, name in enumerate(classes)}
        sizes = [mark.rows.size for mark in marks]
        empty = np.empty(0, np.int64)
        return cls(
            np.concatenate([empty, *(mark.rows for mark in marks)]),
            np.concatenate([empty, *(mark.columns for mark in marks)]),
            np.repeat(np.array([number[mark.name] for mark in marks], np.int64), sizes),
            np.repeat(np.arange(len(marks)), sizes),
        )

    def selected(self, chosen: np.ndarray) -> LabelledPixels:
        """The pixels that bool [n] or indices choose."""
        return LabelledPixels(*(values[chosen] for values in self))


def usable_pixels(
    marks: Sequence[Mark], classes: Sequence[str], grid: Grid, valid: Valid | None = None
) -> tuple[LabelledPixels, list[tuple[int, Problem]]]:
    """Labelled pixels of marks that have a class of `classes`, and the problems that left others out, by mark.

    Each pixel is there once, in the order of the marks.
    """
    pixels = LabelledPixels.of(marks, classes)
    problems: list[tuple[int, Problem]] = []
    for check in (_outside, _invalid, _contradicted):
        bad, reason = check(pixels, grid, valid)
        problems += _listed(pixels, bad, marks, reason)
        pixels = pixels.selected(~bad)
    _, first = np.unique(pixels.rows * grid.width + pixels.columns, return_index=True)
    return pixels.selected(np.sort(first)), problems


class SampledPoints(NamedTuple):
    """Pixels drawn from a truth, class by class, each class in the order of drawing.

    Attributes:
        rows: int64 [n].
        columns: int64 [n].
        labels: int64 [n], as in the truth.
        short: pixels of each class that has fewer than were asked for, by label.
    """

    rows: np.ndarray
    columns: np.ndarray
    labels: np.ndarray
    short: dict[int, int]


def sample_points(truth_HW: np.ndarray, per_class: int, seed: int, ignore: int = IGNORE_LABEL) -> SampledPoints:
    """Draws `per_class` pixels of every class without replacement; a class that has fewer gives all.

    Draws of one seed are nested: the first five of fifty are the five of five. A class's draw does not depend on
    which other classes there are.

    Args:
        truth_HW: integer labels [H, W].
        per_class: pixels M of a class, at least 1.
        seed: 0 or more.
        ignore: label of pixels that are never drawn.

    Raises:
        ValueError: a truth that is no integer map or holds a negative label, nothing to draw from, fewer than 1 pixel.
    """
    truth = np.asarray(truth_HW)
    if truth.ndim != 2 or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"truth of shape {truth.shape} and type {truth.dtype}: expected integer labels [H, W]")
    if per_class < 1:
        raise ValueError(f"per_class = {per_class}: draw at least 1 pixel of a class")
    classes = [int(label) for label in np.unique(truth) if label != ignore]
    if not classes or classes[0] < 0:
        raise ValueError(f"truth of the labels {classes}: expected 0 or more beside {ignore} (ignored), at least one")
    drawn, short = [], {}
    for label in classes:
        there = np.flatnonzero(truth == label)
        drawn.append(np.random.default_rng([seed, label]).permutation(there)[:per_class])
        if there.size < per_class:
            short[label] = int(there.size)
    rows, columns = np.unravel_index(np.concatenate(drawn), truth.shape)
    return SampledPoints(rows, columns, np.repeat(classes, [len(part) for part in drawn]), short)


def _outside(pixels: LabelledPixels, grid: Grid, _: Valid | None) -> tuple[np.ndarray, str]:
    bad = (pixels.rows < 0) | (pixels.rows >= grid.height) | (pixels.columns < 0) | (pixels.columns >= grid.width)
    return bad, f"outside the image of {grid.height} x {grid.width} pixels"


def _invalid(pixels: LabelledPixels, grid: Grid, valid: Valid | None) -> tuple[np.ndarray, str]:
    if valid is None:
        return np.zeros(len(pixels.rows), bool), ""
    if callable(valid):
        good = np.asarray(valid(pixels.rows, pixels.columns))
    elif valid.shape != (grid.height, grid.width):
        raise ValueError(f"valid of shape {valid.shape} for an image of {grid.height} x {grid.width} pixels")
    else:
        good = valid[pixels.rows, pixels.columns]
    if good.dtype != bool or good.shape != pixels.rows.shape:
        raise ValueError(
            f"valid gives {good.dtype} {good.shape} for {len(pixels.rows)} pixels: expected a bool for each"
        )
    return ~good, "on nodata or cloud"


def _contradicted(pixels: LabelledPixels, grid: Grid, _: Valid | None) -> tuple[np.ndarray, str]:
    at, group = np.unique(pixels.rows * grid.width + pixels.columns, return_inverse=True)
    lowest, highest = np.full(len(at), np.iinfo(np.int64).max), np.full(len(at), -1)
    np.minimum.at(lowest, group, pixels.labels)
    np.maximum.at(highest, group, pixels.labels)
    return (lowest != highest)[group], "labelled with another class too"


def _listed(pixels: LabelledPixels, bad: np.ndarray, marks: Sequence[Mark], reason: str) -> list[tuple[int, Problem]]:
    """One problem a mark that has bad pixels, with the first of them, and the mark's index."""
    indices, first, counts = np.unique(pixels.origin[bad], return_index=True, return_counts=True)
    rows, columns = pixels.rows[bad][first], pixels.columns[bad][first]
    listed = []
    for index, count, row, column in zip(indices, counts, rows, columns, strict=True):
        mark = marks[index]
        where = f"row {row}, column {column}"
        which = f"{where} is" if mark.rows.size == 1 else f"{count} of {mark.rows.size} pixels (first {where}) are"
        listed.append((int(index), Problem(mark.source, f"{mark.name!r}: {which} {reason}")))
    return listed


def _check_enough(
    path: Path, classes: tuple[str, ...], without: list[str], problems: list[Problem], *, given: bool
) -> None:
    left = len(classes) - len(without)
    if given and without:
        what = f"no usable label of class {', '.join(map(repr, without))}: label each class, or leave it out of classes"
    elif left == 1:
        only = next(name for name in classes if name not in without)
        what = f"usable labels of one class only, {only!r}: label at least two classes"
    elif not left:
        what = "no usable label: check that it belongs to this image, and that coordinates are longitude, then latitude"
    else:
        return
    shown = "; ".join(f"{source}: {reason}" for source, reason in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    raise ValueError(f"{path}: {what}" + (f" (left out: {shown}{more})" if shown else ""))
