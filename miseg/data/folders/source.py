"""The reader of own images and masks: from a description to samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from miseg.data.checks import BadFileError, encode_png
from miseg.data.folders.description import Description
from miseg.data.folders.encoding import MaskEncoding
from miseg.data.folders.hf_parquet import content
from miseg.data.folders.label_readers import (
    LabelReader,
    RememberedLabels,
    mask_name,
    masks_show_stored,
    read_masks,
    read_outlines,
    turned_size,
)
from miseg.data.folders.names.arrange import arrange
from miseg.data.folders.names.belonging import counted
from miseg.data.folders.names.exports import arrange_coco, arrange_parquet
from miseg.data.folders.names.layout import Arrangement, Layout, Record
from miseg.data.folders.names.splits import block_splits, draw_splits, in_order, leaks, shares_of
from miseg.data.folders.pixels import PixelFormat, read_image, survey_images
from miseg.data.listing import quantity
from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample

DEFAULT_SHARES = (0.7, 0.15, 0.15)
"""Of train, val and test, where there are no splits."""
VALIDATION_SHARES = (0.85, 0.15)
"""Of train and val, where there are splits but none to validate on."""


@dataclass(frozen=True)
class FolderSource:
    """Own images and masks, all of whose splits are known; made by `open_folders`.

    Attributes:
        info: name, classes, colours and channels.
        records: the images, each with its split.
        rejections: by split, files that are not packed.
        labels: how labels are read; None where there are none.
        encoding: how masks are read; None where there are none.
        pixels: how images are read.
        sentences: what was understood without being told, to be printed.
        as_stored: whether masks show images with an EXIF orientation as they are stored, not as they are to be seen.
    """

    info: DataSetInfo
    records: tuple[Record, ...]
    rejections: dict[str | None, tuple[Rejection, ...]]
    labels: LabelReader | None
    encoding: MaskEncoding | None
    pixels: PixelFormat
    sentences: tuple[str, ...]
    as_stored: bool = False

    def available(self) -> tuple[str, ...]:
        """The splits that have images, train first."""
        return in_order(record.split for record in self.records if record.split is not None)

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The split's images in order of lists, else of names; before them what cannot be paired.

        Raises:
            ValueError: no such split.
        """
        splits = self.available()
        if split not in splits:
            raise ValueError(f"split {split!r}: {self.info.name} has {', '.join(splits)}")
        yield from self.rejections.get(split, ())
        if split == splits[0]:
            # Those whose split nobody knows are told once.
            for other, rejections in self.rejections.items():
                yield from rejections if other not in splits else ()
        for record in self.records:
            if record.split == split:
                yield self._sample(record, split)

    def _sample(self, record: Record, split: str) -> Sample | Rejection:
        labels = None
        try:
            # Without an object, labels are as large as the image, which is read first.
            if self.labels is not None and record.labelled and record.masks != ():
                labels = self.labels.labels(record)
        except BadFileError as error:
            return Rejection(mask_name(record), str(error))
        try:
            size = None if labels is None else labels.shape[:2]
            if record.masks == () and self.as_stored:
                size = turned_size(record.image)
            image = read_image(content(record.image), self.pixels, size)
        except BadFileError as error:
            return Rejection(str(record.image), str(error))
        try:
            if self.labels is not None and record.masks == ():
                labels = self.labels.labels(record, image.size)
        except BadFileError as error:
            return Rejection(str(record.valid), str(error))
        if labels is not None and image.valid is not None and image.valid.shape == labels.shape:
            labels[~image.valid] = IGNORE_LABEL
        mask = None if labels is None else encode_png(labels)
        return Sample(f"{split}/{record.name}", split, image.image, mask)


def open_folders(description: Description, root: Path) -> FolderSource:
    """The reader of what `description` describes, with splits drawn where there are none.

    Args:
        description: what lies where and what masks hold.
        root: folder that its relative paths start from.

    Raises:
        ValueError: files that cannot be found, paired or understood, in one sentence with the mend.
    """
    shares = shares_of(description.split) if description.split else None
    arrangement = _arrange(description.layout, root)
    records = arrangement.records
    if not records:
        first = next(iter(rejection for some in arrangement.rejections.values() for rejection in some))
        raise ValueError(f"not one image can be packed; {first.file}: {first.reason}")
    pixels = survey_images(record.image for record in records)
    masks = None if arrangement.coco else read_masks(records, description.options, description.encoding)
    reader = read_outlines(arrangement.coco, description.options) if arrangement.coco else masks
    encoding = None if masks is None else masks.encoding
    labels = None if reader is None else RememberedLabels(reader)
    records, drawn, drawing = _with_splits(arrangement, labels, shares, description)
    sentences = (*arrangement.sentences, *drawing, *pixels.notes, *(encoding.notes if encoding is not None else ()))
    info = DataSetInfo(
        description.name,
        labels.classes if labels is not None else (),
        labels.colours if labels is not None else (),
        channels=pixels.channels,
        full_scale=pixels.full_scale,
        nodata=pixels.nodata,
        dtype=pixels.dtype,
        drawn=drawn,
        groups={f"{record.split}/{record.name}": record.group for record in records if record.group is not None},
    )
    as_stored = masks_show_stored(records)
    return FolderSource(info, records, arrangement.rejections, labels, encoding, pixels, sentences, as_stored)


