"""Marks: labels as their files hold them, not yet checked against the image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    """Something in a label file that is left out; the rest is used.

    Attributes:
        source: the file and the part of it: "points.geojson, feature 3", "points.csv, line 7", "labels.tif".
        reason: what is wrong with it, with the value.
    """

    source: str
    reason: str


class Mark(NamedTuple):
    """Pixels that one place in a label file gives a class.

    Attributes:
        source: as in `Problem`.
        name: the class.
        rows: int64 [n], from the top, 0 first; may lie outside the image.
        columns: int64 [n], from the left, 0 first; may lie outside the image.
    """

    source: str
    name: str
    rows: np.ndarray
    columns: np.ndarray


def class_name(value: object) -> str | None:
    """The name of the class that a text or a number stands for, 3 and 3.0 alike; None where it is neither or empty."""
    if isinstance(value, str):
        # Line breaks, double spaces and invisible characters are typing, and no map's legend could tell them apart.
        return " ".join("".join(c for c in value if c.isprintable() or c.isspace()).split()) or None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return str(int(value)) if value == int(value) else str(value)


def class_order(name: str) -> tuple[bool, float, str]:
    """Sorts numbers by their value, then names by the alphabet."""
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    return (False, number, name) if math.isfinite(number) else (True, 0.0, name)
