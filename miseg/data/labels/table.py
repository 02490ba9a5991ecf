"""Labels in a table: CSV with a row, a column and a class on every line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from miseg.data.labels.marks import Mark, Problem, class_name
from miseg.files import read_text

_DELIMITERS = ",;\t|"
_FARTHEST = 2**53


def read_label_table(path: Path, class_property: str = "class") -> tuple[list[Mark], list[Problem]]:
    """One mark a line, and the lines without a class.

    The first line names the columns, in any order and case: row and column (whole numbers from 0, from the top left)
    and `class_property`; others are ignored. It also shows the delimiter: comma, semicolon, tab or bar.

    Raises:
        ValueError: it cannot be read, is not UTF-8 text, lacks a column, or a row or column is no whole number.
    """
    text = read_text(path, "save it as CSV in UTF-8")
    wanted = ("row", "column", class_property)
    delimiter = max(_DELIMITERS, key=next(io.StringIO(text), "").count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    marks, problems = [], []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in wanted if name.lower() not in header]
        if missing:
            raise ValueError(
                f"{path}, line 1: no column {', '.join(missing)} (found: {', '.join(header) or 'nothing'}): "
                f"start the file with {','.join(wanted)}"
            )
        at_row, at_column, at_class = (header.index(name.lower()) for name in wanted)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"line {reader.line_num}"
            if len(cells) <= max(at_row, at_column, at_class):
                raise ValueError(
                    f"{path}, {where}: {len(cells)} values for {len(header)} columns: complete or remove the line"
                )
            row, column = (
                np.array([_whole(cells[at], f"{path}, {where}: {name}")])
                for name, at in (("row", at_row), ("column", at_column))
            )
            name = class_name(cells[at_class])
            if name is None:
                problems.append(Problem(f"{path.name}, {where}", "no class"))
            else:
                marks.append(Mark(f"{path.name}, {where}", name, row, column))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}: correct the line") from None
    return marks, problems


def _whole(text: str, where: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < _FARTHEST or value != int(value):
        raise ValueError(f"{where} {text.strip()!r} is not a whole number: count pixels from 0, from the top left")
    return int(value)
