"""Options of published data sets, and the reader that they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from miseg import plugins
from miseg.commands.prepare.packing import PackingOptions

if TYPE_CHECKING:
    from miseg.data.samples import Source

DESCRIBED = ("drive", "membrane", "nuclei")
# Their readers take a second to import, which --help need not wait for; a test compares the names.
OWN = (
    *("embedded", "camvid", "voc", "voc-aug", "cityscapes", "ade20k", "potsdam", "potsdam-3", "coco-stuff-15"),
    *("coco-persons", "textures", "sentinel2-flanders", "sentinel2-flanders-halves", "naip-series", "naip-landcover"),
    *DESCRIBED,
)
if TYPE_CHECKING:
    DataSet = str
else:
    DataSet = Literal[(*OWN, *(name for name in plugins.declared("miseg.datasets") if name not in OWN))]


@dataclass(frozen=True)
class PublishedOptions(PackingOptions):
    """Options of published data sets."""

    data: DataSet | None = None
    """Published data set, by default embedded: street scenes drawn by the program; CamVid in the SegNet layout; PASCAL
    VOC 2012; VOC 2012 with SBD's
    masks added to train (trainaug); Cityscapes with fine annotations; ADE20K's 150 classes; ISPRS Potsdam with 6 or 3
    classes; the 15 kinds of stuff of COCO-Stuff, and people in COCO, both shrunk to 0.33 and val cut to the middle
    128 x 128 as for IIC; two textures of the same colours, drawn by the program; a Sentinel-2 series with crop types,
    whole or with its west half as train and its east half as val; an aerial series without labels; aerial patches with
    land cover; vessels of the retina (DRIVE); membranes of neurons (ISBI 2012); nuclei (Data Science Bowl 2018); or
    what another package adds."""
    root: Path | None = None
    """Folder of the published files; by default the data set's name under $MISEG_DATA (voc for voc-aug, potsdam for
    potsdam-3, coco_stuff, coco for coco-persons, sentinel2_flanders for both of its, naip_series, naip_landcover). What
    is drawn has none."""
    image_list: Path | None = None
    """COCO-Stuff only: text file with the ids of the images to pack, one a line, of the one split in --splits. By
    default IIC's lists in curated/ under the root; without them the images that IIC's rule takes: both sides of 360
    pixels or more, and stuff on 75 % of the pixels or more."""
    curated: bool = True
    """COCO-Stuff only: --no-curated packs every image."""
    train: int = 240
    """Embedded only: number of training scenes."""
    val: int = 48
    """Embedded only: number of validation scenes."""
    test: int = 48
    """Embedded only: number of test scenes."""
    height: int = 96
    """Embedded only: pixels."""
    width: int = 128
    """Embedded only: pixels."""


def open_source(settings: PublishedOptions) -> Source:
    """The reader of the published data set that `settings` describe.

    Raises:
        ValueError: a root for the embedded set, or none for another and no default; a choice of images for a data set
            that has none.
    """
    # Not at the top: --help must not wait for them.
    from miseg.data.sources import registry

    name = settings.data or "embedded"
    if name != "coco-stuff-15" and (settings.image_list is not None or not settings.curated):
        raise ValueError(f"--image-list and --no-curated are for coco-stuff-15: leave them out for {name}")
    if name == "embedded" and settings.root is None:
        counts = {"train": settings.train, "val": settings.val, "test": settings.test}
        return registry.Embedded(counts, settings.seed, settings.height, settings.width)
    root = settings.root.expanduser() if settings.root is not None else None
    source = registry.open_source(name, root)
    if isinstance(source, registry.CocoStuff15):
        image_list = settings.image_list.expanduser() if settings.image_list is not None else None
        return registry.CocoStuff15(source.root, image_list, settings.curated)
    return source
