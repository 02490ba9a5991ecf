"""Own images with outlines in COCO's JSON, as labelling programs export it."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from miseg.data.folders.outlines import OutlineError, check_size, draw_outline
from miseg.data.listing import is_picture
from miseg.data.picture_files import OF_DAMAGED, open_header
from miseg.data.samples import IGNORE_LABEL
from miseg.json_values import parse

BACKGROUND = "background"
_AGAIN = "export it again as COCO with segmentation"
_MOST_BYTES = 2**31
"""Of a file; that of COCO's 118,287 training images has 448 MB."""
_CROWD = {None: False, "": False, "0": False, "0.0": False, "False": False, "1": True, "1.0": True, "True": True}
"""Whether an annotation is of a crowd, by the text of its field iscrowd."""


@dataclass(frozen=True)
class Outlined:
    """An image of a COCO file.

    Attributes:
        name: its file_name, with / between folders.
        image: its file; None where it is not there.
        size: (height, width) in pixels, of its outlines.
        outlines: annotations: {"id", "category_id", "segmentation", "iscrowd"}.
    """

    name: str
    image: Path | None
    size: tuple[int, int]
    outlines: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class CocoFile:
    """Categories and images of a COCO file.

    Attributes:
        path: the file.
        categories: names by id, those that an image may show.
        images: in the order of names.
        sentences: what was understood, to be printed.
    """

    path: Path
    categories: dict[int, str]
    images: tuple[Outlined, ...]
    sentences: tuple[str, ...]


def read_coco(path: Path, files: PictureFolder) -> CocoFile:
    """A COCO file, whose images are in a folder or in folders below it.

    Args:
        path: the JSON file.
        files: the pictures of the folder that file names start from; one that is not there is looked for by its last
            part.

    Raises:
        ValueError: it cannot be read, is no COCO file of outlines, or contradicts itself; the message names the entry.
    """
    content = _load(path)
    categories = _categories(path, content)
    outlines: dict[Any, list[dict[str, Any]]] = {}
    boxes = 0
    for number, entry in enumerate(content["annotations"]):
        if entry["category_id"] not in categories:
            raise ValueError(
                f"{path}: annotations[{number}] has category_id {entry['category_id']}, which is none of its "
                f"{len(categories)} categories: {_AGAIN}"
            )
        if _crowd_text(entry) not in _CROWD:
            raise ValueError(f"{path}: annotations[{number}] has iscrowd = {str(entry['iscrowd'])[:60]!r}: use 0 or 1")
        boxes += not entry.get("segmentation")
        outlines.setdefault(entry["image_id"], []).append(entry)
    total = len(content["annotations"])
    if boxes == total:
        raise ValueError(f"{path}: {total} annotations, and none has an outline (segmentation): {_AGAIN}")
    images, ids = [], set()
    for number, entry in enumerate(content["images"]):
        if entry["id"] in ids:
            raise ValueError(f"{path}: images[{number}] has id {entry['id']}, as another has: {_AGAIN}")
        ids.add(entry["id"])
        images.append(_image(path, entry, files, tuple(outlines.pop(entry["id"], ()))))
    if outlines:
        number, orphans = next(iter(outlines.items()))
        raise ValueError(
            f"{path}: image_id {number} of annotation {orphans[0].get('id')} is none of its {len(images)} images: "
            f"{_AGAIN}"
        )
    images.sort(key=lambda image: image.name)
    for before, after in itertools.pairwise(images):
        if before.name == after.name:
            raise ValueError(f"{path}: file_name {before.name!r} stands twice: {_AGAIN}")
    return CocoFile(path, categories, tuple(images), tuple(_sentences(path, images)))


def _sentences(path: Path, images: Sequence[Outlined]) -> Iterator[str]:
    if bare := sum(not image.outlines for image in images):
        yield f"{path.name}: {bare} of {len(images)} images have no outline: all of them is background."
    if crowds := sum(_is_crowd(outline) for image in images for outline in image.outlines):
        yield f"{path.name}: pixels that only {crowds} outlines of crowds cover count nowhere."


def labels_of(outlined: Outlined, label_of: dict[int, int], background: int) -> np.ndarray:
    """Labels of an image's outlines, uint8 [H, W]. Smaller objects lie on larger ones; crowds, 255, under all.

    Args:
        outlined: the image.
        label_of: label by category_id.
        background: label where no outline is.

    Raises:
        OutlineError: an outline that cannot be drawn; the message names the annotation.
    """
    height, width = outlined.size
    drawn = []
    for position, entry in enumerate(outlined.outlines):
        if not entry.get("segmentation"):
            raise OutlineError(f"annotation {entry.get('id')} has a box and no outline: outline it, or leave it out")
        try:
            covered = draw_outline(entry["segmentation"], height, width)
        except OutlineError as error:
            raise OutlineError(f"annotation {entry.get('id')}: {error}") from None
        crowd = _is_crowd(entry)
        label = IGNORE_LABEL if crowd else label_of[entry["category_id"]]
        # Packed, since an image may have hundreds.
        drawn.append((not crowd, -int(covered.sum()), position, np.packbits(covered), label))
    labels = np.full((height, width), background, np.uint8)
    for *_, packed, label in sorted(drawn, key=lambda entry: entry[:3]):
        labels[np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)] = label
    return labels


