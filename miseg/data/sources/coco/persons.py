"""COCO-Persons: people and everything else in images of COCO (Lin et al., ECCV 2014).

Harb and Knöbelreiter introduce the set in InfoSeg (GCPR 2021). Neither a list of their images nor the rule by which
they took them was to be had when this was written: the rule below is ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample
from miseg.data.sources.coco.frames import MIN_SIDE, SPLITS, Frame, first_folder, image_folders
from miseg.json_values import parse

CLASSES = ("not person", "person")
COLOURS = ((0, 0, 0), (220, 20, 60))
MIN_SHARE = 0.2
"""Share of an image's pixels that single people cover at least. Ours."""

_CATEGORY = "person"
_LONGEST_SIDE = 2**13
_ORIGIN = (
    "unpack train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org into one folder and give "
    "it with --root, or set MISEG_DATA to the folder that holds coco/"
)
_AGAIN = "copy it again from annotations_trainval2017.zip"
_MOST_BYTES = 2**31
"""Of a file; that of COCO's 118,287 training images has 448 MB."""


class CocoPersons:
    """Reader of `<split>2017/<id>.jpg` (or `images/<split>2017/`) and `annotations/instances_<split>2017.json`.

    The splits are train and val of COCO 2017. A pixel is person (1) where the outline of a single person covers it,
    ignored where only that of a crowd does, whose gaps no one outlined, and not person (0) elsewhere. Taken are images
    with both sides of 360 pixels or more, as in COCO-Stuff-15, in which single people cover a share of `min_share` or
    more: where they are a few pixels, calling everything "not person" is all but right.

    Args:
        root: the folder that holds images and annotations.
        min_share: share of an image's pixels that single people cover at least, above 0 and up to 1.
        frame: how images are shrunk.

    Raises:
        ValueError: a share out of range.
    """

    def __init__(self, root: Path, min_share: float = MIN_SHARE, frame: Frame | None = None) -> None:
        if not 0 < min_share <= 1:
            raise ValueError(f"min_share = {min_share}: use a share above 0 and up to 1")
        self.root, self.min_share = Path(root), min_share
        self.frame = Frame() if frame is None else frame

    @property
    def info(self) -> DataSetInfo:
        """Two classes: not person, person."""
        return DataSetInfo("coco-persons", CLASSES, COLOURS)

    def available(self) -> tuple[str, ...]:
        """The splits, of train and val, that have a folder of images and a file of instances.

        Raises:
            ValueError: the root is no folder, or has no split with both.
        """
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder; {_ORIGIN}")
        splits = tuple(
            split for split in SPLITS if self._file(split).is_file() and first_folder(image_folders(self.root, split))
        )
        if not splits:
            raise ValueError(f"{self.root} has no split with images and {self._file('train').name} or so: {_ORIGIN}")
        return splits

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The images that are taken, by name; those with outlines that cannot be drawn, or without file, as rejections.

        Raises:
            ValueError: neither train nor val; the root, the split's folder or its file is missing; the file is damaged
                or no COCO file of instances; no image is taken.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: coco-persons has {' and '.join(SPLITS)}")
        available, folder = self.available(), first_folder(image_folders(self.root, split))
        if split not in available or folder is None:
            raise ValueError(
                f"{self.root} has no images or no {self._file(split).name}, so there is no split {split!r} here "
                f"(found: {', '.join(available)}); ask for those only (--splits), or {_ORIGIN}"
            )
        images, people = _read(self._file(split))
        taken = 0
        for image in sorted(images, key=lambda image: image["file_name"]):
            mine = people.pop(image["id"], [])
            if all(person.get("iscrowd") for person in mine) or min(image["height"], image["width"]) < MIN_SIDE:
                continue
            try:
                labels = _labels(image["height"], image["width"], mine)
            except _OutlineError as error:
                yield Rejection(str(self._file(split)), f"image {image['file_name']}: {error}; {_AGAIN}")
                continue
            if int((labels == 1).sum()) < self.min_share * labels.size:
                continue
            taken += 1
            yield self._sample(split, folder, image["file_name"], labels)
        for number, orphans in people.items():
            reason = f"image_id {number} of annotation {orphans[0].get('id')} is none of its images; {_AGAIN}"
            yield Rejection(str(self._file(split)), reason)
        if not taken:
            raise ValueError(
                f"{self._file(split)}: none of {len(images)} images has sides of {MIN_SIDE} pixels or more and single "
                f"people on {self.min_share:.0%} of them; check that it is the published file"
            )

    def _sample(self, split: str, folder: Path, name: str, labels: np.ndarray) -> Sample | Rejection:
        image = folder / name
        # A name with a folder in it could reach elsewhere on this machine.
        if image.name != name:
            return Rejection(
                str(self._file(split)), f"file_name {name!r} is no name such as 000000000139.jpg; {_AGAIN}"
            )
        if not image.is_file():
            return Rejection(
                str(image), f"listed in {self._file(split).name}, but not there: add it or leave it out there"
            )
        return self.frame.sample(image.stem, split, image, labels)

    def _file(self, split: str) -> Path:
        return self.root / "annotations" / f"instances_{split}2017.json"


