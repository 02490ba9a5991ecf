"""Readers of the values of a description file: each gives the value, or says what it is not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

from miseg.file_names import check_plain
from miseg.files import read_text
from miseg.nearest_names import either, nearest


def read_mapping(path: Path, example: str) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Args:
        path: the file.
        example: a line of such a file, for messages.

    Raises:
        ValueError: it cannot be read, is no YAML, or holds something else; the message names the file.
    """
    text = read_text(path, "save it as UTF-8 text")
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no YAML ({reason}): correct it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds {type(content).__name__}, not keys and values such as '{example}'")
    return content


def check_key(path: Path, key: object, known: Collection[str]) -> str:
    """The key; a ValueError that names the nearest one where it is not known."""
    if key not in known:
        close = nearest(str(key), known)
        mend = f"did you mean {either(close)}?" if close else f"use one of {', '.join(known)}"
        raise ValueError(f"{path}: key {key!r} is unknown: {mend}")
    return str(key)


def read_value(path: Path, key: str, value: object, read: Callable[[object], Any]) -> Any:
    """The value, as `read` takes it; its ValueErrors name the file and the key."""
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {key}: {error}") from None


def portable(pattern: str, root: Path, folder: Path) -> str:
    """A path or pattern that starts from `root`, as a file in `folder` names it: absolute, but for what is below it."""
    path = (root / Path(pattern).expanduser()).absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def texts(value: object) -> tuple[str, ...]:
    """One text or a list of texts."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ValueError(f"{value!r} is no text and no list of texts")
    return tuple(values)


def text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    return value


def file_name(value: object) -> str:
    """A text that can be a file's or folder's name."""
    return check_plain(text(value))


def flag(value: object) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def number(value: object) -> float:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return value


def integer(value: object) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value


def list_of(read: Callable[[object], Any]) -> Callable[[object], tuple[Any, ...]]:
    """A reader of one value or a list of them."""

    def values(value: object) -> tuple[Any, ...]:
        return tuple(read(one) for one in (value if isinstance(value, list) else [value]))

    return values


def id_or_name(value: object) -> int | str:
    """A whole number or a text."""
    return value if isinstance(value, str) else integer(value)
