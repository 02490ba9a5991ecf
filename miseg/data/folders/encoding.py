"""From what mask files hold (ids, colours, grey levels, objects) to labels of classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from miseg.data.checks import BadFileError, read_bytes
from miseg.data.folders.mask_files import Colour, MaskPixels, count_values, pack_colours, read_mask, unpack_colour
from miseg.data.samples import IGNORE_LABEL

Kind = Literal["ids", "threshold", "objects", "colours"]
MaskFile = Path | bytes | tuple[Path | bytes, ...]
"""A mask: a file, its bytes, or the files of an image's objects, one each."""

MOST_CLASSES = IGNORE_LABEL
"""Classes that labels of 8 bits tell apart, 0..254."""


@dataclass(frozen=True)
class MaskOptions:
    """Options of reading masks: the user's word on what their values mean; all of it may be left out.

    Attributes:
        classes: K names in label order.
        colours: CSV file of classes by colour: name,r,g,b or r,g,b,name.
        ids: CSV file of classes by id: id,name; several ids of one name are one class.
        foreground: ids of the one class beside the background.
        threshold: grey level from which a pixel is foreground, for masks that compression or smoothing blurred.
        ignore: ids, or names of classes, whose pixels count nowhere.
        instances: whether each id, or colour that is not black, is an object of the one class beside the background.
    """

    classes: tuple[str, ...] = ()
    colours: Path | None = None
    ids: Path | None = None
    foreground: tuple[int, ...] = ()
    threshold: float | None = None
    ignore: tuple[int | str, ...] = ()
    instances: bool = False