class _OutlineError(ValueError):
    """An outline that cannot be drawn; the message is the reason."""


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[Any, list[dict[str, Any]]]]:
    """The images, and the annotations of people by image."""
    try:
        content = parse(path.read_bytes(), most_bytes=_MOST_BYTES, finite=False)  # told of each outline
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): check the file and its permissions") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no JSON ({error}): {_AGAIN}") from None
    kinds: dict[str, dict[str, Any]] = {
        "categories": {"id": int, "name": str},
        "images": {"id": int, "file_name": str, "height": int, "width": int},
        "annotations": {"image_id": int, "category_id": int, "segmentation": (list, dict)},
    }
    for kind, fields in kinds.items():
        entries = content.get(kind) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f"{path} has no list of {kind}, as COCO's files of instances have: {_AGAIN}")
        for number, entry in enumerate(entries):
            for name, expected in fields.items():
                if not isinstance(entry, dict) or not isinstance(entry.get(name), expected):
                    value = entry.get(name) if isinstance(entry, dict) else entry
                    raise ValueError(f"{path}: {kind}[{number}] has {name} = {str(value)[:60]!r}: {_AGAIN}")
    for image in content["images"]:
        if not all(0 < image[name] <= _LONGEST_SIDE for name in ("height", "width")):
            size = f"{image['height']}x{image['width']}"
            raise ValueError(f"{path}: {image['file_name']} has {size} pixels, not 1..{_LONGEST_SIDE} a side: {_AGAIN}")
    numbers = {entry["id"] for entry in content["categories"] if entry["name"] == _CATEGORY}
    if not numbers:
        raise ValueError(f"{path} has no category {_CATEGORY!r}: use instances_*.json, not captions or stuff")
    people: dict[Any, list[dict[str, Any]]] = {}
    for entry in content["annotations"]:
        if entry["category_id"] in numbers:
            people.setdefault(entry["image_id"], []).append(entry)
    return content["images"], people


def _labels(height: int, width: int, people: list[dict[str, Any]]) -> np.ndarray:
    """uint8 [height, width]: 1 single people, 255 crowds, 0 elsewhere."""
    # Its compiled part and NumPy's are loaded for those who pack COCO only.
    from pycocotools import mask as coco_mask

    labels = np.zeros((height, width), np.uint8)
    # Crowds first: a person whose outline is known is no part of one.
    for person in sorted(people, key=lambda person: not person.get("iscrowd")):
        outline = person["segmentation"]
        reason = (
            _not_runs(outline, height, width) if isinstance(outline, dict) else _not_polygons(outline, height, width)
        )
        if reason:
            raise _OutlineError(f"annotation {person.get('id')}: {reason}")
        runs = coco_mask.frPyObjects(outline, height, width)
        with warnings.catch_warnings():
            # pycocotools 2.0.11 makes its arrays in a way of NumPy 1, of which NumPy 2 warns.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            covered = coco_mask.decode(runs if isinstance(runs, list) else [runs]).any(-1)
        labels[covered] = IGNORE_LABEL if person.get("iscrowd") else 1
    return labels


def _not_polygons(polygons: list[Any], height: int, width: int) -> str:
    """Why these are no polygons x, y, x, y, … in pixels; empty where they are."""
    if not polygons:
        return "no polygon"
    # pycocotools takes four numbers for a box, and is compiled without checks of memory.
    for polygon in polygons:
        try:
            points = np.asarray(polygon, np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            return f"polygon {str(polygon)[:60]} is no list of pairs of numbers"
        if len(points) < 3:
            return f"polygon of {len(points)} points, not 3 or more"
        # Written so that nan fails too; published outlines lie inside, drawn ones may leave the image a little.
        if not (np.abs(points / (width, height) - 0.5) <= 1.5).all():
            return f"polygon reaches far beyond the image of {height}x{width} pixels"
    return ""


def _not_runs(runs: dict[str, Any], height: int, width: int) -> str:
    """Why these are no run lengths of an image of this size, as COCO has them for crowds; empty where they are."""
    counts, size = runs.get("counts"), runs.get("size")
    if size != [height, width]:
        return f"run lengths of size {size}, the image has {[height, width]}"
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        return f"run lengths {str(counts)[:60]} are no list of whole numbers"
    if sum(counts) != height * width:
        return f"run lengths of {sum(counts)} pixels, the image has {height * width}"
    return ""
