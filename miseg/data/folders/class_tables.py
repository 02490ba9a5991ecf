"""Colours and names of classes: tables in CSV files, and colours for those that have none."""

from __future__ import annotations

import colorsys
import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from miseg.data.folders.mask_files import Colour
from miseg.data.listing import read_lines
from miseg.files import read_text

_BETWEEN = r"\s*[,;\t ]\s*"
_NUMBERS = {columns: _BETWEEN.join(rf"(?P<n{position}>-?\d+)" for position in range(columns)) for columns in (1, 3)}
_COLUMNS = {3: (("r", "red"), ("g", "green"), ("b", "blue")), 1: (("id", "value", "index", "label"),)}
_NAMES = ("name", "class", "class_name", "classname", "category", "label_name", "label")
_GOLDEN = 0.618034
_LIGHTNESS = (1.0, 0.72, 0.45)
_FORMS = {3: "name,r,g,b or r,g,b,name", 1: "id,name or name,id"}

Key = TypeVar("Key")


def read_colours(path: Path) -> dict[Colour, str]:
    """Name of the class of each colour, in the file's order: lines name,r,g,b or r,g,b,name, a header or none.

    Raises:
        ValueError: it cannot be read, a line is neither, a number is beyond 0..255, or a colour stands twice.
    """

    def colour(numbers: tuple[int, ...]) -> Colour:
        if not 0 <= min(numbers) <= max(numbers) <= 255:
            raise ValueError(f"{numbers} is no colour of numbers 0..255")
        return numbers[0], numbers[1], numbers[2]

    return _read(path, 3, colour)


def read_ids(path: Path) -> dict[int, str]:
    """Name of the class of each id, in the file's order: lines id,name or name,id, a header or none.

    Raises:
        ValueError: it cannot be read, a line is neither, or an id stands twice.
    """
    return _read(path, 1, lambda numbers: numbers[0])


def read_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes in label order, or those that a text file (.txt), given in their place, has one a line.

    Raises:
        ValueError: it cannot be read, or names none.
    """
    if len(names) != 1 or Path(names[0]).suffix.lower() != ".txt":
        return names
    listed = tuple(name for _, name in read_lines(Path(names[0]).expanduser()))
    if not listed:
        raise ValueError(f"{names[0]} names no class: write one a line")
    return listed


def _read(path: Path, columns: int, key_of: Callable[[tuple[int, ...]], Key]) -> dict[Key, str]:
    table: dict[Key, str] = {}
    for number, numbers, name in _lines(path, columns):
        try:
            key = key_of(numbers)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        if key in table:
            raise ValueError(f"{path}:{number}: {key} is {table[key]!r} already: give it one class")
        table[key] = name
    if not table:
        raise ValueError(f"{path} names no class: write lines {_FORMS[columns]}")
    return table


def _lines(path: Path, columns: int) -> Iterator[tuple[int, tuple[int, ...], str]]:
    """Line number, numbers and name of each line but blank ones and the header."""
    lines = [
        (number, line.strip())
        for number, line in enumerate(read_text(path, "save the table as UTF-8 text").splitlines(), 1)
        if line.strip(" \t,;")
    ]
    header = _header(lines[0][1], columns) if lines else None
    if header is not None:
        yield from _by_header(path, lines[1:], *header)
        return
    before = re.compile(rf"{_NUMBERS[columns]}{_BETWEEN}(?P<name>.+)")
    after = re.compile(rf"(?P<name>.+?){_BETWEEN}{_NUMBERS[columns]}")
    for position, (number, line) in enumerate(lines):
        match = before.fullmatch(line.rstrip(",;")) or after.fullmatch(line.rstrip(",;"))
        if match is None and position == 0 and not re.search(r"\d\s*$|^\s*\d", line):
            continue  # a header in words of its own
        if match is None:
            raise ValueError(f"{path}:{number}: {line!r} is no line {_FORMS[columns]}")
        name = match["name"].strip().strip("\"'").strip()
        if columns > 1 and name.isdigit():
            raise ValueError(f"{path}:{number}: {line!r} may be either of {_FORMS[columns]}: write a header that says")
        yield number, tuple(int(match[f"n{position}"]) for position in range(columns)), name


def _header(line: str, columns: int) -> tuple[str, list[int], int] | None:
    """Delimiter, and the columns of the numbers and of the name, where a line is a header of known words."""
    for delimiter in ",;\t":
        words = [word.strip().lower() for word in next(csv.reader([line], delimiter=delimiter))]
        numbers = [next((words.index(word) for word in known if word in words), -1) for known in _COLUMNS[columns]]
        name = next((words.index(word) for word in _NAMES if word in words and words.index(word) not in numbers), -1)
        if name >= 0 and min(numbers) >= 0:
            return delimiter, numbers, name
    return None


def _by_header(
    path: Path, lines: list[tuple[int, str]], delimiter: str, numbers: list[int], name: int
) -> Iterator[tuple[int, tuple[int, ...], str]]:
    for number, line in lines:
        words = [word.strip() for word in next(csv.reader([line], delimiter=delimiter))]
        try:
            values = tuple(int(words[column]) for column in numbers)
            called = words[name]
        except (IndexError, ValueError):
            raise ValueError(f"{path}:{number}: {line!r} lacks a number or the name that the header tells of") from None
        yield number, values, called


def distinct_colours(classes: int, background: bool = False) -> tuple[Colour, ...]:
    """Colours (red, green, blue), 0..255, of `classes` classes, neighbours in order far apart in hue.

    Args:
        classes: how many, 0 or more.
        background: whether the first is black.
    """
    colours: list[Colour] = [(0, 0, 0)] if background and classes else []
    for number in range(classes - len(colours)):
        hue, value = number * _GOLDEN % 1, _LIGHTNESS[number % len(_LIGHTNESS)]
        # Two of three in step with the hue would repeat soon; the saturation tells the rounds apart.
        saturation = 0.55 + 0.45 * (number * 7 % 11) / 10
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
        colours.append((red, green, blue))
    return tuple(colours)
