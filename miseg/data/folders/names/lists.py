"""Lists of images, or of pairs of images and masks, as text files of one a line or CSV tables with a header."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from miseg.data.folders.names.patterns import MatchedFile
from miseg.data.listing import read_lines
from miseg.files import read_text

_BETWEEN = re.compile(r"[\s,;]+")
COLUMNS = ("image", "mask", "valid", "split", "group")
"""Columns of a CSV table that are read; image is needed."""
_ENDINGS = ("", "s", "_path", " path", "_file", "_filename")
"""Ends of a column's name that say no more: image_path is image."""
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


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
        files: those that may be named; None: any below `roots`.
        roots: folders that names are looked for in where `files` is None, the first first.
    """

    def __init__(self, files: Iterable[MatchedFile] | None, *roots: Path) -> None:
        self.roots = tuple(dict.fromkeys(roots))
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
        if self._by_name is None:
            return self._below_roots(parts)
        return self._of_files([unicodedata.normalize("NFC", part) for part in parts], self._by_name)

    def searched(self) -> str:
        """The files or folders that names are looked for in, for messages."""
        if self._by_name is not None:
            return "looked for among the files of the patterns"
        return f"looked for below {' and '.join(map(str, self.roots))}"

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

    def _below_roots(self, parts: list[str]) -> MatchedFile | None:
        # The longest end of the path that is there; only below the roots: a list must not reach elsewhere.
        for start in range(max(1, len(parts) - 1)):
            for root in self.roots:
                if (path := _file_below(root, parts[start:])) is not None:
                    *folders, name = (unicodedata.normalize("NFC", part) for part in parts[start:])
                    return MatchedFile(path, "/".join([*folders, Path(name).stem]), {}, tuple(folders))
        return None


def _file_below(root: Path, parts: list[str]) -> Path | None:
    """The file of that path, as it is written or in Unicode normal form C or D; None where there is none."""
    forms = [[unicodedata.normalize(form, part) for part in parts] for form in _FORMS]
    for form in (parts, *(other for other in forms if other != parts)):
        path = root.joinpath(*form)
        try:
            if path.is_file():
                return path
        except OSError:
            continue
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
    column `image` (or images, image_path, image_file) is a table with `COLUMNS`, in any order and beside others.

    Raises:
        ValueError: the list cannot be read, or is no UTF-8 text; a table that Python's csv cannot read.
    """
    if path.suffix.lower() == ".csv":
        text = read_text(path, "save the list as UTF-8 text")
        header = next(csv.reader([text.partition("\n")[0]], _dialect(text)), [])
        if "image" in _columns(path, header):
            yield from _rows(path, text, images, masks)
            return
    for number, text in read_lines(path):
        line_address = f"{path}:{number}"
        try:
            yield _line(line_address, text, images, masks)
        except (AmbiguousNameError, LookupError) as error:
            reason = str(error.args[0])
            if path.suffix.lower() == ".csv" and number == 1:
                reason += f"; if it is a table's header, name its columns {', '.join(COLUMNS)}"
            yield BadLine(line_address, reason)


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    """Names of columns, those of `COLUMNS` by their own names."""
    names = [(name or "").strip().lower() for name in header]
    for column in COLUMNS:
        alike = [name for name in names if name in {column + ending for ending in _ENDINGS}]
        if len(alike) == 1 or column in alike:
            written = column if column in alike else alike[0]
            names[names.index(written)] = column
        elif alike:
            raise ValueError(f"{path}: the columns {' and '.join(alike)} may both be {column}: name one of them so")
    return names


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
        if ".." in re.split(r"[\s,;/\\]+", text):
            raise LookupError(
                f"{text!r} names no image that is there: '..' is not followed; write paths that start from a folder "
                f"above the images, and put the list there, or start the command there ({images.searched()})"
            )
        raise LookupError(
            f"{text!r} names no image that is there, or no mask behind it ({images.searched()}): correct the line, or "
            "remove it"
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
    reader.fieldnames = _columns(path, reader.fieldnames or ())
    try:
        for row in reader:
            yield _row(f"{path}:{reader.line_num}", row, images, masks)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: no CSV ({error}): save it as CSV again") from None


def _row(line_address: str, row: dict[str, str | None], images: Names, masks: Names) -> Line | BadLine:
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    files: dict[str, MatchedFile | None] = {}
    for name in ("image", "mask", "valid"):
        among = images if name == "image" else masks
        try:
            files[name] = among.find(values[name]) if values[name] else None
        except AmbiguousNameError as error:
            return BadLine(line_address, str(error))
        if files[name] is None and (values[name] or name == "image"):
            reason = f"is not there ({among.searched()})"
            if ".." in re.split(r"[/\\]", values[name]):
                reason = "is not looked for, since '..' is not followed"
            return BadLine(line_address, f"{name} {values[name]!r} {reason}: correct the line, or remove it")
    image = files["image"]
    assert image is not None
    return Line(line_address, image, files["mask"], files["valid"], values["split"] or None, values["group"] or None)
