"""The scenes under MISEG_DATA as data sets to pack: a Sentinel-2 series, an aerial series, aerial patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from miseg.data.folders.encoding import MaskEncoding
from miseg.data.listing import halved
from miseg.data.packed.chips import labels_png, scene_chips
from miseg.data.raster.grid import Grid
from miseg.data.raster.rasters import grid_of, open_raster
from miseg.data.raster.scene_files import SceneOptions, open_scene
from miseg.data.raster.scenes import read_labels
from miseg.data.raster.sentinel2 import QUANTIFICATION, date_in
from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample
from miseg.data.series.dates import DateRule
from miseg.data.series.description import SeriesDescription
from miseg.data.series.files import Acquisition, find_files
from miseg.data.series.labels import SeriesLabels
from miseg.data.series.scenes import open_scenes
from miseg.data.series.source import SeriesSource
from miseg.data.series.splits import Areas

AERIAL = ("red", "green", "blue", "near infrared")

CROPS = {
    1110: "winter wheat",
    1120: "spring wheat",
    1200: "maize",
    1500: "barley",
    1510: "winter barley",
    1520: "spring barley",
    4351: "winter rapeseed",
    5100: "potatoes",
    8100: "sugar beet",
    9110: "temporary grass",
    9120: "permanent grass",
}
"""Names of those WorldCereal crop types that grow in Flanders (github.com/WorldCereal/ewoc_rdm_web, Legends.ts)."""
CROP_PIXELS = 100
"""Crop types of fewer pixels are no class of their own: they are packed as ignored."""
_COLOURS = (
    (230, 159, 0),
    (240, 228, 66),
    (0, 114, 178),
    (204, 121, 167),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (120, 120, 120),
    (90, 50, 20),
    (150, 220, 120),
    (60, 20, 120),
)
_KEEP = "see shared/data/README.md for what it holds, and give its place with --root or MISEG_DATA"


class Sentinel2Flanders:
    """Reader of `<date>.tif` (B04, B03, B02, B08), `<date>_SCL.tif` and `labels_CT.tif` in one folder.

    One sample a date, of at most 256 x 256 pixels, stored as reflectance x 10000; clouds are stored as no data, and
    ignored in the mask. Dates with no valid pixel are left out. `halves` makes the west half of the area the split
    train and the east half val, two series with statistics of their own, to see what is learned carry over in space;
    otherwise all is train.
    """

    bands = ("B04", "B03", "B02", "B08")

    def __init__(self, root: Path, halves: bool = False) -> None:
        self.root = Path(root)
        self.name = "sentinel2-flanders-halves" if halves else "sentinel2-flanders"
        self.halves = halves

    @cached_property
    def info(self) -> DataSetInfo:
        """The crop types with at least 100 pixels in the whole area, in the order of their codes.

        Raises:
            ValueError: `labels_CT.tif` cannot be read, or has no such crop type.
        """
        codes = self._codes()
        names = tuple(CROPS.get(code, f"crop {code}") for code in codes)
        return DataSetInfo(self.name, names, _COLOURS[: len(codes)], channels=4, full_scale=QUANTIFICATION, nodata=0)

    def available(self) -> tuple[str, ...]:
        """train; with `halves` also val.

        Raises:
            ValueError: the folder or its labels are missing.
        """
        _dated(self.root)
        self._codes()
        return ("train", "val") if self.halves else ("train",)

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The dates in order, after those that cannot be read.

        Raises:
            ValueError: unknown split; the folder or its labels are missing.
        """
        if split not in self.available():
            raise ValueError(f"split {split!r}: {self.name} has {', '.join(self.available())}")
        return self._series.samples(split)

    @cached_property
    def _series(self) -> SeriesSource:
        labels = self.root / "labels_CT.tif"
        opened = open_scenes(_dated(self.root), SeriesDescription(self.name, (str(self.root),), self.bands))
        grid = opened.scenes[0].grid
        pairs = tuple((code, label) for label, code in enumerate(self._codes()))
        encoding = MaskEncoding("ids", self.info.classes, self.info.colours, pairs)
        half = grid.width // 2
        areas: Areas = {"train": ((0, 0, grid.height, grid.width),)}
        places = {"train": "sentinel2-flanders"}
        if self.halves:
            areas = {"train": ((0, 0, grid.height, half),), "val": ((0, half, grid.height, grid.width - half),)}
            places = {"train": "sentinel2-flanders-west", "val": "sentinel2-flanders-east"}
        read = SeriesLabels(labels, grid, encoding, nodata=0)
        return SeriesSource(self.info, opened.scenes, areas, opened.rejections, read, places=places)

    def _codes(self) -> list[int]:
        with open_raster(self.root / "labels_CT.tif") as source:
            grid = grid_of(source)
        codes, counts = np.unique(read_labels(self.root / "labels_CT.tif", grid), return_counts=True)
        frequent = [int(code) for code, count in zip(codes, counts, strict=True) if code and count >= CROP_PIXELS]
        if not 0 < len(frequent) <= len(_COLOURS):
            raise ValueError(
                f"{self.root / 'labels_CT.tif'}: {len(frequent)} crop types of at least {CROP_PIXELS} pixels, 1 to "
                f"{len(_COLOURS)} are expected: {_KEEP}"
            )
        return frequent


