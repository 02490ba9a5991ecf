"""Splits, groups and short names of images, from the paths that lead to them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from miseg.data.folders.names.patterns import MatchedFile
from miseg.data.folders.names.splits import check_split, in_order, split_name
from miseg.data.listing import quantity

_SHOWN = 3


def splits_by_fields(files: Sequence[MatchedFile]) -> tuple[dict[MatchedFile, str], str | None]:
    """Splits by the field {split} of the images' patterns, and a sentence on them; none where no pattern has it.

    Raises:
        ValueError: some patterns have it and others do not; a split's name that no file could have.
    """
    splits = {}
    for file in files:
        if "split" in file.fields:
            name = file.fields["split"]
            splits[file] = check_split(split_name(name) or name, f"{file.path}, {{split}}")
    if splits and len(splits) < len(files):
        other = next(file for file in files if file not in splits)
        raise ValueError(f"{other.path}: its pattern has no {{split}}, but that of others has: write it into all")
    return splits, f"splits by {{split}} in --images: {counted(splits.values())}" if splits else None


def splits_by_folders(files: Sequence[MatchedFile]) -> tuple[dict[MatchedFile, str], str | None]:
    """Splits by folders named train, val or test, and a sentence on them; none where no image is in such a folder.

    Folders that lead to all images say nothing.

    Raises:
        ValueError: an image in folders of two splits, or in none where others are in one.
    """
    shared = _shared_folders(files)
    split_of_file: dict[MatchedFile, str] = {}
    for file in files:
        names = {name for part in file.path.parent.parts[shared:] if (name := split_name(part)) is not None}
        if len(names) > 1:
            raise ValueError(
                f"{file.path}: its folders name two splits, {' and '.join(sorted(names))}: say which part of the path "
                "is the split with {split} in --images, or draw the splits with --no-split-folders"
            )
        if names:
            split_of_file[file] = names.pop()
    if split_of_file and len(split_of_file) < len(files):
        other, example = (next(file for file in files if (file in split_of_file) == inside) for inside in (False, True))
        raise ValueError(
            f"{other.path} is in no folder of a split, but {example.path} is in one of {split_of_file[example]}: "
            "give patterns that match the splits alone, or draw the splits with --no-split-folders"
        )
    return split_of_file, f"splits by names of folders: {counted(split_of_file.values())}" if split_of_file else None


def split_of(file: MatchedFile) -> str | None:
    """The split that a mask's own path names, if any; for lists of what is left over."""
    if "split" in file.fields:
        return split_name(file.fields["split"]) or file.fields["split"]
    names = {name for folder in file.wild if (name := split_name(folder)) is not None}
    return names.pop() if len(names) == 1 else None


def groups_of(files: Sequence[MatchedFile], expression: str | None) -> dict[MatchedFile, str]:
    """Groups by a regular expression on the images' names, or by the field {group} of their patterns.

    Args:
        files: the images.
        expression: its first group, or else all that it matches, is an image's group; None: by the field.

    Raises:
        ValueError: no regular expression, or one that does not match an image's name.
    """
    if expression is None:
        return {file: file.fields["group"] for file in files if "group" in file.fields}
    return {file: group_of(file.name, expression, file.path) for file in files}


def group_of(name: str, expression: str, origin: Path | str) -> str:
    """The group of an image by a regular expression on its name.

    Raises:
        ValueError: no regular expression, or one that does not match; the message names the image's `origin`.
    """
    try:
        match = re.compile(expression).search(name)
    except re.error as error:
        raise ValueError(f"--group {expression!r} is no regular expression: {error}") from None
    if match is None:
        raise ValueError(f"--group {expression!r} matches nothing in {name!r} ({origin}): correct the expression")
    return match[1] if match.re.groups and match[1] is not None else match[0]


def describe_groups(groups: Iterable[str]) -> str:
    """A sentence on the groups of images."""
    counts = Counter(groups)
    names = sorted(counts)
    return (
        f"{quantity(len(names), 'group')} of {quantity(counts.total(), 'image')}: {', '.join(names[:_SHOWN])}"
        + ", …" * (len(names) > _SHOWN)
    )


def unique_names(files: Sequence[MatchedFile]) -> dict[MatchedFile, str]:
    """A name for each image: {stem} or the file's own name where that is unique, else with folders before it."""
    short = {file: file.fields.get("stem", file.stem) for file in files}
    if len(set(short.values())) == len(files):
        return short
    wild = {file: "/".join([*file.wild, short[file]]) for file in files}
    if len(set(wild.values())) == len(files):
        return wild
    shared = _shared_folders(files)
    paths = {file: "/".join([*file.path.parent.parts[shared:], file.path.name]) for file in files}
    return {file: unicodedata.normalize("NFC", path) for file, path in paths.items()}


def counted(splits: Iterable[str]) -> str:
    """Splits with their numbers of images: "train 14, val 3"."""
    counts = Counter(splits)
    return ", ".join(f"{split} {counts[split]}" for split in in_order(counts))


def _shared_folders(files: Sequence[MatchedFile]) -> int:
    """Number of folders that the paths to all files begin with."""
    parents = {file.path.parent.parts for file in files}
    first, last = min(parents), max(parents)
    pairs = enumerate(zip(first, last, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(first), len(last)))
