"""Files by patterns: wildcards of a shell, and fields such as {split} and {stem} that name parts of a path."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from miseg.data.listing import is_picture

_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")
_WILD = re.compile(r"[*?\[{]")
_SHOWN = 4
"""Names that a message lists."""


@dataclass(frozen=True)
class MatchedFile:
    """A file that a pattern matches; equal to another of the same path.

    Attributes:
        path: where it is.
        name: its path below the pattern's fixed part, in Unicode normal form C, with "/" and without the ending.
        fields: what the pattern's fields stand for in it.
        wild: the folders on its way that a wildcard or a field stands for, in order.
    """

    path: Path
    name: str = field(compare=False)
    fields: dict[str, str] = field(default_factory=dict, compare=False)
    wild: tuple[str, ...] = field(default=(), compare=False)

    @property
    def stem(self) -> str:
        """The file's name without its ending, in Unicode normal form C."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class FileSet:
    """The files of one pattern, by name.

    Attributes:
        pattern: as it was written.
        fields: names of the fields in the pattern.
        files: sorted by name; not one twice.
    """

    pattern: str
    fields: tuple[str, ...]
    files: tuple[MatchedFile, ...]


def find_files(patterns: Sequence[str], root: Path, option: str) -> tuple[FileSet, ...]:
    """The files that patterns match, a set a pattern; file names that follow each other are a set a folder.

    Args:
        patterns: wildcards `*`, `?`, `[ab]` and `**` (any folders), fields `{name}` (part of a name, or all of it), a
            folder (its pictures and those below it), or a file.
        root: folder that relative patterns start from.
        option: what the patterns were given with, for messages.

    Hidden files match no wildcard.

    Raises:
        ValueError: a pattern that matches nothing, that cannot be understood, or that fits a name in two ways.
    """
    sets: list[FileSet] = []
    literal = {pattern: _is_file(root, pattern) for pattern in patterns}
    for alone, run in groupby(patterns, key=lambda pattern: literal[pattern]):
        if not alone:
            sets += [_matching(pattern, root, option) for pattern in run]
            continue
        folders: dict[Path, list[Path]] = {}
        for path in (_absolute(root, pattern) for pattern in run):
            folders.setdefault(path.parent, []).append(path)
        sets += [_set(str(folder), (), (_matched(path, folder) for path in paths)) for folder, paths in folders.items()]
    return tuple(sets)


def _is_file(root: Path, pattern: str) -> bool:
    try:
        return _absolute(root, pattern).is_file()
    except (OSError, ValueError):
        return False


def _absolute(root: Path, pattern: str) -> Path:
    return root / Path(pattern).expanduser()


def _matching(pattern: str, root: Path, option: str) -> FileSet:
    if not pattern.strip() or "\x00" in pattern:
        raise ValueError(f"{option} {pattern!r}: give a pattern such as 'images/*.png', or a folder")
    start = _absolute(root, pattern)
    if start.is_dir():
        files = [_matched(path, start) for path in _walk(start, ["**"]) if is_picture(path)]
        if not files:
            raise ValueError(
                f"{option} {pattern}: no picture (PNG, TIFF, JPEG, GIF, BMP or WebP) in this folder or below it: it "
                f"{_holds(start)}"
            )
        return _set(pattern, (), files)
    parts = start.parts
    first = next((number for number, part in enumerate(parts) if _WILD.search(part)), len(parts))
    fixed, wild = Path(*parts[:first]), [unicodedata.normalize("NFC", part) for part in parts[first:]]
    names = tuple(dict.fromkeys(_FIELD.findall("/".join(wild))))
    if not wild:
        raise ValueError(f"{option} {pattern}: no such file or folder; {_nearest(start)}")
    if not fixed.is_dir():
        raise ValueError(f"{option} {pattern}: matches nothing: there is no folder {fixed}; {_nearest(fixed)}")
    any_ending = wild[-1].endswith(("*", "}"))
    shortest, longest = (_regex(wild, lazy, option, pattern) for lazy in (True, False))
    files = []
    for path in _walk(fixed, wild):
        relative = _relative(path, fixed)
        match = shortest.fullmatch(relative)
        if match is None or (any_ending and not is_picture(path)):
            continue
        files.append(_matched(path, fixed, match.groupdict(), _wild_folders(relative, wild)))
        other = longest.fullmatch(relative)
        if other is not None and other.groupdict() != match.groupdict():
            name = next(name for name in names if match[name] != other[name])
            raise ValueError(
                f"{option} {pattern}: fits {path} in two ways, {{{name}}} = {match[name]!r} or {other[name]!r}: write "
                "more of the name into the pattern"
            )
    if not files:
        reached = _reached(fixed, wild[:-1])
        raise ValueError(f"{option} {pattern}: matches nothing; {reached} {_holds(reached)}")
    return _set(pattern, names, files)


