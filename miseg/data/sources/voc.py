"""PASCAL VOC 2012 segmentation (Everingham et al., 2010; host.robots.ox.ac.uk/pascal/VOC/voc2012)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from miseg.data.listing import halved, read_lines
from miseg.data.samples import DataSetInfo, Rejection, Sample

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted plant",
    "sheep",
    "sofa",
    "train",
    "tv/monitor",
)
SPLITS = ("train", "val")

_ORIGIN = (
    "unpack VOCtrainval_11-May-2012.tar from host.robots.ox.ac.uk/pascal/VOC/voc2012 and give the place with --root, "
    "or set MISEG_DATA to the folder that holds voc/"
)


def colour(label: int) -> tuple[int, int, int]:
    """The devkit's colour map: bits 0, 1, 2 of the label are the highest of red, green, blue; bits 3, 4, 5 the next."""
    red, green, blue = (
        sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)
    )
    return red, green, blue


COLOURS = tuple(colour(label) for label in range(len(CLASSES)))


class Voc:
    """Reader of `ImageSets/Segmentation/<split>.txt`, `JPEGImages/<id>.jpg` and `SegmentationClass/<id>.png`.

    The root is VOC2012 itself, VOCdevkit that holds it, or a folder that holds VOCdevkit. The splits are train (1,464
    images), val (1,449), and trainval (both) for those who ask for it by name; the publisher keeps the masks of test.
    Most images and some masks of the published folders are in no list: only listed ones are looked at.
    """

    name = "voc"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def info(self) -> DataSetInfo:
        """Background and 20 classes of objects; 255 is the publisher's "void": borders and difficult objects."""
        return DataSetInfo(self.name, CLASSES, COLOURS)

    def available(self) -> tuple[str, ...]:
        """The splits, of train and val, that have a list; trainval holds both over again and is left out.

        Raises:
            ValueError: the root is no folder, holds no VOC2012, or has neither list.
        """
        splits = self._listed()
        if not splits:
            raise ValueError(
                f"{self._lists()} has neither {' nor '.join(f'{split}.txt' for split in SPLITS)}: {_ORIGIN}"
            )
        return splits

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The listed pairs in order.

        Raises:
            ValueError: test or an unknown split; the root, the list or a folder is missing; the list is empty or not
                UTF-8 text.
        """
        if split == "test":
            raise ValueError(f"{self.name} has no split 'test': VOC publishes no masks for it; use val (--splits)")
        if split not in (*SPLITS, "trainval"):
            raise ValueError(
                f"split {split!r}: {self.name} has {', '.join(SPLITS)} and trainval; "
                "the 10,582 images of trainaug are the split train of voc-aug"
            )
        folder, listed = self._pictures(), self._ids(split)
        for entry in listed:
            yield entry if isinstance(entry, Rejection) else voc_pair(folder, entry, split)

    def _folder(self) -> Path:
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder; {_ORIGIN}")
        for folder in (self.root, self.root / "VOC2012", self.root / "VOCdevkit" / "VOC2012"):
            if (folder / "ImageSets" / "Segmentation").is_dir():
                return folder
        raise ValueError(
            f"{self.root} has no ImageSets/Segmentation/, nor have VOC2012/ and VOCdevkit/VOC2012/ in it: {_ORIGIN}"
        )

    def _lists(self) -> Path:
        return self._folder() / "ImageSets" / "Segmentation"

    def _listed(self) -> tuple[str, ...]:
        lists = self._lists()
        return tuple(split for split in SPLITS if (lists / f"{split}.txt").is_file())

    def _pictures(self) -> Path:
        folder = self._folder()
        for name in ("JPEGImages", "SegmentationClass"):
            if not (folder / name).is_dir():
                raise ValueError(f"{folder / name}/ is missing: {_ORIGIN}")
        return folder

    def _ids(self, split: str) -> list[str | Rejection]:
        path = self._lists() / f"{split}.txt"
        if not path.is_file():
            raise ValueError(
                f"{path} is missing, so there is no split {split!r} here "
                f"(found: {', '.join(self._listed()) or 'none'}); leave it out (--splits), or copy the list from "
                "VOCtrainval_11-May-2012.tar"
            )
        return read_ids(path)


def read_ids(path: Path) -> list[str | Rejection]:
    """The image ids in a list of one id a line, in order; lines that are no id, as rejections.

    Raises:
        ValueError: the list is empty, cannot be read or is not UTF-8 text.
    """
    lines = read_lines(path)
    if not lines:
        raise ValueError(f"{path} is empty: copy it again; a list has one image id a line, such as 2007_000032")
    ids: list[str | Rejection] = []
    for number, line in lines:
        # An id with a folder in it could reach elsewhere on this machine.
        if len(line.split()) > 1 or "/" in line or "\\" in line:
            reason = f"{line!r} is not an id such as 2007_000032: use a list of one id a line, none of ImageSets/Main"
            ids.append(Rejection(f"{path}:{number}", reason))
        else:
            ids.append(line)
    return ids


def pair(name: str, split: str, image: Path, mask: Path) -> Sample | Rejection:
    """The sample of the two files; a rejection where one is not there."""
    missing = [path for path in (image, mask) if not path.is_file()]
    return halved(image, mask, missing) if missing else Sample(f"{split}/{name}", split, image, mask)


def voc_pair(folder: Path, name: str, split: str) -> Sample | Rejection:
    """The image `name` with VOC's own mask, from VOC2012's `folder`."""
    return pair(name, split, folder / "JPEGImages" / f"{name}.jpg", folder / "SegmentationClass" / f"{name}.png")
