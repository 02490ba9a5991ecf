"""Lists of images, or of pairs of images and masks, as text files of one a line or CSV tables with a header."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miseg.data.folders.names.patterns import MatchedFile
from miseg.data.listing import read_lines
from miseg.files import read_text

_BETWEEN = re.compile(r"[\s,;]+")
COLUMNS = ("image", "mask", "valid", "split", "group")
"""Columns of a CSV table that are read; image is needed."""


@dataclass(frozen=True)
class Line:
    """A line of a list that names an image.

    Attributes:
        line_address: the list's path and the line's number, for messages.
        image: the image.
        mask: its mask; None where the line names none.
        valid: the mask of its pixels that count; likewise.
        split: the split that a column of the line names.
        group: the group likewise.
    """

    line_address: str
    image: MatchedFile
    mask: MatchedFile | None = None
    valid: MatchedFile | None = None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class BadLine:
    """A line that names no image, with the reason and the mend."""

    line_address: str
    reason: str


class AmbiguousNameError(ValueError):
    """A name in a list that several files have; the message is the reason."""


class Names:
    """Files by the names that a list may give them.

    Args:
        files: those that may be named; None: any below `root`.
        root: folder that names are looked for in where `files` is None.
    """

    def __init__(self, files: Iterable[MatchedFile] | None, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[MatchedFile]] | None = None
        if files is not None:
            self._by_name = {}
            for file in files:
                name = unicodedata.normalize("NFC", file.path.name)
                for known in {name, file.stem}:
                    self._by_name.setdefault(known, []).append(file)

    def find(self, text: str) -> MatchedFile | None:
        """The file that `text` names: a name with or without ending, with or without folders before it.

        Where folders are named, the last of them is the file's; those before it may be of another machine.

        Raises:
            AmbiguousNameError: several files have the name.
        """
        parts = [part for part in text.strip().strip("\"'").replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts or ".." in parts or "\x00" in text:
            return None
        parts = [unicodedata.normalize("NFC", part) for part in parts]
        return self._below_root(parts) if self._by_name is None else self._of_files(parts, self._by_name)

    def _of_files(self, parts: list[str], by_name: dict[str, list[MatchedFile]]) -> MatchedFile | None:
        files = by_name.get(parts[-1], [])
        if len(parts) > 1:
            lengths = [(_common_tail(parts[:-1], file), file) for file in files]
            longest = max((length for length, _ in lengths), default=0)
            files = [file for length, file in lengths if length == longest and longest]
        if len(files) > 1:
            raise AmbiguousNameError(
                f"{'/'.join(parts)} may be {files[0].path} or {files[1].path}: write the folder before the name"
            )
        return files[0] if files else None

    def _below_root(self, parts: list[str]) -> MatchedFile | None:
        # The longest end of the path that is there; only below the root: a list must not reach elsewhere.
        for start in range(max(1, len(parts) - 1)):
            path = self.root.joinpath(*parts[start:])
            try:
                there = path.is_file()
            except OSError:
                continue
            if there:
                *folders, name = parts[start:]
                return MatchedFile(path, "/".join([*folders, Path(name).stem]), {}, tuple(folders))
        return None


def _common_tail(folders: Sequence[str], file: MatchedFile) -> int:
    there = [unicodedata.normalize("NFC", part) for part in file.path.parent.parts]
    count = 0
    for ours, theirs in zip(reversed(folders), reversed(there), strict=False):
        if ours != theirs:
            break
        count += 1
    return count


def read_list(path: Path, images: Names, masks: Names) -> Iterator[Line | BadLine]:
    """The lines of a list in order.

    A line is an image, or an image and a mask with white space, a comma or a semicolon between them; names may hold
    any of these as long as only one reading names files. A file that ends in .csv and begins with a line that has a
    column `image` is a table with `COLUMNS`, in any order and beside others.

    Raises:
        ValueError: the list cannot be read, or is no UTF-8 text; a table that Python's csv cannot read.
    """
    if path.suffix.lower() == ".csv":
        text = read_text(path, "save the list as UTF-8 text")
        header = next(csv.reader([text.partition("\n")[0]], _dialect(text)), [])
        if "image" in [name.strip().lower() for name in header]:
            yield from _rows(path, text, images, masks)
            return
    for number, text in read_lines(path):
        line_address = f"{path}:{number}"
        try:
            yield _line(line_address, text, images, masks)
        except (AmbiguousNameError, LookupError) as error:
            yield BadLine(line_address, str(error.args[0]))


def _line(line_address: str, text: str, images: Names, masks: Names) -> Line:
    readings: list[Line] = []
    for between in _BETWEEN.finditer(text):
        image, mask = images.find(text[: between.start()]), masks.find(text[between.end() :])
        if image is not None and mask is not None and image.path != mask.path:
            readings.append(Line(line_address, image, mask))
    alone = images.find(text)
    # What stands before a mask's name looks like folders of another machine where it is no image.
    if alone is not None and alone.path not in [line.mask.path for line in readings if line.mask is not None]:
        readings.append(Line(line_address, alone))
    if len(readings) > 1:
        raise LookupError(f"{text!r} can be read as {_shown(readings[0])} or {_shown(readings[1])}: write a CSV table")
    if not readings:
        raise LookupError(
            f"{text!r} names no image that is there, or no mask behind it: correct the line, or remove it"
        )
    return readings[0]


def _shown(line: Line) -> str:
    return f"{line.image.path}" if line.mask is None else f"{line.image.path} with {line.mask.path}"


def _dialect(text: str) -> type[csv.Dialect]:
    class ListTable(csv.excel):
        delimiter = max(",;\t", key=text.partition("\n")[0].count)

    return ListTable


def _rows(path: Path, text: str, images: Names, masks: Names) -> Iterator[Line | BadLine]:
    reader = csv.DictReader(io.StringIO(text, newline=""), dialect=_dialect(text))
    reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    try:
        for row in reader:
            yield _row(f"{path}:{reader.line_num}", row, images, masks)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: no CSV ({error}): save it as CSV again") from None


def _row(line_address: str, row: dict[str, str | None], images: Names, masks: Names) -> Line | BadLine:
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    files: dict[str, MatchedFile | None] = {}
    for name in ("image", "mask", "valid"):
        try:
            files[name] = (images if name == "image" else masks).find(values[name]) if values[name] else None
        except AmbiguousNameError as error:
            return BadLine(line_address, str(error))
        if files[name] is None and (values[name] or name == "image"):
            return BadLine(line_address, f"{name} {values[name]!r} is not there: correct the line, or remove it")
    image = files["image"]
    assert image is not None
    return Line(line_address, image, files["mask"], files["valid"], values["split"] or None, values["group"] or None)
