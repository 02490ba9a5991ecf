"""ADE20K's scene parsing benchmark of 150 classes (Zhou et al., CVPR 2017; sceneparsing.csail.mit.edu)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from miseg.data.listing import is_picture, read_lines
from miseg.data.samples import DataSetInfo, Rejection, Sample
from miseg.data.sources.voc import colour

NUMBER_OF_CLASSES = 150
SPLITS = {"train": "training", "val": "validation"}
"""Names of the splits, with those of their folders."""

_ARCHIVE = "ADEChallengeData2016"
_NAMES = "objectInfo150.txt"
_ORIGIN = (
    f"unpack {_ARCHIVE}.zip from sceneparsing.csail.mit.edu and give the place with --root, or set MISEG_DATA to the "
    "folder that holds ade20k/"
)


class ADE20K:
    """Reader of `images/<folder>/<id>.jpg`, `annotations/<folder>/<id>.png` and `objectInfo150.txt`.

    The root is ADEChallengeData2016 itself or a folder that holds it. The splits are train (20,210 images, in
    training/) and val (2,000, in validation/); the publisher keeps the masks of test. Masks hold 1..150 for the classes
    and 0 for everything else, which is ignored.
    """

    def __init__(self, root: Path) -> None:
        root = Path(root)
        self.root = root / _ARCHIVE if (root / _ARCHIVE).is_dir() else root

    @property
    def info(self) -> DataSetInfo:
        """The 150 classes by the first of their published names, with the colours of VOC's map for 1..150.

        Raises:
            ValueError: objectInfo150.txt is missing, or is no table of 150 names.
        """
        numbers = range(1, NUMBER_OF_CLASSES + 1)
        return DataSetInfo(
            "ade20k",
            self._names(),
            tuple(colour(number) for number in numbers),
            ignore_values=(0,),
            label_values=tuple(numbers),
        )

    def available(self) -> tuple[str, ...]:
        """The splits, of train and val, that have a folder of images and one of masks.

        Raises:
            ValueError: the root is no folder, or has no split with both.
        """
        self._check_root()
        splits = tuple(
            split
            for split, folder in SPLITS.items()
            if all((self.root / kind / folder).is_dir() for kind in ("images", "annotations"))
        )
        if not splits:
            folders = " nor ".join(f"{folder}/" for folder in SPLITS.values())
            raise ValueError(f"{self.root}: neither {folders} is in both images/ and annotations/; {_ORIGIN}")
        return splits

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The images by name; then, as rejections, masks without image.

        Raises:
            ValueError: neither train nor val; the root or one of the split's two folders is missing; no image at all.
        """
        if split not in SPLITS:
            hidden = ", whose masks the publisher keeps" if split == "test" else ""
            raise ValueError(f"split {split!r}{hidden}: ade20k has {' and '.join(SPLITS)}")
        self._check_root()
        images, masks = (self._pictures(kind, split) for kind in ("images", "annotations"))
        if not images:
            raise ValueError(f"{self.root / 'images' / SPLITS[split]}/ holds no picture: {_ORIGIN}")
        for name, image in images.items():
            mask = masks.pop(name, None)
            if mask is not None:
                yield Sample(f"{split}/{name}", split, image, mask)
            else:
                expected = self.root / "annotations" / SPLITS[split] / f"{name}.png"
                yield Rejection(str(image), f"image without mask: {expected} is not there; add it or remove the image")
        for name, mask in masks.items():
            expected = self.root / "images" / SPLITS[split] / f"{name}.jpg"
            yield Rejection(str(mask), f"mask without image: {expected} is not there; add it or remove the mask")

    def _pictures(self, kind: str, split: str) -> dict[str, Path]:
        folder = self.root / kind / SPLITS[split]
        if not folder.is_dir():
            raise ValueError(
                f"{folder}/ is missing, so there is no split {split!r} here "
                f"(found: {', '.join(self.available())}); ask for those only (--splits), or {_ORIGIN}"
            )
        return {path.stem: path for path in sorted(folder.iterdir()) if is_picture(path)}

    def _names(self) -> tuple[str, ...]:
        path = self.root / _NAMES
        if not path.is_file():
            raise ValueError(f"{path} is missing, and with it the names of the classes: {_ORIGIN}")
        names: dict[int, str] = {}
        for line, text in read_lines(path):
            # Idx, Ratio, Train, Val, Name; the first line is the header.
            fields = text.split("\t")
            if len(fields) >= 5 and fields[0].strip().isdigit():
                names[int(fields[0])] = fields[4].split(",")[0].strip()
            elif line > 1:
                raise ValueError(f"{path}, line {line}: {text!r} is not Idx, Ratio, Train, Val, Name; {_ORIGIN}")
        if sorted(names) != list(range(1, NUMBER_OF_CLASSES + 1)):
            raise ValueError(f"{path} names {len(names)} classes, not each of 1..{NUMBER_OF_CLASSES}: {_ORIGIN}")
        return _distinct(names)

    def _check_root(self) -> None:
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder; {_ORIGIN}")
        for kind in ("images", "annotations"):
            if not (self.root / kind).is_dir():
                raise ValueError(f"{self.root / kind}/ is missing: {_ORIGIN}")


def _distinct(names: dict[int, str]) -> tuple[str, ...]:
    """The names in order; one that two classes share gets its number: metrics are kept by name."""
    ordered = [names[number] for number in sorted(names)]
    return tuple(
        f"{name} {number}" if ordered.count(name) > 1 else name for number, name in enumerate(ordered, start=1)
    )
