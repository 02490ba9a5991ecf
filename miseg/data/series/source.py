"""The reader of an own series: from a description to samples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from miseg.data.checks import encode_png
from miseg.data.folders.names.splits import in_order, shares_of
from miseg.data.packed.chips import scene_chips
from miseg.data.raster.grid import Window
from miseg.data.raster.rasters import open_raster
from miseg.data.raster.scenes import Scene
from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample
from miseg.data.series.dates import DateRule, read_dates
from miseg.data.series.description import SeriesDescription
from miseg.data.series.files import SeriesFiles, find_files, listed
from miseg.data.series.labels import SeriesLabels, open_labels
from miseg.data.series.scenes import SeriesScenes, open_scenes
from miseg.data.series.splits import BLOCKS, Areas, divide

LABELLED_SHARES = (0.7, 0.15, 0.15)
"""Of train, val and test, where labels are there and the scene has enough chips."""
OF_SMALL = (0.7, 0.3)
"""Of train and val, in smaller scenes."""


@dataclass(frozen=True)
class SeriesSource:
    """Scenes of one place on one grid; made by `open_series_source`.

    A sample is a chip of at most 256 x 256 pixels at one date. Pixels that do not count are stored as no data, and
    ignored in the mask.

    Attributes:
        info: name, classes, bands and types.
        scenes: by date.
        areas: windows of each split.
        rejections: dates that are not packed.
        labels: how labels are read; None where there are none.
        sentences: what was understood without being told, to be printed.
        places: by split, the name of its place, whose dates have statistics of their own; by default all splits have
            those of the whole, named as the data set is.
    """

    info: DataSetInfo
    scenes: tuple[Scene, ...]
    areas: Areas
    rejections: tuple[Rejection, ...] = ()
    labels: SeriesLabels | None = None
    sentences: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def dates(self) -> tuple[str, ...]:
        """Dates of the scenes, ISO 8601, also of those that are cloudy throughout."""
        return tuple(str(scene.date) for scene in self.scenes)

    def available(self) -> tuple[str, ...]:
        """The splits, train first."""
        return in_order(self.areas)

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The chips of each date in turn; before the first split's the dates that cannot be packed.

        Raises:
            ValueError: no such split.
        """
        if split not in self.areas:
            raise ValueError(f"split {split!r}: {self.info.name} has {', '.join(self.available())}")
        if split == self.available()[0]:
            yield from self.rejections
        place = self.places.get(split, self.info.name)
        for scene in self.scenes:
            try:
                for area in self.areas[split]:
                    for sample in scene_chips(scene, split, self.info, place, area):
                        yield self._labelled(sample)
            except ValueError as error:
                file = str(scene.files[0])
                yield Rejection(file, str(error).removeprefix(f"{file}: "))

    def _labelled(self, sample: Sample) -> Sample:
        if self.labels is None:
            return sample
        assert isinstance(sample.image, np.ndarray)
        labels = self.labels.read(_window(sample))
        return replace(sample, mask=encode_png(np.where(sample.image.any(2), labels, np.uint8(IGNORE_LABEL))))


def open_series_source(description: SeriesDescription, root: Path) -> SeriesSource:
    """The reader of the series that `description` describes.

    Args:
        description: what lies where, and how it is understood.
        root: folder that its relative paths start from.

    Raises:
        ValueError: files that cannot be found, dated, read or understood, in one sentence with the mend.
    """
    shares = _shares(description.split)
    files, labels_file = _files(description, root)
    opened = open_scenes(files.acquisitions, description)
    grid, labels = opened.scenes[0].grid, None
    if labels_file is not None:
        options = description.mask_options
        if options.ids is not None:
            options = replace(options, ids=root / options.ids.expanduser())
        labels = open_labels(labels_file, grid, options, description.label_field)
    if shares is None:
        large = sum(1 for _ in grid.windows(256)) >= BLOCKS
        usual = shares_of(LABELLED_SHARES if large else OF_SMALL)
        shares = {"train": 1.0} if labels is None else usual
    areas, how = divide(grid, shares, description.seed, None if labels is None else _shown(labels))
    info = _info(description, opened, labels, areas)
    undated = []
    if files.undated:
        names = listed([path.name for path in files.undated])
        undated.append(f"left out, no date in their names: {names}")
    first = files.acquisitions[0]
    dated = f"dates from {'the table' if description.dates else 'names'}: {Path(first.name).name} is of {first.date}"
    sentences = (dated, *undated, *opened.sentences, *(labels.sentences if labels else ()), *([how] if how else []))
    return SeriesSource(info, opened.scenes, areas, opened.rejections, labels, sentences)


def _files(description: SeriesDescription, root: Path) -> tuple[SeriesFiles, Path | None]:
    table, source = {}, ""
    if description.dates is not None:
        source = str(description.dates)
        table = read_dates(root / description.dates.expanduser())
    rule = DateRule(description.date_format, table, source)
    labels = None if description.labels is None else root / description.labels.expanduser()
    if labels is not None and not labels.is_file():
        raise ValueError(f"--labels {description.labels}: no such file")
    return find_files(description.series, root, rule, description.mask, () if labels is None else (labels,)), labels


def _shares(fractions: tuple[float, ...]) -> dict[str, float] | None:
    if not fractions:
        return None
    return shares_of((1.0, 0.0) if fractions == (1.0,) else fractions)


def _window(sample: Sample) -> Window:
    """The window of the scenes' grid that a chip is."""
    corner = re.search(r"r(\d+)-c(\d+)$", str(sample.series))
    assert corner is not None and isinstance(sample.image, np.ndarray)
    height, width, _ = sample.image.shape
    return int(corner[1]), int(corner[2]), height, width


def _shown(labels: SeriesLabels) -> Any:
    def shown(window: Window) -> frozenset[int]:
        return frozenset(np.unique(labels.read(window)).tolist()) - {IGNORE_LABEL}

    return shown


def _info(
    description: SeriesDescription, opened: SeriesScenes, labels: SeriesLabels | None, areas: Areas
) -> DataSetInfo:
    first = opened.scenes[0]
    full_scale = first.full_scale
    if full_scale != int(full_scale):
        raise ValueError(f"{first.files[0]}: a full scale of {full_scale:g}, which is not whole: bring it to 10000")
    grid = first.grid
    with open_raster(first.bands[0].file) as source:
        unit = source.units[first.bands[0].number - 1]
    scene: dict[str, Any] = {
        "bands": [band.name for band in first.bands],
        "dtype": opened.dtype,
        "unit": unit,
        "offsets": sorted({band.offset for scene in opened.scenes for band in scene.bands}),
        "crs": grid.crs,
        "pixel_size": [abs(grid.transform[0]), abs(grid.transform[4])],
        "size": [grid.height, grid.width],
        "resample": description.resample,
    }
    drawn = None if len(areas) == 1 else {"seed": description.seed, "areas": {split: areas[split] for split in areas}}
    return DataSetInfo(
        description.name,
        labels.encoding.classes if labels is not None else (),
        labels.encoding.colours if labels is not None else (),
        channels=len(first.bands),
        full_scale=int(full_scale),
        nodata=0,
        dtype=None if opened.packed_dtype != "float32" else "float32",
        drawn=drawn,
        scene=scene,
    )
