"""Plain names of files and folders: what a user gives a run, and what a file of the storage calls another.

Whoever can write to a storage writes the names in its files, too. A name that is joined to a folder passes through
here first, so that it stays in that folder on every system.
"""

from __future__ import annotations

import unicodedata

LONGEST = 200
"""Bytes of a name in UTF-8, at most: file systems take 255, and endings such as `.jsonl` come behind it."""

_APART = "/\\"
"""Characters that lead elsewhere."""

_SPECIAL = '%?#*[]:"`<>|'
"""Characters that mean something else in a URI, a pattern or a shell."""


def check_plain(name: object) -> str:
    """The name as it stands, if it names one file of a folder and nothing else.

    Raises:
        ValueError: no text, empty, too long, `..` or hidden, or a character that leads elsewhere or cannot be seen.
    """
    if not isinstance(name, str):
        raise ValueError(f"{shown(name)} is no text")
    if problem := _problem(name):
        raise ValueError(f"{shown(name)} is not a plain file name: {problem}")
    return name


def check_plain_path(path: object) -> str:
    """A relative path of plain names with `/` between them, or "".

    Raises:
        ValueError: as `check_plain`, of one of its parts.
    """
    if not isinstance(path, str):
        raise ValueError(f"{shown(path)} is no text")
    for part in path.split("/") if path else ():
        check_plain(part)
    return path


def check_below(folder: object, root: str) -> None:
    """Make sure that a folder, a path or URI, lies below another.

    Raises:
        ValueError: it does not.
    """
    start, end = _parts(root)
    start += "/"
    if not isinstance(folder, str) or not folder.startswith(start) or not folder.endswith(end):
        raise ValueError(f"{shown(folder)} is not below {shown(root)}")
    rest = folder.removeprefix(start).removesuffix(end).lstrip("/")
    if "://" in root and (option := next((character for character in "?#" if character in rest), "")):
        raise ValueError(f"{shown(folder)}: {option} means something else in URIs")
    check_plain_path(rest)


def below(place: str, *names: str) -> str:
    """The path or URI of what lies below a place; options at a URI's end (`?region=…`) stay at its end."""
    start, end = _parts(place)
    return "/".join([start, *names]) + end


def last_name(place: str) -> str:
    """The last part of a path or URI, without a URI's options: `camvid` of `s3://bucket/data/camvid/?region=eu`."""
    return _parts(place)[0].rsplit("/", 1)[-1]


def _parts(place: str) -> tuple[str, str]:
    """A place without the slash at its end, and the options of a URI."""
    start, mark, options = place.partition("?") if "://" in place else (place, "", "")
    return start.rstrip("/"), mark + options


def given_name(option: str, name: str) -> str:
    """A user's name for a run, in Unicode's composed form (NFC): one name has one spelling on every system.

    Args:
        option: for the message, such as "--name".
        name: what the user gave; it becomes a folder in the storage, and a part of URIs.

    Raises:
        ValueError: it names no single folder; the message says what is wrong with it.
    """
    name = unicodedata.normalize("NFC", name)
    special = (f"{character} means something else in URIs" for character in _SPECIAL if character in name)
    if problem := _problem(name) or next(special, ""):
        raise ValueError(
            f"{option} {shown(name)}: {problem}; it becomes a folder's name, so give one such as first-try"
        )
    return name


def shown(value: object, most: int = 80) -> str:
    """A stranger's value in a message: on one line, without control characters, cut where it is long."""
    plain = value is None or isinstance(value, str | int | float)
    text = repr(value) if plain else f"a value of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"


def _problem(name: str) -> str:
    """Reason why a text is no plain name; "" where it is one."""
    if not name:
        return "it is empty"
    if name.startswith("."):
        return "it starts with a dot"
    if separator := next((character for character in _APART if character in name), ""):
        return f"{separator} leads out of the folder"
    if not name.isprintable():
        return "it holds a character that cannot be printed"
    if name != name.strip() or name.startswith("~"):
        return "it starts with ~ or has spaces around it"
    if len(name.encode()) > LONGEST:
        return f"it is longer than {LONGEST} bytes"
    return ""
