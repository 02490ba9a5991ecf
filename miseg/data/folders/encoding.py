"""From what mask files hold (ids, colours, grey levels, objects) to labels of classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from miseg.data.checks import BadFileError
from miseg.data.samples import IGNORE_LABEL

Colour = tuple[int, int, int]
Kind = Literal["ids", "threshold", "objects", "colours"]
MaskFile = Path | bytes | tuple[Path | bytes, ...]
"""A mask: a file, its bytes, or the files of an image's objects, one each."""


@dataclass(frozen=True)
class MaskOptions:
    """What the user says of the masks; all of it may be left out.

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
    """How the masks of a data set are read, as `survey_masks` found it or a description file says.

    Attributes:
        kind: "ids" (grey values or a palette's indices), "threshold" (grey levels), "objects" (everything that is not
            0 or black is the one class beside the background) or "colours" (RGB).
        classes: K names in label order, 1 <= K <= 255.
        colours: K (red, green, blue) colours, 0..255, for pictures of maps.
        values: for ids, (id, label) in the order of ids; several ids may have one label.
        colour_values: for colours, ((red, green, blue), label).
        ignore: ids whose pixels count nowhere.
        ignore_colours: colours likewise.
        threshold: for a threshold, the grey level from which a pixel has label 1.
        notes: sentences on what was understood without being told; to be printed.
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

    def labels(
        self, mask: MaskFile, valid: Path | bytes | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Labels of a mask, uint8 [H, W]: 0..K-1, and 255 where a pixel counts nowhere.

        Args:
            mask: file, bytes, or the files of an image's objects, one each.
            valid: mask of the pixels that count, those that are not 0; None: all.
            size: (height, width) of the image in pixels, for messages, and for an image without an object.

        Raises:
            BadFileError: no picture, a value that the encoding does not know, or another size than `size`.
        """
        if isinstance(mask, tuple):
            raise BadFileError("several files a mask: not yet")
        values = np.asarray(Image.open(mask))  # type: ignore[arg-type]
        table = np.full(256, -1, np.int16)
        for value, label in self.values:
            table[value] = label
        table[list(self.ignore)] = IGNORE_LABEL
        return table[values].astype(np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """The fields that say something, of plain lists, dicts, numbers and text, for a description file."""
        return {"kind": self.kind, "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, content: object) -> MaskEncoding:
        """The encoding that `to_dict` described.

        Raises:
            ValueError: a field that is missing, unknown or malformed.
        """
        raise ValueError("not yet")


def survey_masks(masks: Iterable[Path | tuple[Path, ...]], options: MaskOptions) -> MaskEncoding:
    """The encoding of a data set's masks, all of which are read.

    Args:
        masks: files, or the files of each image's objects; each is read once, in order.
        options: what the user says of them.

    Raises:
        ValueError: no mask; masks that cannot be understood without a word from the user, or that contradict it. The
            message is one sentence that names the file, the value and the option.
    """
    seen: set[int] = set()
    for mask in masks:
        seen |= set(np.unique(np.asarray(Image.open(mask))).tolist())  # type: ignore[arg-type]
    names = options.classes or tuple(str(value) for value in sorted(seen))
    colours = tuple((number, number, number) for number in range(len(names)))
    return MaskEncoding("ids", names, colours, tuple((value, label) for label, value in enumerate(sorted(seen))))
