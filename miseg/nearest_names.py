"""Names that may have been meant by one that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 3
"""Names that are offered for one that there is not, at most."""

SIMILAR = 0.6
"""Similarity, in 0..1, from which on a name is one that may have been meant."""

ABBREVIATIONS = {"lr": "learning-rate", "wd": "weight-decay", "bs": "batch-size"}
"""Abbreviations of settings that other programs of the field take, and the names that stand for them here."""

FEW = 6
"""Names that are all told where none of them is similar; more are too many to read."""


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """At most `MOST` of some names that may have been meant by another: the most similar, then those that begin so.

    Capitals do not count, nor whether words are joined by - or _.
    """
    as_given: dict[str, str] = {}
    for known in names:
        as_given.setdefault(_plain(known), known)
    typed = _plain(name)
    close = difflib.get_close_matches(typed, as_given, n=MOST, cutoff=SIMILAR)
    begin = [known for known in as_given if len(typed) > 2 and known.startswith(typed)]
    return [as_given[known] for known in dict.fromkeys([*close, *begin])][:MOST]


def in_place_of(name: str, names: Iterable[str], listed_by: str) -> str:
    """The end of a sentence on a name that there is not: the nearest ones, all where they are few, or who lists them.

    Args:
        name: as it was typed.
        names: those that there are.
        listed_by: a command or a page with all of them, such as "miseg train --help".
    """
    known = list(dict.fromkeys(names))
    if close := nearest(name, known):
        return f"did you mean {either(close)}?"
    return f"choose {either(known)}" if 0 < len(known) <= FEW else f"{listed_by} lists them"


def either(names: Iterable[str]) -> str:
    """Names as alternatives: "a", "a or b", "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
