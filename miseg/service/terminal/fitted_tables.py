"""Tables that fit the terminal: what is wider goes on below, with the column that names the rows again."""

from __future__ import annotations

import shutil

import pandas as pd


def fitted(table: pd.DataFrame, float_format: str, name: str | None = None) -> str:
    """A table as text, in blocks of columns where the terminal is narrower; whole where there is no terminal.

    Args:
        table: its rows.
        float_format: of numbers, as "{:.3f}".
        name: column that names the rows, one of the first. Default: the first.
    """
    write = float_format.format
    text = str(table.to_string(index=False, float_format=write))
    # $COLUMNS, else the terminal that standard output is; a file or a pipe has no width.
    width = shutil.get_terminal_size((0, 0)).columns
    if not width or max(map(len, text.splitlines())) <= width:
        return text
    name = table.columns[0] if name is None else name
    blocks: list[list[str]] = [[]]
    for column in table.columns:
        wider = table[[*blocks[-1], column]].to_string(index=False, float_format=write)
        if len(blocks[-1]) > 1 and max(map(len, wider.splitlines())) > width:
            blocks.append([name])
        if column not in blocks[-1]:
            blocks[-1].append(column)
    return "\n\n".join(table[block].to_string(index=False, float_format=write) for block in blocks)