def _arrange(layout: Layout, root: Path) -> Arrangement:
    if layout.coco:
        return arrange_coco(layout, root)
    return arrange_parquet(layout, root) if layout.parquet else arrange(layout, root)


def _with_splits(
    arrangement: Arrangement, reader: RememberedLabels | None, shares: dict[str, float] | None, description: Description
) -> tuple[tuple[Record, ...], dict | None, list[str]]:
    """Records with their splits, what was drawn, and sentences on it."""
    records = arrangement.records
    splits = {record.name: record.split for record in records if record.split is not None}
    undrawn = [record for record in records if record.split is None]
    sentences = []
    if undrawn:
        labelled = any(record.labelled for record in undrawn)
        shares = shares or (shares_of(DEFAULT_SHARES) if labelled else {"train": 1.0})
    elif "train" in splits.values() and "val" not in splits.values() and reader is not None:
        if shares is not None and "test" in shares:
            raise ValueError(_has_splits(splits, "--split takes the shares of train and val alone, as test is there"))
        undrawn = [record for record in records if record.split == "train"]
        shares = shares or shares_of(VALIDATION_SHARES)
    elif shares is not None:
        raise ValueError(_has_splits(splits, "leave --split out"))
    else:
        shares = {}
    drawn = None
    if len(shares) > 1:
        members: dict[str, list[str]] = {}
        for record in undrawn:
            members.setdefault(record.name if record.group is None else record.group, []).append(record.name)
        how: dict[str, Any]
        if description.split_blocks:
            by_group, how, told = block_splits(members, shares), {"blocks": True}, "cut into runs of names"
        else:
            by_group = draw_splits(members, _shown_classes(undrawn, reader), shares, description.seed)
            how, told = {"seed": description.seed}, f"drawn with seed {description.seed}"
        by_name = {name: by_group[group] for group, names in members.items() for name in names}
        drawn = {
            **how,
            "shares": shares,
            "ids": {split: sorted(name for name in by_name if by_name[name] == split) for split in shares},
        }
        if any(record.group is not None for record in undrawn):
            drawn["groups"] = {group: by_group[group] for group in sorted(by_group)}
        splits |= by_name
        notes = [" ".join(f"{share:g}" for share in shares.values())]
        notes += ["by groups"] * ("groups" in drawn) + ["each class in its share"] * (not description.split_blocks)
        sentences.append(f"splits {told} ({', '.join(notes)}): {counted(by_name.values())}")
    elif description.split_blocks:
        raise ValueError(
            "--split-blocks is for images whose splits are drawn, and of these none are: leave it out, or give --split"
        )
    else:
        splits |= {record.name: next(iter(shares), "train") for record in records if record.name not in splits}
    if "train" not in splits.values():
        sentences.append(
            f"no split is train ({counted(splits.values())}), and all that trains needs one: take in "
            "its images, or leave {split} out and give --no-split-folders to draw splits"
        )
    sentences += _leaks(records, splits)
    return tuple(replace(record, split=splits[record.name]) for record in records), drawn, sentences


def _has_splits(splits: Mapping[str, str], mend: str) -> str:
    return (
        f"--split is for images without splits, and these have some ({counted(splits.values())}): {mend}, or say "
        "--no-split-folders where folders give them"
    )


def _shown_classes(records: list[Record], reader: RememberedLabels | None) -> dict[str, frozenset[int]]:
    """Classes that each image's labels show, by its name; none where they cannot be read: packing rejects it."""
    shown = {}
    for record in records:
        shown[record.name] = frozenset[int]()
        if reader is None or not record.labelled:
            continue
        if record.masks == ():
            # No object: all of it is background, the first class.
            shown[record.name] = frozenset([0])
            continue
        try:
            labels = reader.look(record)
        except BadFileError:
            continue
        counts = np.bincount(labels.ravel(), minlength=IGNORE_LABEL + 1)[:IGNORE_LABEL]
        shown[record.name] = frozenset(np.flatnonzero(counts).tolist())
    return shown


def _leaks(records: tuple[Record, ...], splits: Mapping[str, str]) -> list[str]:
    groups = {record.name: record.group for record in records if record.group is not None}
    shared = leaks(groups, splits)
    if not shared:
        return []
    return [
        f"{quantity(len(shared), 'group', 'is', 'are')} in several splits, such as {shared[0]}: scores would flatter "
        "the model"
    ]
