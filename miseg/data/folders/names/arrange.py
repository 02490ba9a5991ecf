"""Images with their masks, splits and groups, from patterns and lists."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from miseg.data.folders.names.belonging import (
    describe_groups,
    groups_of,
    split_of,
    splits_by_fields,
    splits_by_folders,
    unique_names,
)
from miseg.data.folders.names.layout import Arrangement, Layout, Record
from miseg.data.folders.names.lists import BadLine, Line, Names, read_list
from miseg.data.folders.names.pairs import Side, pair_files
from miseg.data.folders.names.patterns import FileSet, MatchedFile, find_files
from miseg.data.folders.names.splits import check_split, split_name
from miseg.data.listing import quantity
from miseg.data.samples import Rejection

UNLABELLED = "unlabelled"
"""Split of images without mask, where they are packed among others that have one."""

_NO_MASK = (
    "image without mask: add the mask, remove the image, or say --without-mask leave-out, unlabelled to pack it in a "
    "split of its own, or background where it shows no object"
)
_NO_IMAGE = "mask without image: add the image, or remove the mask"


def arrange(layout: Layout, root: Path) -> Arrangement:
    """The images of `layout` in files of their own, whose relative paths start from `root`.

    Raises:
        ValueError: a pattern that matches nothing; pairs, splits or groups that are not clear.
    """
    if not layout.images and not layout.lists:
        raise ValueError("no images: give their pattern with --images, or lists of them with --lists")
    work = _Arranging(layout, root)
    work.pair()
    work.read_lists()
    work.find_splits()
    work.find_groups()
    return work.arranged()


@dataclass
class _Arranging:
    layout: Layout
    root: Path
    sentences: list[str] = field(default_factory=list)
    rejections: dict[str | None, list[Rejection]] = field(default_factory=dict)
    partners: dict[MatchedFile, tuple[MatchedFile, ...]] = field(default_factory=dict)
    valid_of: dict[MatchedFile, MatchedFile] = field(default_factory=dict)
    splits: dict[MatchedFile, str] = field(default_factory=dict)
    groups: dict[MatchedFile, str] = field(default_factory=dict)

    def pair(self) -> None:
        layout = self.layout
        images = find_files(layout.images, self.root, "--images")
        masks = find_files(layout.masks, self.root, "--masks")
        valid = find_files(layout.valid, self.root, "--valid")
        masks = self._without(masks, valid, "--valid")
        images = self._without(self._without(images, valid, "--valid"), masks, "--masks")
        self.files = [file for some in images for file in some.files]
        self.masks = [file for some in masks for file in some.files]
        self.left: tuple[MatchedFile, ...] = ()
        if images and masks:
            pairs = pair_files(images, masks, Side("mask", "--masks", layout.several_masks))
            self.sentences += pairs.rules
            self.partners, self.left = pairs.partners, pairs.left
        if images and valid:
            pairs = pair_files(images, valid, Side("valid mask", "--valid"))
            self.sentences += pairs.rules
            if lacking := [image for image, files in pairs.partners.items() if not files]:
                raise ValueError(f"{lacking[0].path}: no file of --valid fits it by name: add it, or leave --valid out")
            self.valid_of = {image: files[0] for image, files in pairs.partners.items()}

    def _without(self, files: Sequence[FileSet], others: Sequence[FileSet], option: str) -> tuple[FileSet, ...]:
        """`files` without those that the patterns of `others`, which say more of the name, match too."""
        paths = {file.path for some in others for file in some.files}
        both = [file for some in files for file in some.files if file.path in paths]
        if not both:
            return tuple(files)
        if len(both) == sum(len(some.files) for some in files) or len(both) < len(paths):
            raise ValueError(
                f"{both[0].path} is matched by {option} and by the pattern of what it belongs to: write more of the "
                "name into both, or give each its own folder"
            )
        self.sentences.append(
            f"{quantity(len(both), 'file')} of the wider pattern left out, because {option} matches them too"
        )
        return tuple(replace(s, files=tuple(file for file in s.files if file.path not in paths)) for s in files)

    def read_lists(self) -> None:
        layout = self.layout
        if not layout.lists:
            for mask in self.left:
                self._reject(split_of(mask), mask.path, _NO_IMAGE)
            return
        lists = [file for some in find_files(layout.lists, self.root, "--lists") for file in some.files]
        of_images = Names(self.files) if layout.images else None
        of_masks = Names(self.masks) if layout.masks else None
        first_lines: dict[MatchedFile, Line] = {}
        for file in lists:
            split = _list_split(file, len(lists))
            # Paths start from the list's own folder, or from where the command does.
            images, masks = (names or Names(None, file.path.parent, self.root) for names in (of_images, of_masks))
            lines = list(read_list(file.path, images, masks))
            bad = [line for line in lines if isinstance(line, BadLine)]
            if not lines:
                raise ValueError(f"{file.path}: the list is empty: write an image a line, or leave the list out")
            if len(bad) == len(lines):
                raise ValueError(f"{bad[0].line_address}: {bad[0].reason} (so it is with each of {len(bad)} lines)")
            for line in lines:
                if isinstance(line, BadLine):
                    self._reject(split, line.line_address, line.reason)
                    continue
                if (first := first_lines.setdefault(line.image, line)) is not line:
                    raise ValueError(
                        f"{line.line_address}: {line.image.path} is in {first.line_address} already: "
                        "list each image once, in one split"
                    )
                self._take(line, split)
        if left := len(set(self.files) - set(first_lines)):
            self.sentences.append(f"{quantity(left, 'image')} left out, because no list names them")
        self.files = list(first_lines)

    def _take(self, line: Line, split: str | None) -> None:
        image = line.image
        if line.mask is not None:
            self.partners[image] = (line.mask,)
        if line.valid is not None:
            self.valid_of[image] = line.valid
        if line.split is not None:
            split = split_name(line.split) or line.split
        if split is not None:
            self.splits[image] = check_split(split, line.line_address)
        if line.group is not None:
            self.groups[image] = line.group

    def find_splits(self) -> None:
        if self.splits:
            if len(self.splits) < len(self.files):
                other = next(file for file in self.files if file not in self.splits)
                raise ValueError(f"{other.path}: its list names no split, but others do: name one for each")
            return
        self.splits, sentence = splits_by_fields(self.files)
        if not self.splits and self.layout.split_folders:
            self.splits, sentence = splits_by_folders(self.files)
        if sentence is not None:
            self.sentences.append(sentence)

    def find_groups(self) -> None:
        self.groups = self.groups or groups_of(self.files, self.layout.group)
        if self.groups:
            self.sentences.append(describe_groups(self.groups.values()))

    def arranged(self) -> Arrangement:
        labelled = any(self.partners.values())
        if self.valid_of and not labelled:
            image, mask = next(iter(self.valid_of.items()))
            raise ValueError(
                f"{mask.path}: --valid says where labels count, and images without masks, such as {image.path}, have "
                "none: leave --valid out, or give --masks"
            )
        names = unique_names(self.files)
        records = []
        left_out = bare = 0
        for file in self.files:
            masks, valid = self.partners.get(file, ()), self.valid_of.get(file)
            split = self.splits.get(file)
            if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in names[file]):
                self._reject(split, file.path, f"its name {names[file]!r} holds bytes that are no text: rename it")
                continue
            if labelled and not masks:
                if self.layout.without_mask == "leave-out":
                    left_out += 1
                    continue
                if self.layout.without_mask == "reject":
                    self._reject(split, file.path, _NO_MASK)
                    continue
                if self.layout.without_mask == "unlabelled":
                    split = UNLABELLED
                else:
                    bare += 1
            background = labelled and split != UNLABELLED
            paths = tuple(mask.path for mask in masks) if masks or background else None
            group = self.groups.get(file)
            records.append(Record(names[file], file.path, paths, valid.path if valid else None, split, group))
        if bare:
            self.sentences.append(f"{quantity(bare, 'image')} without mask taken as background")
        if left_out:
            self.sentences.append(f"{quantity(left_out, 'image')} without mask left out")
        rejections = {split: tuple(some) for split, some in self.rejections.items()}
        return Arrangement(tuple(records), rejections, tuple(self.sentences))

    def _reject(self, split: str | None, file: Path | str, reason: str) -> None:
        self.rejections.setdefault(split, []).append(Rejection(str(file), reason))


def _list_split(file: MatchedFile, lists: int) -> str | None:
    """The split that a list is of: by {split}, or by the list's own name; None for a list alone that names none."""
    name = file.fields.get("split", file.stem)
    known = split_name(name)
    if known is not None or "split" in file.fields or lists > 1:
        return check_split(known or name, str(file.path))
    return None
