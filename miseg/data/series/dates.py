"""Dates of scenes: from the names of files and folders in the usual notations, by a format, or from a table.

What can be read in two ways is asked, never guessed: a name with several dates, or a day before its month.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from miseg.files import read_text

_CALENDAR = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)(?=T?\d{6}(?!\d)|\D|$)")
_DAY_OF_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)([0-3]\d\d)(?=T?\d{6}(?!\d)|\D|$)")
_DAY_FIRST = re.compile(r"(?<!\d)(\d\d)([-_.]?)(\d\d)\2((?:19|20)\d\d)(?!\d)")
_PRODUCTS = (
    # Sensing first; what follows is of the processing.
    re.compile(r"S2[A-D]_MSIL\d[AC]_((?:19|20)\d{6})T\d{6}_"),
    re.compile(r"L[COTEM]0\d_L\d[A-Z]{2}_\d{6}_((?:19|20)\d{6})_(?:19|20)\d{6}_"),
    re.compile(r"(?:M[OCY]D|VNP)\w+\.A((?:19|20)\d{5})\."),
)
_DIRECTIVES = {
    "Y": r"\d{4}",
    "y": r"\d{2}",
    "m": r"\d{2}",
    "d": r"\d{2}",
    "j": r"\d{3}",
    "b": r"[^\W\d_]{3}",
    "B": r"[^\W\d_]+",
    "H": r"\d{2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
}
_PATH_COLUMNS, _DATE_COLUMNS = ("file", "path", "image", "scene", "name"), ("date", "day", "acquired", "time")


class UnclearDateError(ValueError):
    """A name whose date can be read in two ways; the message asks."""


@dataclass(frozen=True)
class DateRule:
    """Rule by which names are dated.

    Attributes:
        pattern: of `datetime.strptime`, such as %d-%m-%Y, for notations that are not read by themselves.
        table: dates, ISO 8601, by the name or path of a file or folder; those alone count where there are some.
        source: the table's path, for messages.
    """

    pattern: str | None = None
    table: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def date(self, path: Path) -> str | None:
        """The date of a file or folder, ISO 8601, by its own name, else by its folder's; None where neither has one.

        Raises:
            UnclearDateError: several dates in a name, or one whose day may be its month.
        """
        if self.table:
            keys = (str(path), str(path.absolute()), path.name, path.stem, path.parent.name)
            known = next((self.table[key] for key in keys if key in self.table), None)
            ends = (day for name, day in self.table.items() if "/" in name and str(path).endswith(f"/{name}"))
            return known if known is not None else next(ends, None)
        return self._of_name(path.name, path) or self._of_name(path.absolute().parent.name, path)

    def _of_name(self, name: str, path: Path) -> str | None:
        dates = by_format(name, self.pattern) if self.pattern else dates_in(name)
        if len(dates) > 1:
            raise UnclearDateError(
                f"{path}: {name} holds several dates, {', '.join(dates)}: say which is meant in a table of lines "
                "file,date (--dates)"
            )
        if not dates and self.pattern is None and (day := day_first_in(name)):
            raise UnclearDateError(
                f"{path}: {day} in {name} may be day or month first: say --date-format %d-%m-%Y (with the marks that "
                "stand between them), or rename the files after year, month and day"
            )
        return dates[0] if dates else None


def dates_in(name: str) -> list[str]:
    """The different dates in a name, ISO 8601, in their order.

    2019-07-20, 2019_07_20, 2019.07.20, 20190720, with or without a time, are read; where there is none of these, year
    and day of the year, 2019201. Of products that name the day of their processing too, the acquisition is taken:
    Sentinel-2's, Landsat's, MODIS'.
    """
    for product in _PRODUCTS:
        if match := product.search(name):
            return [day] if (day := _whole(match[1])) else []
    days = [_calendar(year, month, day) for year, _, month, day in _CALENDAR.findall(name)]
    if not any(days):
        days = [_ordinal(year, number) for year, _, number in _DAY_OF_YEAR.findall(name)]
    return list(dict.fromkeys(day for day in days if day is not None))


def day_first_in(name: str) -> str | None:
    """A part of a name that is a date with the year at its end, such as 20-07-2019; None where there is none."""
    for match in _DAY_FIRST.finditer(name):
        first, _, second, year = match.groups()
        if _calendar(year, second, first) or _calendar(year, first, second):
            return match[0]
    return None


def by_format(name: str, pattern: str) -> list[str]:
    """The different dates, ISO 8601, that a format of `datetime.strptime` finds in a name.

    Raises:
        ValueError: a format without year and day, or with a directive that is not known.
    """
    expression = _expression(pattern)
    days = []
    for text in re.findall(expression, name):
        try:
            days.append(datetime.strptime(text, pattern).date().isoformat())
        except ValueError:
            continue
    return list(dict.fromkeys(days))


def read_dates(path: Path) -> dict[str, str]:
    """Dates, ISO 8601, by file, from a CSV table of lines file,date with a header or none.

    Raises:
        ValueError: it cannot be read, a line is neither, a date is not ISO 8601, or a file stands twice.
    """
    rows = [row for row in csv.reader(read_text(path, "save the table as UTF-8 text").splitlines()) if any(row)]
    if not rows:
        raise ValueError(f"{path} names no date: write lines file,date such as scene_a.tif,2019-07-20")
    words = [word.strip().lower() for word in rows[0]]
    file = next((words.index(word) for word in _PATH_COLUMNS if word in words), None)
    day = next((words.index(word) for word in _DATE_COLUMNS if word in words), None)
    header = file is not None and day is not None
    table: dict[str, str] = {}
    for number, row in enumerate(rows[header:], 1 + header):
        columns: Sequence[int] = (file, day) if file is not None and day is not None else (0, 1)
        try:
            name, text = (row[column].strip() for column in columns)
            value = date.fromisoformat(text[:10] if "T" in text or " " in text else text).isoformat()
        except (IndexError, ValueError):
            raise ValueError(
                f"{path}:{number}: {','.join(row)!r} is no line file,date with a date such as 2019-07-20"
            ) from None
        if table.setdefault(name, value) != value:
            raise ValueError(f"{path}:{number}: {name} has two dates, {table[name]} and {value}: keep one")
    return table


def _expression(pattern: str) -> str:
    parts = re.split(r"%(.)", pattern)
    names = parts[1::2]
    if unknown := [name for name in names if name not in _DIRECTIVES]:
        raise ValueError(f"--date-format {pattern}: %{unknown[0]} is none of %{', %'.join(_DIRECTIVES)}")
    if not {"Y", "y"} & set(names) or not ("j" in names or ("d" in names and {"m", "b", "B"} & set(names))):
        raise ValueError(f"--date-format {pattern}: name year, month and day, such as %d-%m-%Y")
    body = "".join(re.escape(part) if number % 2 == 0 else _DIRECTIVES[part] for number, part in enumerate(parts))
    return rf"(?<!\d){body}(?!\d)"


def _whole(text: str) -> str | None:
    return _calendar(text[:4], text[4:6], text[6:]) if len(text) == 8 else _ordinal(text[:4], text[4:])


def _calendar(year: str, month: str, day: str) -> str | None:
    try:
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return None


def _ordinal(year: str, number: str) -> str | None:
    try:
        return datetime.strptime(year + number, "%Y%j").date().isoformat()
    except ValueError:
        return None
