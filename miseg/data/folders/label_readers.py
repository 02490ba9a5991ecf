"""Readers of an image's labels: from its mask files, or from its outlines."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from miseg.data.checks import BadFileError
from miseg.data.folders.class_tables import distinct_colours
from miseg.data.folders.coco_json import BACKGROUND, CocoFile, class_labels, labels_of
from miseg.data.folders.encoding import MaskEncoding, MaskFile, MaskOptions
from miseg.data.folders.hf_parquet import ParquetCell, content
from miseg.data.folders.mask_files import Colour
from miseg.data.folders.mask_survey import MaskSurvey
from miseg.data.folders.names.layout import Record
from miseg.data.folders.outlines import OutlineError
from miseg.data.picture_files import OF_DAMAGED, open_header

_MOST_KEPT = 2**28
_ORIENTATION = 0x0112


class LabelReader(Protocol):
    """Classes of a data set, and the labels of its images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """K names in label order."""

    @property
    def colours(self) -> tuple[Colour, ...]:
        """K (red, green, blue) colours, 0..255."""

    def labels(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
        """Labels of an image, uint8 [H, W]: 0..K-1, and 255 where a pixel counts nowhere.

        Args:
            record: the image.
            size: its (height, width) in pixels; needed where it has no mask since it shows no object.

        Raises:
            BadFileError: they cannot be read; the message is the reason.
        """


@dataclass(frozen=True)
class MaskLabels:
    """Labels from mask files.

    Attributes:
        encoding: how they are read.
    """

    encoding: MaskEncoding

    @property
    def classes(self) -> tuple[str, ...]:
        """K names in label order."""
        return self.encoding.classes

    @property
    def colours(self) -> tuple[Colour, ...]:
        """K (red, green, blue) colours, 0..255."""
        return self.encoding.colours

    def labels(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
        """Labels of an image, as `LabelReader.labels`."""
        return self.encoding.labels(mask_of(record), record.valid, size)


@dataclass(frozen=True)
class OutlineLabels:
    """Labels from outlines.

    Attributes:
        classes: K names in label order.
        colours: K (red, green, blue) colours, 0..255.
        label_of: label by category.
        background: label where no outline is.
    """

    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    label_of: dict[int, int]
    background: int

    def labels(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
        """Labels of an image, as `LabelReader.labels`."""
        assert record.outlined is not None
        try:
            return labels_of(record.outlined, self.label_of, self.background)
        except OutlineError as error:
            raise BadFileError(str(error)) from None


class RememberedLabels:
    """Labels that are read once though they are asked for twice: to draw splits, and to be packed.

    Args:
        reader: of labels; those that were read are kept, compressed, until they are asked for again.
    """

    def __init__(self, reader: LabelReader) -> None:
        self.reader = reader
        self._kept: dict[str, tuple[tuple[int, ...], bytes]] = {}
        self._size = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """K names in label order."""
        return self.reader.classes

    @property
    def colours(self) -> tuple[Colour, ...]:
        """K (red, green, blue) colours, 0..255."""
        return self.reader.colours

    def labels(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
        """Labels of an image, as `LabelReader.labels`."""
        if record.name in self._kept:
            shape, packed = self._kept.pop(record.name)
            self._size -= len(packed)
            # An array of its own, for whoever writes into it.
            return np.frombuffer(bytearray(zlib.decompress(packed)), np.uint8).reshape(shape)
        return self.reader.labels(record, size)

    def look(self, record: Record) -> np.ndarray:
        """Labels of an image, kept for the next call of `labels`."""
        labels = self.reader.labels(record)
        packed = zlib.compress(labels.tobytes(), 1)
        if self._size + len(packed) <= _MOST_KEPT:
            self._kept[record.name] = labels.shape, packed
            self._size += len(packed)
        return labels


def read_masks(records: tuple[Record, ...], options: MaskOptions, encoding: MaskEncoding | None) -> MaskLabels | None:
    """The reader of the masks of `records`, all of which are surveyed where there is no `encoding`; None without masks.

    Raises:
        ValueError: as `survey_masks`; images that are all background beside masks of several classes.
    """
    masked = [record for record in records if record.masks]
    if encoding is None:
        if not masked:
            return None
        survey = MaskSurvey(options)
        for record in masked:
            try:
                survey.add(mask_of(record), mask_name(record))
            except BadFileError:
                continue  # a cell without picture, which packing rejects
        encoding = survey.encoding()
    bare = next((record for record in records if record.masks == ()), None)
    if bare is not None and len(encoding.classes) != 2:
        raise ValueError(
            f"--without-mask background: masks have {len(encoding.classes)} classes, not one beside the background, so "
            f"that nothing says what {bare.image} shows: say leave-out, or give it a mask"
        )
    return MaskLabels(encoding)


def read_outlines(files: tuple[CocoFile, ...], options: MaskOptions) -> OutlineLabels:
    """The reader of the outlines of COCO files.

    Raises:
        ValueError: options of mask files; files whose categories differ.
    """
    default = MaskOptions()
    for name in ("classes", "colours", "ids", "foreground", "threshold", "instances"):
        if getattr(options, name) != getattr(default, name):
            raise ValueError(f"--{name} beside --coco: its categories are the classes; leave it out")
    if numbers := [value for value in options.ignore if not isinstance(value, str)]:
        raise ValueError(f"--ignore {numbers[0]} beside --coco: give the name of a category")
    names, label_of, background = class_labels(files, [str(name) for name in options.ignore])
    colours = distinct_colours(len(names), background=names[:1] == (BACKGROUND,))
    return OutlineLabels(names, colours, label_of, background)


def mask_of(record: Record) -> MaskFile:
    """A record's mask for a `MaskEncoding`: a file, its bytes, or the files of objects.

    Raises:
        BadFileError: a cell of a Parquet file without picture.
    """
    assert record.masks is not None
    files = tuple(content(file) for file in record.masks)
    return files[0] if len(files) == 1 else files


def mask_name(record: Record) -> str:
    """Name of a record's mask in messages: of its file, or of the image where it shows no object."""
    if record.outlined is not None or not record.masks:
        return str(record.image)
    return str(record.masks[0])


def turned_size(file: Path | ParquetCell) -> tuple[int, int] | None:
    """(height, width) as stored of an image that its EXIF orientation turns onto its side; None of any other."""
    size, orientation = _header(file)
    return size if size is not None and orientation in range(5, 9) and size[0] != size[1] else None


def masks_show_stored(records: Iterable[Record]) -> bool:
    """Whether masks show images as stored, by the first that tells; asked where an image has none to tell by.

    An image that shows no object then lies as those that show some.
    """
    records = list(records)
    if not any(record.masks == () and turned_size(record.image) for record in records):
        return False
    for record in records:
        if record.masks and (stored := turned_size(record.image)) is not None:
            size, _ = _header(record.masks[0])
            if size in (stored, stored[::-1]):
                return size == stored
    return False


def _header(file: Path | ParquetCell) -> tuple[tuple[int, int] | None, int]:
    """(height, width) as stored, None where the header cannot be read, and EXIF orientation."""
    try:
        data = content(file)
        with open_header(data) as picture:
            return (picture.height, picture.width), picture.getexif().get(_ORIENTATION, 1)
    except (*OF_DAMAGED, BadFileError):
        return None, 1