@dataclass(frozen=True)
class MaskEncoding:
    """Rule by which the masks of a data set become labels, from `mask_survey.survey_masks` or a description file.

    Attributes:
        kind: "ids" (grey values or a palette's indices), "threshold" (grey levels), "objects" (everything that is not
            0 or black is the one class beside the background) or "colours" (RGB).
        classes: K names in label order, 1 <= K <= 255.
        colours: K (red, green, blue) colours, 0..255, for pictures of maps.
        values: for ids, (id, label) in the order of ids; several ids may have one label.
        colour_values: for colours, ((red, green, blue), label).
        ignore: ids, or grey levels, whose pixels count nowhere.
        ignore_colours: colours likewise.
        threshold: for a threshold, the grey level from which a pixel has label 1.
        notes: sentences on what was understood without being told; to be printed.

    Raises:
        ValueError: no class, more than 255, a name twice, or fields that do not belong together.
    """

    kind: Kind
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    values: tuple[tuple[int, int], ...] = ()
    colour_values: tuple[tuple[Colour, int], ...] = ()
    ignore: tuple[int, ...] = ()
    ignore_colours: tuple[Colour, ...] = ()
    threshold: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"{len(self.classes)} classes: labels of 8 bits tell 1..{MOST_CLASSES} apart")
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            raise ValueError(f"class {twice[0]!r} stands twice: give each class a name of its own")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind {self.kind!r}: use one of {', '.join(get_args(Kind))}")
        if len(self.colours) != len(self.classes):
            raise ValueError(f"{len(self.colours)} colours for {len(self.classes)} classes: give one for each")
        if self.kind in ("threshold", "objects") and len(self.classes) != 2:
            raise ValueError(f"{len(self.classes)} classes of masks of one: name the background and that class")
        if (self.kind == "threshold") != (self.threshold is not None):
            raise ValueError(f"threshold {self.threshold} of masks of kind {self.kind!r}: they go together")
        labels = [label for _, label in (*self.values, *self.colour_values)]
        if labels and not 0 <= min(labels) <= max(labels) < len(self.classes):
            raise ValueError(f"labels {min(labels)}..{max(labels)} for {len(self.classes)} classes: use 0 and up")

    def labels(
        self, mask: MaskFile, valid: Path | bytes | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Labels of a mask, uint8 [H, W]: 0..K-1, and 255 where a pixel counts nowhere.

        Args:
            mask: file, bytes, or the files of an image's objects, one each; no object at all makes all background.
            valid: mask of the pixels that count, those that are not 0; None: all.
            size: (height, width) of the image in pixels; needed where there is no object.

        Raises:
            BadFileError: no picture, a value that the encoding does not know, or files of different sizes.
        """
        labels = self._objects(mask, size) if isinstance(mask, tuple) else self._labels(read_mask(read_bytes(mask)))
        if valid is not None:
            labels[~read_valid(valid, labels.shape)] = IGNORE_LABEL
        return labels

    def _labels(self, mask: MaskPixels) -> np.ndarray:
        if self.kind == "colours":
            return self._of_colours(mask.rgb())
        if self.kind == "threshold":
            return self._of_levels(mask.grey())
        if self.kind == "objects":
            return self._ignored(mask, np.asarray(mask.values.any(-1) if mask.values.ndim == 3 else mask.values != 0))
        return self._of_ids(mask.ids())

    def _ignored(self, mask: MaskPixels, objects: np.ndarray) -> np.ndarray:
        labels = objects.astype(np.uint8)
        if self.ignore and mask.is_grey():
            labels[np.isin(mask.grey(), self.ignore)] = IGNORE_LABEL
        return labels

    def _of_levels(self, levels: np.ndarray) -> np.ndarray:
        labels = (levels >= self.threshold).astype(np.uint8)
        # What is no number is on neither side of a level.
        labels[~np.isfinite(levels) | np.isin(levels, self.ignore)] = IGNORE_LABEL
        return labels

    def _objects(self, files: tuple[Path | bytes, ...], size: tuple[int, int] | None) -> np.ndarray:
        if not files and size is None:
            raise BadFileError("no object, and no size of the image: give it a mask of its size")
        labels = None if size is None else np.zeros(size, np.uint8)
        for file in files:
            objects = self._labels(read_mask(read_bytes(file)))
            labels = np.zeros_like(objects) if labels is None else labels
            if objects.shape != labels.shape:
                raise BadFileError(
                    f"object {_name(file)} is {objects.shape[0]}x{objects.shape[1]} pixels, its image or another "
                    f"object {labels.shape[0]}x{labels.shape[1]} (height x width): export all at one size"
                )
            np.maximum(labels, objects, out=labels)
        assert labels is not None
        return labels

    def _of_ids(self, ids: np.ndarray) -> np.ndarray:
        known = np.array([*(value for value, _ in self.values), *self.ignore], np.int64)
        given = np.array([*(label for _, label in self.values), *[IGNORE_LABEL] * len(self.ignore)], np.uint8)
        return _look_up(ids, known, given, lambda value: f"id {value}")

    def _of_colours(self, colours: np.ndarray) -> np.ndarray:
        ignored = [(colour, IGNORE_LABEL) for colour in self.ignore_colours]
        pairs = [(_code(colour), label) for colour, label in (*self.colour_values, *ignored)]
        known = np.array([code for code, _ in pairs], np.int64)
        given = np.array([label for _, label in pairs], np.uint8)
        return _look_up(pack_colours(colours), known, given, lambda code: f"colour {unpack_colour(code)}")

    def to_dict(self) -> dict[str, Any]:
        """The fields that say something, of plain lists, dicts, numbers and text, for a description file."""
        content: dict[str, Any] = {"kind": self.kind, "classes": list(self.classes)}
        content["colours"] = [list(colour) for colour in self.colours]
        if self.values:
            content["values"] = {value: self.classes[label] for value, label in self.values}
        if self.colour_values:
            content["colour_values"] = [[*colour, self.classes[label]] for colour, label in self.colour_values]
        if self.ignore:
            content["ignore"] = list(self.ignore)
        if self.ignore_colours:
            content["ignore_colours"] = [list(colour) for colour in self.ignore_colours]
        if self.threshold is not None:
            content["threshold"] = self.threshold
        return content

    @classmethod
    def from_dict(cls, content: object) -> MaskEncoding:
        """The encoding that `to_dict` described.

        Raises:
            ValueError: a field that is missing, unknown or malformed.
        """
        if not isinstance(content, dict):
            raise ValueError(f"masks: {str(content)[:60]!r} is no mapping of fields such as kind and classes")
        fields = ("kind", "classes", "colours", "values", "colour_values", "ignore", "ignore_colours", "threshold")
        if unknown := [name for name in content if name not in fields]:
            raise ValueError(f"masks: field {str(unknown[0])[:60]!r} is unknown: use {', '.join(fields)}")
        field = "kind"
        try:
            kind: Any = content["kind"]
            field = "classes"
            classes = tuple(str(name) for name in _list(content["classes"]))
            label_of = {name: label for label, name in enumerate(classes)}
            field = "colours"
            colours = tuple(_colour(colour) for colour in _list(content["colours"]))
            field = "values"
            values = {_whole(value): label_of[str(name)] for value, name in content.get("values", {}).items()}
            field = "colour_values"
            listed = [(_colour(line[:3]), label_of[str(line[3])]) for line in _list(content.get("colour_values", []))]
            field = "ignore"
            ignore = tuple(_whole(value) for value in _list(content.get("ignore", [])))
            ignore_colours = tuple(_colour(colour) for colour in _list(content.get("ignore_colours", [])))
            field = "threshold"
            threshold = None if content.get("threshold") is None else float(content["threshold"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            value = str(content.get(field, "nothing"))[:60]
            raise ValueError(f"masks: field {field!r} holds {value}, which is malformed ({error!r})") from None
        pairs = tuple(sorted(values.items()))
        return cls(kind, classes, colours, pairs, tuple(listed), ignore, ignore_colours, threshold)


def read_valid(valid: Path | bytes, size: tuple[int, ...]) -> np.ndarray:
    """The pixels that count by a mask of them, bool [H, W]: those that are not 0.

    Args:
        valid: file or bytes.
        size: (height, width) that it must have.

    Raises:
        BadFileError: another size, more than two values, or no pixel that counts.
    """
    mask = read_mask(read_bytes(valid))
    name = _name(valid)
    if mask.size != size:
        raise BadFileError(
            f"mask of valid pixels {name} is {mask.size[0]}x{mask.size[1]} pixels, the mask {size[0]}x{size[1]} "
            "(height x width): export both at one size"
        )
    values = mask.ids()
    seen = list(count_values(values, 2))
    if len(seen) > 2 or (len(seen) == 2 and 0 not in seen):
        raise BadFileError(
            f"mask of valid pixels {name} holds {', '.join(map(str, seen[:4]))}: give 0 outside and one other value"
        )
    if seen == [0]:
        raise BadFileError(f"mask of valid pixels {name} is 0 everywhere: leave the image out")
    return values != 0


def _look_up(values: np.ndarray, known: np.ndarray, labels: np.ndarray, name: Any) -> np.ndarray:
    """The label of each value; `name` makes a value's name for the message on one that is not known."""
    order = np.argsort(known)
    known, labels = known[order], labels[order]
    if values.dtype == np.uint8:
        # One look into a table of 256 rather than a search a pixel.
        table = np.minimum(np.searchsorted(known, np.arange(256)), len(known) - 1)
        where = table.astype(np.uint8)[values] if len(known) <= 256 else table[values]
    else:
        where = np.minimum(np.searchsorted(known, values), len(known) - 1)
    wrong = known[where] != values
    if wrong.any():
        first = int(values[wrong][0])
        raise BadFileError(
            f"{name(first)}, on {int((values == first).sum())} pixels, is no class of this data set: correct it, or "
            "give it a class"
        )
    return labels[where]


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _name(file: Path | bytes) -> str:
    return str(file) if isinstance(file, Path) else "(bytes)"


def _list(value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{str(value)[:40]!r} is no list")
    return list(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{str(value)[:40]!r} is no whole number")
    return value


def _colour(value: object) -> Colour:
    red, green, blue = (_whole(number) for number in _list(value))
    if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
        raise ValueError(f"{[red, green, blue]} is no colour of numbers 0..255")
    return red, green, blue