class NaipSeries:
    """Reader of dated aerial images of one place: red, green, blue and near infrared, 8 bits, no labels.

    The files differ by a pixel in size and by up to 3 m in origin; all are read on the pixels of the first date, in
    chips of at most 256 x 256 pixels, and what a file does not cover is no data. There is one split, train.
    """

    name = "naip-series"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def info(self) -> DataSetInfo:
        """No classes."""
        return DataSetInfo(self.name, (), (), channels=4, nodata=0)

    def available(self) -> tuple[str, ...]:
        """train.

        Raises:
            ValueError: the folder is missing or has no dated file.
        """
        _dated(self.root)
        return ("train",)

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The chips of each date in turn, after the dates that cannot be read.

        Raises:
            ValueError: unknown split; the folder is missing or has no dated file.
        """
        if split not in self.available():
            raise ValueError(f"split {split!r}: {self.name} has train")
        opened = open_scenes(_dated(self.root), SeriesDescription(self.name, (str(self.root),), AERIAL))
        grid = opened.scenes[0].grid
        areas: Areas = {"train": ((0, 0, grid.height, grid.width),)}
        return SeriesSource(self.info, opened.scenes, areas, opened.rejections).samples(split)


class NaipLandcover:
    """Reader of `patch_<n>_RGBIR.tif` with `patch_<n>_label.tif`: aerial patches with land cover. One split, train."""

    name = "naip-landcover"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def info(self) -> DataSetInfo:
        """Chesapeake Conservancy's six classes, which the files number 1..6; 2, 3 and 5 occur in these patches."""
        classes = ("water", "forest", "field", "barren", "impervious (other)", "impervious (road)")
        colours = ((0, 0, 255), (0, 128, 0), (128, 255, 128), (128, 96, 0), (128, 128, 128), (64, 64, 64))
        ignored = (0, 15, IGNORE_LABEL)
        return DataSetInfo(self.name, classes, colours, ignored, 4, (1, 2, 3, 4, 5, 6), nodata=0)

    def available(self) -> tuple[str, ...]:
        """train.

        Raises:
            ValueError: the folder is missing or has no patch.
        """
        self._patches()
        return ("train",)

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The patches in the order of their names.

        Raises:
            ValueError: unknown split; the folder is missing or has no patch.
        """
        if split not in self.available():
            raise ValueError(f"split {split!r}: {self.name} has train")
        for path in self._patches():
            truth = path.with_name(path.name.replace("_RGBIR", "_label"))
            if not truth.is_file():
                yield halved(path, truth, [truth])
                continue
            try:
                scene = open_scene(path, SceneOptions(bands=AERIAL))
                for sample in scene_chips(scene, split, self.info, self.name):
                    labels = read_labels(truth, Grid.from_json(str(sample.georeference)))
                    yield replace(sample, mask=labels_png(labels, {n: n for n in range(256)}, 0))
            except ValueError as error:
                yield _rejection(path, error)

    def _patches(self) -> list[Path]:
        paths = sorted(self.root.glob("patch_*_RGBIR.tif"))
        if not paths:
            raise ValueError(f"{self.root}: no folder with patch_<n>_RGBIR.tif: {_KEEP}")
        return paths


def _dated(root: Path) -> tuple[Acquisition, ...]:
    """The dates of a folder.

    Raises:
        ValueError: no such folder, or no raster in it whose name has a date.
    """
    if not any(date_in(path.stem) for path in root.glob("*.tif")):
        raise ValueError(f"{root}: no folder with GeoTIFFs named by date: {_KEEP}")
    return find_files([str(root)], root, DateRule()).acquisitions


def _rejection(path: Path, error: ValueError) -> Rejection:
    return Rejection(str(path), str(error).removeprefix(f"{path}: "))