def _set(pattern: str, fields: tuple[str, ...], files: Iterator[MatchedFile] | Sequence[MatchedFile]) -> FileSet:
    by_path = {file.path: file for file in files}
    return FileSet(pattern, fields, tuple(sorted(by_path.values(), key=lambda file: (file.name, file.path))))


def _matched(
    path: Path, fixed: Path, fields: dict[str, str] | None = None, wild: tuple[str, ...] | None = None
) -> MatchedFile:
    relative = _relative(path, fixed)
    folders = tuple(relative.split("/")[:-1])
    name = "/".join([*folders, unicodedata.normalize("NFC", path.stem)])
    return MatchedFile(path, name, fields or {}, folders if wild is None else wild)


def _relative(path: Path, fixed: Path) -> str:
    return unicodedata.normalize("NFC", path.relative_to(fixed).as_posix())


def _wild_folders(relative: str, wild: list[str]) -> tuple[str, ...]:
    """The folders of `relative` that a wildcard of the pattern's parts `wild` stands for."""
    folders = relative.split("/")[:-1]
    if "**" in wild:
        at = wild.index("**")
        after = len(wild) - 2 - at
        patterns = wild[:at] + ["**"] * (len(folders) - at - after) + wild[at + 1 : -1]
    else:
        patterns = wild[:-1]
    pairs = zip(folders, patterns, strict=False)
    return tuple(folder for folder, part in pairs if _WILD.search(part))


def _walk(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Files below `folder` whose path fits the patterns `parts`, the last of which is the file's."""
    part, rest = parts[0], parts[1:]
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read ({error.strerror}): check its permissions") from None
    if part == "**":
        if rest:
            yield from _walk(folder, rest)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            # Links to folders are not followed here: they may lead in a circle.
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), parts)
            elif not rest and entry.is_file():
                yield Path(entry.path)
        return
    regex = re.compile(_part_regex(part, None))
    for entry in entries:
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        if regex.fullmatch(unicodedata.normalize("NFC", entry.name)) is None:
            continue
        if rest and entry.is_dir():
            yield from _walk(Path(entry.path), rest)
        elif not rest and entry.is_file():
            yield Path(entry.path)


def _regex(parts: list[str], lazy: bool, option: str, pattern: str) -> re.Pattern[str]:
    seen: set[str] = set()
    text = ""
    for part in parts[:-1]:
        text += "(?:[^/]+/)*" if part == "**" else _part_regex(part, seen, lazy) + "/"
    text += "(?:[^/]+/)*[^/]+" if parts[-1] == "**" else _part_regex(parts[-1], seen, lazy)
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"{option} {pattern}: cannot be understood ({error}): use * ? [ab] ** and fields") from None


def _part_regex(part: str, seen: set[str] | None, lazy: bool = True) -> str:
    """A regular expression for one part of a pattern; fields are groups where `seen` is a set of those before it."""
    text, at = "", 0
    while at < len(part):
        letter, found = part[at], _FIELD.match(part, at)
        end = part.find("]", at + 2)
        if found is not None:
            name, at = found[1], found.end()
            if seen is None:
                text += "[^/]+"
            elif name in seen:
                text += f"(?P={name})"
            else:
                seen.add(name)
                text += f"(?P<{name}>[^/]+{'?' if lazy else ''})"
            continue
        if letter == "[" and end > 0:
            inside = part[at + 1 : end]
            sign = "^" if inside[0] in "!^" else ""
            body = inside[len(sign) :].replace("\\", r"\\").replace("[", r"\[").replace("]", r"\]").replace("^", r"\^")
            text, at = f"{text}[{sign}{body}]", end + 1
            continue
        # Where fields are as short as can be, stars are as long, and the other way round.
        text += {"*": "[^/]*" if lazy else "[^/]*?", "?": "[^/]"}.get(letter, re.escape(letter))
        at += 1
    return text


def _reached(folder: Path, parts: list[str]) -> Path:
    """The first folder as deep below `folder` as patterns of folders lead."""
    for part in parts:
        regex = re.compile(_part_regex(part, None))
        names = [] if part == "**" else sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        name = next((name for name in names if regex.fullmatch(unicodedata.normalize("NFC", name))), None)
        if name is None:
            break
        folder /= name
    return folder


def _nearest(path: Path) -> str:
    """The deepest folder on the way to `path` that is there, and some of what it holds."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    return f"{folder} {_holds(folder)}"


def _holds(folder: Path) -> str:
    """Some of the names in a folder, or its files' endings."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not entries:
        return "is empty"
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
    return f"holds {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
