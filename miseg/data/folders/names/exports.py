"""Images whose labels programs export in a file of many: COCO's JSON, and Parquet."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from miseg.data.folders.coco_json import CocoFile, PictureFolder, read_coco
from miseg.data.folders.hf_parquet import read_rows
from miseg.data.folders.names.belonging import counted, describe_groups, group_of
from miseg.data.folders.names.layout import Arrangement, Layout, Record
from miseg.data.folders.names.patterns import MatchedFile, find_files
from miseg.data.folders.names.splits import check_split, split_name
from miseg.data.samples import Rejection


def arrange_coco(layout: Layout, root: Path) -> Arrangement:
    """The images that COCO files name.

    Raises:
        ValueError: a pattern that matches nothing, a file that is no COCO file of outlines, or no image of it is there.
    """
    _refuse(layout, "--coco", "masks", "valid", "lists", "parquet", "columns")
    files = _files(layout.coco, root, "--coco", "*.json")
    folders = _folders(layout, root, files)
    pictures = {folder: PictureFolder(folder) for folder in folders}
    splits = _splits(files, layout.split_folders, "--coco")
    records: list[Record] = []
    rejections: dict[str | None, list[Rejection]] = {}
    contents: list[CocoFile] = []
    listed: dict[Path, Path] = {}
    for file, folder in zip(files, folders, strict=True):
        content = read_coco(file.path, pictures[folder])
        there = [outlined for outlined in content.images if outlined.image is not None]
        if not there:
            raise ValueError(
                f"{file.path}: none of its {len(content.images)} images is under {folder}, such as "
                f"{content.images[0].name}: give the folder that file names start from with --images"
            )
        split = splits.get(file)
        for outlined in content.images:
            if outlined.image is None:
                reason = f"is not under {folder}, and {file.path} names it: add it, or leave it out of the export"
                rejections.setdefault(split, []).append(Rejection(outlined.name, reason))
                continue
            if (first := listed.setdefault(outlined.image, file.path)) != file.path:
                raise ValueError(
                    f"{outlined.image} is in {first} and in {file.path}: list each image once, in one split; where "
                    "files name other images alike, give the folder of each with --images"
                )
            name = str(PurePosixPath(outlined.name.lstrip("/")).with_suffix(""))
            records.append(Record(name, outlined.image, split=split, outlined=outlined))
        contents.append(content)
    sentences = [sentence for content in contents for sentence in content.sentences]
    for folder in dict.fromkeys(folders):
        if unused := pictures[folder].unused():
            sentences.append(f"{unused} pictures under {folder} are in no COCO file and are left out")
    return _arranged(records, rejections, sentences, layout, splits, tuple(contents))


def arrange_parquet(layout: Layout, root: Path) -> Arrangement:
    """The images in Parquet files.

    Raises:
        ValueError: a pattern that matches nothing, or a file whose images and masks cannot be found in it.
    """
    _refuse(layout, "--parquet", "images", "masks", "valid", "lists")
    files = _files(layout.parquet, root, "--parquet", "*.parquet")
    splits = _splits(files, layout.split_folders, "--parquet")
    rows = [(row, splits.get(file)) for file in files for row in read_rows(file.path, layout.columns)]
    if not rows:
        raise ValueError(f"{files[0].path} has no row: check --parquet")
    labelled = any(row.masks is not None for row, _ in rows)
    records: list[Record] = []
    rejections: dict[str | None, list[Rejection]] = {}
    left_out = 0
    for row, split in rows:
        masks = row.masks
        if labelled and masks is None:
            if layout.without_mask == "leave-out":
                left_out += 1
                continue
            if layout.without_mask == "reject":
                reason = "row without mask: add it, or say --without-mask leave-out, unlabelled or background"
                rejections.setdefault(split, []).append(Rejection(str(row.image), reason))
                continue
            split, masks = ("unlabelled", None) if layout.without_mask == "unlabelled" else (split, ())
        records.append(Record(row.name, row.image, masks, split=split))
    sentences = [f"{left_out} rows without mask are left out"] if left_out else []
    if any(cell.item is not None for row, _ in rows for cell in row.masks or ()):
        sentences.append("rows have lists of masks: each of a list is an object of the one class")
    return _arranged(records, rejections, sentences, layout, splits, ())


def _refuse(layout: Layout, option: str, *others: str) -> None:
    for name in others:
        if getattr(layout, name):
            raise ValueError(f"{option} beside --{name}: the file says it already; leave --{name} out")


def _files(patterns: Sequence[str], root: Path, option: str, ending: str) -> list[MatchedFile]:
    """The files of patterns, and of a folder those with the ending."""
    inside = [
        f"{pattern.rstrip('/')}/{ending}" if (root / Path(pattern).expanduser()).is_dir() else pattern
        for pattern in patterns
    ]
    files = dict.fromkeys(file for some in find_files(inside, root, option) for file in some.files)
    return list(files)


def _folders(layout: Layout, root: Path, files: Sequence[MatchedFile]) -> list[Path]:
    """The folder of each COCO file's images."""
    if not layout.images:
        return [file.path.parent for file in files]
    if len(layout.images) not in (1, len(files)):
        raise ValueError(
            f"--images names {len(layout.images)} folders for {len(files)} files of --coco: give one, or one for each "
            "file"
        )
    folders = []
    for number, file in enumerate(files):
        text = layout.images[number if len(layout.images) > 1 else 0]
        for name, value in file.fields.items():
            text = text.replace(f"{{{name}}}", value)
        folder = root / Path(text).expanduser()
        if not folder.is_dir():
            raise ValueError(
                f"--images {text}: no such folder, and beside --coco it is the folder that file names start from"
            )
        folders.append(folder)
    return folders


