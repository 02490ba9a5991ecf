"""The data sets that can be packed, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from miseg import plugins
from miseg.data.checks import encode_png
from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample, Source
from miseg.data.sources.ade20k import ADE20K
from miseg.data.sources.camvid import CamVid
from miseg.data.sources.cityscapes import Cityscapes
from miseg.data.sources.coco.persons import CocoPersons
from miseg.data.sources.coco.stuff import CocoStuff15
from miseg.data.sources.described import DESCRIBED, open_described
from miseg.data.sources.potsdam import Potsdam
from miseg.data.sources.sbd import VocAug
from miseg.data.sources.scenes import NaipLandcover, NaipSeries, Sentinel2Flanders
from miseg.data.sources.street_scenes.streets import CLASSES, COLOURS, HEIGHT, WIDTH, draw_scene
from miseg.data.sources.textures import Textures
from miseg.data.sources.voc import Voc

__all__ = [
    "DATA_SETS",
    "IGNORE_LABEL",
    "CocoStuff15",
    "DataSetInfo",
    "Embedded",
    "Rejection",
    "Sample",
    "Source",
    "open_source",
]

DEFAULT_COUNTS = {"train": 240, "val": 48, "test": 48}


@dataclass(frozen=True)
class Embedded:
    """Street scenes drawn by the program: nothing to download.

    Attributes:
        counts: scenes by split; every split has scenes of its own.
        seed: 0 or more; another seed gives other scenes.
        height: pixels.
        width: pixels.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict(DEFAULT_COUNTS))
    seed: int = 0
    height: int = HEIGHT
    width: int = WIDTH

    def __post_init__(self) -> None:
        for split, count in self.counts.items():
            if count < 0 or split not in DEFAULT_COUNTS:
                raise ValueError(f"{split} = {count}: give 0 or more scenes for {', '.join(DEFAULT_COUNTS)}")

    @property
    def info(self) -> DataSetInfo:
        """CamVid's eleven classes and colours; unlabelled pixels are 255 already."""
        return DataSetInfo("embedded", CLASSES, COLOURS)

    def available(self) -> tuple[str, ...]:
        """The splits with at least one scene."""
        return tuple(split for split, count in self.counts.items() if count)

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The split's scenes as PNG bytes.

        Raises:
            ValueError: a split without scenes.
        """
        if split not in self.available():
            raise ValueError(f"split {split!r}: the embedded set is drawn with {', '.join(self.available()) or 'none'}")
        first = list(DEFAULT_COUNTS).index(split) * 10**6
        for number in range(self.counts[split]):
            image, mask = draw_scene(self.seed, first + number, height=self.height, width=self.width)
            yield Sample(f"{split}/{number:05d}", split, encode_png(image), encode_png(mask))


def _published(name: str, folder: str, reader: Callable[[Path], Source]) -> Callable[[Path | None], Source]:
    """Opens `reader` on a root, or on `folder` in the place that MISEG_DATA names."""

    def make(root: Path | None) -> Source:
        if root is not None:
            return reader(root)
        if not os.environ.get("MISEG_DATA"):
            raise ValueError(
                f"{name}: give its folder with --root, or set MISEG_DATA to the folder that holds {folder}/"
            )
        return reader(Path(os.environ["MISEG_DATA"]) / folder)

    return make


def _drawn(name: str, draw: Callable[[], Source]) -> Callable[[Path | None], Source]:
    def make(root: Path | None) -> Source:
        if root is not None:
            raise ValueError(f"root = {root}: {name} is drawn by the program; leave the root out")
        return draw()

    return make


DATA_SETS: dict[str, Callable[[Path | None], Source]] = {
    "embedded": _drawn("the embedded set", Embedded),
    "camvid": _published("camvid", "camvid", CamVid),
    "voc": _published("voc", "voc", Voc),
    "voc-aug": _published("voc-aug", "voc", VocAug),
    "cityscapes": _published("cityscapes", "cityscapes", Cityscapes),
    "ade20k": _published("ade20k", "ade20k", ADE20K),
    "potsdam": _published("potsdam", "potsdam", Potsdam),
    "potsdam-3": _published("potsdam-3", "potsdam", lambda root: Potsdam(root, classes=3)),
    "coco-stuff-15": _published("coco-stuff-15", "coco_stuff", CocoStuff15),
    "coco-persons": _published("coco-persons", "coco", CocoPersons),
    "textures": _drawn("textures", Textures),
    "sentinel2-flanders": _published("sentinel2-flanders", "sentinel2_flanders", Sentinel2Flanders),
    "sentinel2-flanders-halves": _published(
        "sentinel2-flanders-halves", "sentinel2_flanders", lambda root: Sentinel2Flanders(root, halves=True)
    ),
    "naip-series": _published("naip-series", "naip_series", NaipSeries),
    "naip-landcover": _published("naip-landcover", "naip_landcover", NaipLandcover),
}
"""Name -> function from the root of the published files (None: the default place) to the reader.

Those of other packages are behind miseg's own; a package is imported when its data set is opened."""


def _of_a_package(name: str, load: Callable[[], Callable[[Path | None], Source]]) -> Callable[[Path | None], Source]:
    def make(root: Path | None) -> Source:
        source = load()(root)
        if not isinstance(source, Source):
            raise ValueError(
                f"data set {name!r}: its package gave {type(source).__name__}, no miseg.data.samples.Source; mend that "
                "package"
            )
        return source

    return make


DATA_SETS |= {name: _of_a_package(name, load) for name, load in plugins.loaders("miseg.datasets", DATA_SETS).items()}


def open_source(name: str, root: Path | None = None) -> Source:
    """The reader of the data set `name`, whose files are under `root` (None: the default place).

    Raises:
        ValueError: unknown name (the message lists the known ones), or no default place is known.
    """
    if name in DESCRIBED:
        return open_described(name, root)
    if name not in DATA_SETS:
        raise ValueError(f"data set {name!r} is unknown: use one of {', '.join((*DATA_SETS, *DESCRIBED))}")
    return DATA_SETS[name](root)
