"""Places of images, masks and splits, as the user gives them and as they were found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from miseg.data.folders.coco_json import CocoFile, Outlined
from miseg.data.folders.hf_parquet import ParquetCell
from miseg.data.samples import Rejection

WithoutMask = Literal["reject", "leave-out", "unlabelled", "background"]


@dataclass(frozen=True)
class Layout:
    """Patterns of images and masks, and rules for splits and groups.

    Attributes:
        images: patterns, folders or files; none where lists name the images.
        masks: likewise; none for images without labels, or where lists name the masks.
        valid: likewise, of masks that are not 0 where a pixel counts.
        coco: patterns of COCO's JSON files; then `images` is the folder that their file names start from, by default
            their own.
        parquet: patterns of Parquet files that hold images and masks.
        columns: their columns of the image, and of the mask; none: those with the usual names.
        lists: patterns of list files, one a split; where there are any, images that none names are left out.
        group: regular expression whose first group, in an image's name, is what belongs together: a patient, a clip.
        split_folders: whether folders named train, val or test say the split.
        without_mask: what becomes of an image without mask where others have one.
        several_masks: whether an image may have several masks, one an object.
    """

    images: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    coco: tuple[str, ...] = ()
    parquet: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    group: str | None = None
    split_folders: bool = True
    without_mask: WithoutMask = "reject"
    several_masks: bool = False


@dataclass(frozen=True)
class Record:
    """An image with what belongs to it.

    Attributes:
        name: unique among the data set's images; with the split before it, the sample's id.
        image: its file.
        masks: the files of its mask; several where each is an object, an empty tuple where it shows none; None without
            labels.
        valid: the mask of its pixels that count.
        split: None where splits are still to be drawn.
        group: what it belongs to; None where nothing says.
        outlined: its outlines, in place of masks.
    """

    name: str
    image: Path | ParquetCell
    masks: tuple[Path | ParquetCell, ...] | None = None
    valid: Path | None = None
    split: str | None = None
    group: str | None = None
    outlined: Outlined | None = None

    @property
    def labelled(self) -> bool:
        """Whether something says what its pixels show."""
        return self.masks is not None or self.outlined is not None


@dataclass(frozen=True)
class Arrangement:
    """All of a data set's images.

    Attributes:
        records: in the order of lists, else by name.
        rejections: files that are not packed, by split; by None where no split is known.
        sentences: what was understood, to be printed.
        coco: the files of the outlines, where images have some.
    """

    records: tuple[Record, ...]
    rejections: dict[str | None, tuple[Rejection, ...]] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()
    coco: tuple[CocoFile, ...] = ()