def _crowd_text(entry: dict[str, Any]) -> str | None:
    # Some programs write it as text, in which "0" is no less than "1".
    value = entry.get("iscrowd")
    return None if value is None else str(value).strip().capitalize()[:60]


def _is_crowd(entry: dict[str, Any]) -> bool:
    return _CROWD[_crowd_text(entry)]


@dataclass
class PictureFolder:
    """Pictures in a folder and below it, by path and by name.

    Attributes:
        folder: the folder.
        used: those that a name was of.
    """

    folder: Path
    used: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        paths = [path for path in self.folder.rglob("*") if is_picture(path) and path.is_file()]
        self.by_path = {_normal(path.relative_to(self.folder).as_posix()): path for path in sorted(paths)}
        self.by_name: dict[str, list[Path]] = {}
        for name, path in self.by_path.items():
            self.by_name.setdefault(PurePosixPath(name).name, []).append(path)

    def find(self, name: str) -> Path | None:
        """The file of a file_name: below the folder, else the one picture that has its last part as its name."""
        path = self.by_path.get(name)
        if path is None and len(alike := self.by_name.get(PurePosixPath(name).name, [])) == 1:
            path = alike[0]
        if path is not None:
            self.used.add(path)
        return path

    def unused(self) -> int:
        """Number of pictures that no name was of."""
        return len(self.by_path) - len(self.used)


def _normal(name: str) -> str:
    """Names are compared in Unicode normal form C: macOS writes others than Linux."""
    return unicodedata.normalize("NFC", name)


def _image(path: Path, entry: dict[str, Any], files: PictureFolder, outlines: tuple[dict[str, Any], ...]) -> Outlined:
    # Programs on Windows write its separators, and some the whole path on the machine of whoever labelled.
    name = _normal(entry["file_name"].replace("\\", "/"))
    image = files.find(name.removeprefix("./"))
    height, width = entry.get("height"), entry.get("width")
    if type(height) is not int or type(width) is not int:
        height, width = _size(image)
    if image is not None and (reason := check_size(height, width)):
        raise ValueError(f"{path}: {name} has {reason}: {_AGAIN}")
    return Outlined(name, image, (height, width), outlines)


def _size(image: Path | None) -> tuple[int, int]:
    """Height and width in a file's header; 0 where there is none."""
    try:
        if image is not None:
            with open_header(image) as picture:
                return picture.height, picture.width
    except OF_DAMAGED:
        pass
    return 0, 0


def _categories(path: Path, content: dict[str, Any]) -> dict[int, str]:
    entries = content["categories"]
    parents = {entry.get("supercategory") for entry in entries}
    used = {entry["category_id"] for entry in content["annotations"]}
    names: dict[int, str] = {}
    for entry in entries:
        # Roboflow writes the project as a category of its own, the parent of all, that nothing is labelled with.
        if entry["name"] in parents and entry.get("supercategory") == "none" and entry["id"] not in used:
            continue
        if entry["id"] in names:
            raise ValueError(f"{path}: category {entry['id']} stands twice: {_AGAIN}")
        names[entry["id"]] = entry["name"].strip()
    return dict(sorted(names.items()))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = parse(path.read_bytes(), most_bytes=_MOST_BYTES, finite=False)  # told of each outline
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): check the file and its permissions") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no JSON ({error}): {_AGAIN}") from None
    kinds: dict[str, dict[str, Any]] = {
        "categories": {"id": int, "name": str},
        "images": {"id": (int, str), "file_name": str},
        "annotations": {"image_id": (int, str), "category_id": int},
    }
    for kind, fields in kinds.items():
        entries = content.get(kind) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise ValueError(f"{path} has no list of {kind}, as COCO's files have: {_AGAIN}")
        for number, entry in enumerate(entries):
            for name, expected in fields.items():
                value = entry.get(name) if isinstance(entry, dict) else entry
                if not isinstance(value, expected) or isinstance(value, bool):
                    raise ValueError(f"{path}: {kind}[{number}] has {name} = {str(value)[:60]!r}: {_AGAIN}")
    return content


def class_labels(files: Iterable[CocoFile], ignore: Sequence[str]) -> tuple[tuple[str, ...], dict[int, int], int]:
    """Names of classes, label by category_id, and the background's label.

    Label 0 is the background, then come categories by id; those that `ignore` names are 255, and so may the background.

    Raises:
        ValueError: files whose categories differ, two categories of one name, or a name that no category has.
    """
    first, *others = files
    for other in others:
        if other.categories != first.categories:
            raise ValueError(f"{other.path} has other categories than {first.path}: export both from one project")
    names = list(first.categories.values())
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{first.path}: {names.count(twice)} categories are named {twice!r}: give each its own name")
    own = [name for name in (BACKGROUND, *(name for name in names if name.lower() != BACKGROUND)) if name not in ignore]
    if unknown := set(ignore) - {BACKGROUND, *names}:
        raise ValueError(f"--ignore {min(unknown)}: {first.path} has no category of that name")
    label_of = {
        number: own.index(BACKGROUND if name.lower() == BACKGROUND else name)
        if (BACKGROUND if name.lower() == BACKGROUND else name) in own
        else IGNORE_LABEL
        for number, name in first.categories.items()
    }
    return tuple(own), label_of, own.index(BACKGROUND) if BACKGROUND in own else IGNORE_LABEL
