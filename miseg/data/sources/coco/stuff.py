"""COCO-Stuff-15: the 15 kinds of stuff of COCO-Stuff (Caesar et al., CVPR 2018), prepared as Ji et al. (2019) did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from miseg.data.checks import BadFileError, check_mask, read_bytes
from miseg.data.listing import read_lines
from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample
from miseg.data.sources.coco.frames import MIN_SIDE, SPLITS, Frame, first_folder, image_folders, pictures
from miseg.data.sources.coco.labels import LABELS, STUFF, STUFF_LABELS

CLASSES = tuple(STUFF)
COLOURS = (
    *((240, 230, 200), (160, 110, 60), (255, 140, 0), (128, 64, 0), (170, 170, 190), (220, 100, 180), (200, 190, 130)),
    *((150, 220, 240), (200, 50, 50), (190, 160, 110), (30, 140, 50), (80, 170, 255), (110, 110, 110), (120, 60, 160)),
    (0, 60, 190),
)
"""Ours: COCO-Stuff publishes none for the kinds."""
MIN_STUFF = 0.75
"""Share of an image's pixels that is stuff at least: with `MIN_SIDE`, the rule of the curated lists."""
CURATED = "Coco164kFull_Stuff_Coarse_7.txt"
"""Name of Ji et al.'s lists, in curated/train2017/ and curated/val2017/ of COCOStuff164kCurated.tar.gz."""

_FINE = DataSetInfo("coco-stuff", tuple(map(str, range(LABELS))), ())
_MASKS = ("annotations", "stuffthingmaps_trainval2017", "stuffthingmaps")
_ORIGIN = (
    "unpack train2017.zip and val2017.zip from images.cocodataset.org/zips into images/ and "
    "stuffthingmaps_trainval2017.zip (github.com/nightrome/cocostuff) into annotations/, and give the folder that "
    "holds both with --root, or set MISEG_DATA to the folder that holds coco_stuff/"
)


def coarse_labels() -> np.ndarray:
    """The label 0..14, or 255, of each of the 256 values of a mask, uint8 [256]."""
    table = np.full(256, IGNORE_LABEL, np.uint8)
    for label, names in enumerate(STUFF.values()):
        table[[STUFF_LABELS[name] for name in names]] = label
    return table