def _splits(files: Sequence[MatchedFile], by_name: bool, option: str) -> dict[MatchedFile, str]:
    """Splits by the field {split} of a file's pattern, its name, or its folder; none where no file says one.

    Raises:
        ValueError: some say one and others do not.
    """
    splits: dict[MatchedFile, str] = {}
    for file in files:
        names = [file.fields["split"]] if "split" in file.fields else []
        # A file alone in a folder named test or train is no split of a whole.
        folder = file.path.parent.name if len(files) > 1 else ""
        known = [split_name(text) for text in (*names, *((file.stem, folder) if by_name else ()))]
        split = next((name for name in known if name is not None), names[0] if names else None)
        if split is not None:
            splits[file] = check_split(split, str(file.path))
    if splits and len(splits) < len(files):
        other = next(file for file in files if file not in splits)
        example = next(iter(splits))
        raise ValueError(
            f"{other.path} names no split, but {example.path} is {splits[example]}: write {{split}} into {option}, or "
            "draw the splits with --no-split-folders"
        )
    return splits


def _arranged(
    records: list[Record],
    rejections: dict[str | None, list[Rejection]],
    sentences: list[str],
    layout: Layout,
    splits: dict[MatchedFile, str],
    coco: tuple[CocoFile, ...],
) -> Arrangement:
    """The arrangement, with groups, and with names that are unique."""
    if splits:
        sentences.append(f"splits by names of files: {counted(record.split for record in records if record.split)}")
    if layout.group is not None:
        groups = [group_of(record.name, layout.group, str(record.image)) for record in records]
        records = [replace(record, group=group) for record, group in zip(records, groups, strict=True)]
        sentences.append(describe_groups(groups))
    counts = Counter(record.name for record in records)
    seen: Counter[str] = Counter()
    named = []
    for record in records:
        name = record.name
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            reason = f"its name {name!r} holds bytes that are no text: rename it"
            rejections.setdefault(record.split, []).append(Rejection(str(record.image), reason))
            continue
        if counts[name] > 1:
            # Files of two splits may number their images alike.
            seen[name] += 1
            name = f"{name}-{seen[name]}"
            while counts[name]:
                name += "-again"
        named.append(replace(record, name=name))
    listed = {split: tuple(some) for split, some in rejections.items()}
    return Arrangement(tuple(named), listed, tuple(sentences), coco)
