"""Helpers of readers: lists of names, pictures in folders, pairs that lack a half, and numbers in sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from miseg.data.samples import Rejection
from miseg.files import read_text

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp"}


def is_picture(path: Path) -> bool:
    """Whether the file's ending is a picture's; hidden files, such as macOS leaves beside pictures, are none."""
    return path.suffix.lower() in _PICTURES and not path.name.startswith(".")


def by_number(name: str) -> list[tuple[int, int, str]]:
    """The key by which names sort with their numbers as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Line numbers, from 1, and lines that are not blank, without white space at either end.

    Raises:
        ValueError: the file cannot be read, or is not UTF-8 text.
    """
    text = read_text(path, "save the list as UTF-8 text")
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def quantity(count: int, noun: str, singular: str = "", plural: str = "") -> str:
    """Number with its noun, "1 date" or "2 dates", and with a verb in both forms "1 date has" or "2 dates have"."""
    words = [f"{count:,}", noun if count == 1 else f"{noun}s", singular if count == 1 else plural]
    return " ".join(filter(None, words))


def halved(image: Path, mask: Path, missing: Sequence[Path]) -> Rejection:
    """The rejection of a listed pair of which `missing`, one or both, are not there."""
    if len(missing) == 2:
        return Rejection(str(image), f"listed, but neither it nor {mask} is there: add both or remove the line")
    if mask in missing:
        return Rejection(str(image), f"image without mask: {mask} is not there; add it or remove the line")
    return Rejection(str(mask), f"mask without image: {image} is not there; add it or remove the line")