class CocoStuff15:
    """Reader of `images/<split>2017/<id>.jpg` and `annotations/<split>2017/<id>.png`, masks of 0..181 and 255.

    The images may lie in `<split>2017/` too, and the masks in `stuffthingmaps_trainval2017/` or `stuffthingmaps/`. The
    splits are train and val of COCO 2017. A folder of `img/` and `label/` instead is one split, all.

    As in the authors' code (xu-ji/IIC), things are ignored, images are shrunk (see `Frame`), and only images that are
    mostly stuff are taken: those of the list, or where there is none, those that the rule takes by which
    coco164k_prepare.py made the list: both sides of 360 pixels or more, and stuff on 75 % of the pixels or more. Their
    training without labels uses, and is measured on, the images of train and val together; here it is measured on val.

    Args:
        root: the folder that holds the images and the masks.
        image_list: ids of the images to take, one a line, of one split. None takes those of
            `curated/<split>2017/Coco164kFull_Stuff_Coarse_7.txt` under the root; where that is not there, the rule's.
        curated: False takes every image.
        frame: how images are shrunk.

    Raises:
        ValueError: a list for every image.
    """

    def __init__(
        self, root: Path, image_list: Path | None = None, curated: bool = True, frame: Frame | None = None
    ) -> None:
        if image_list is not None and not curated:
            raise ValueError(f"image list {image_list}, but every image is asked for: leave one of the two out")
        self.root, self.image_list, self.curated = Path(root), image_list, curated
        self.frame = Frame() if frame is None else frame

    @property
    def info(self) -> DataSetInfo:
        """The 15 kinds of stuff, in the order of Ji et al."""
        return DataSetInfo("coco-stuff-15", CLASSES, COLOURS)

    def available(self) -> tuple[str, ...]:
        """The splits, of train and val, that have folders of images and of masks; all, where there is img/ and label/.

        Raises:
            ValueError: the root is no folder, or has no split with both.
        """
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder; {_ORIGIN}")
        splits = tuple(split for split in (*SPLITS, "all") if None not in map(first_folder, self._candidates(split)))
        if not splits:
            raise ValueError(f"{self.root} has no split with images and masks: {_ORIGIN}")
        return splits

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The images that are taken, in the list's order or by name; without a list, also masks without image.

        Raises:
            ValueError: unknown split; the root or one of the split's two folders is missing; no image is taken; the
                list cannot be read, or is of another split.
        """
        images, masks = self._pictures(split)
        listed = self._list(split)
        names = list(images) if listed is None else [name for _, name in listed[1]]
        if listed is not None:
            yield from _unlisted(*listed, images, split)
        by_rule = self.curated and listed is None
        taken, table = 0, coarse_labels()
        for name in dict.fromkeys(name for name in names if name in images):
            if name not in masks:
                reason = f"image without mask: {name}.png is not beside the other masks; add it or remove the image"
                yield Rejection(str(images[name]), reason)
                continue
            try:
                fine = check_mask(read_bytes(masks[name]), _FINE)
            except BadFileError as error:
                yield Rejection(str(masks[name]), str(error))
                continue
            if by_rule and not _mostly_stuff(table[fine]):
                continue
            taken += 1
            yield self.frame.sample(name, split, images[name], table[fine])
        if listed is None:
            for name in (name for name in masks if name not in images):
                reason = f"mask without image: {name}.jpg is not beside the other images; add it or remove the mask"
                yield Rejection(str(masks[name]), reason)
        if by_rule and not taken:
            raise ValueError(
                f"split {split!r} in {self.root}: none of {len(images)} images has sides of {MIN_SIDE} pixels or more "
                f"and stuff on {MIN_STUFF:.0%} of them; take every image (--no-curated)"
            )

    def _candidates(self, split: str) -> tuple[list[Path], list[Path]]:
        """Folders that may hold the split's images, and its masks."""
        if split == "all":
            return [self.root / "img"], [self.root / "label"]
        return image_folders(self.root, split), [self.root / name / f"{split}2017" for name in _MASKS]

    def _pictures(self, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        if split not in (*SPLITS, "all"):
            raise ValueError(f"split {split!r}: coco-stuff-15 has {' and '.join(SPLITS)}, or all in img/ and label/")
        by_kind = []
        available = self.available()
        for folders in self._candidates(split):
            folder = first_folder(folders)
            if folder is None:
                raise ValueError(
                    f"{' and '.join(f'{path}/' for path in folders)} are missing, so there is no split {split!r} here "
                    f"(found: {', '.join(available)}); ask for those only (--splits), or {_ORIGIN}"
                )
            by_kind.append(pictures(folder))
            if not by_kind[-1]:
                raise ValueError(f"{folder}/ holds no picture: {_ORIGIN}")
        return by_kind[0], by_kind[1]

    def _list(self, split: str) -> tuple[Path, list[tuple[int, str]]] | None:
        path = self.image_list
        if path is None:
            path = self.root / "curated" / f"{split}2017" / CURATED
            if not self.curated or not path.is_file():
                return None
        lines = read_lines(path)
        if not lines:
            raise ValueError(f"{path} is empty: write one image id a line, such as 000000000139")
        return path, lines


def _unlisted(path: Path, lines: list[tuple[int, str]], images: dict[str, Path], split: str) -> Iterator[Rejection]:
    absent = [(number, name) for number, name in lines if name not in images]
    if len(absent) == len(lines):
        raise ValueError(
            f"{path} names no image of split {split!r}, but for one {absent[0][1]!r}: give one image id a line, such "
            "as 000000000139, of one split, and that split with --splits"
        )
    for number, name in absent:
        yield Rejection(f"{path}:{number}", f"no image {name!r} in split {split!r}: add it or remove the line")


def _mostly_stuff(labels: np.ndarray) -> bool:
    return min(labels.shape) >= MIN_SIDE and int((labels != IGNORE_LABEL).sum()) >= MIN_STUFF * labels.size
