"""Cityscapes with fine annotations (Cordts et al., CVPR 2016; cityscapes-dataset.com): the 19 classes evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from miseg.data.listing import is_picture
from miseg.data.samples import DataSetInfo, Rejection, Sample

# Number in the label id pictures, name, colour: those of cityscapesScripts' labels.py with a train id, in its order.
_LABELS = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
LABEL_IDS = tuple(number for number, _, _ in _LABELS)
CLASSES = tuple(name for _, name, _ in _LABELS)
COLOURS = tuple(colour for _, _, colour in _LABELS)
IGNORED_IDS = tuple(number for number in range(34) if number not in LABEL_IDS)
SPLITS = ("train", "val")

_IMAGE = "_leftImg8bit.png"
_ANNOTATION = "_gtFine_"
_MASK = "labelIds.png"
_ORIGIN = (
    "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from cityscapes-dataset.com into one folder and "
    "give it with --root, or set MISEG_DATA to the folder that holds cityscapes/"
)


class Cityscapes:
    """Reader of `leftImg8bit/<split>/<city>/<frame>_leftImg8bit.png` and `gtFine/…/<frame>_gtFine_labelIds.png`.

    A frame is `<city>_NNNNNN_NNNNNN`. The splits are train (2,975 images) and val (500). The published masks of test
    are placeholders without one labelled pixel, so there is no split test to pack. Of the other pictures of gtFine/
    (labelTrainIds, color, instanceIds) and of gtCoarse/ none is read.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def info(self) -> DataSetInfo:
        """The 19 classes that have a train id, in that order; the other label ids of 0..33 are packed as 255.

        Id -1, license plate, is in no mask: the publisher's tool leaves it out. 255 is therefore refused: it is the
        mark of masks that hold train ids, whose other numbers would be taken for other classes.
        """
        return DataSetInfo("cityscapes", CLASSES, COLOURS, ignore_values=IGNORED_IDS, label_values=LABEL_IDS)

    def available(self) -> tuple[str, ...]:
        """The splits, of train and val, that have a folder of images and one of masks.

        Raises:
            ValueError: the root is no folder, or has no split with both.
        """
        self._check_root()
        splits = tuple(
            split for split in SPLITS if all((self.root / kind / split).is_dir() for kind in ("leftImg8bit", "gtFine"))
        )
        if not splits:
            raise ValueError(f"{self.root}: neither train/ nor val/ is in both leftImg8bit/ and gtFine/; {_ORIGIN}")
        return splits

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The frames by city and name; then, as rejections, annotations without image and pictures out of place.

        Raises:
            ValueError: neither train nor val; the root or one of the split's two folders is missing; no image at all.
        """
        if split == "test":
            raise ValueError("split 'test': the published masks of cityscapes' test are placeholders; use val")
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: cityscapes has {' and '.join(SPLITS)}")
        self._check_root()
        images, strays = self._images(split)
        annotations, more_strays = self._annotations(split)
        if not images and not strays:
            raise ValueError(f"{self.root / 'leftImg8bit' / split}/ holds no picture: {_ORIGIN}")
        for (city, frame), image in images.items():
            files = annotations.pop((city, frame), {})
            if _MASK in files:
                yield Sample(f"{split}/{frame}", split, image, files[_MASK])
            else:
                yield _unlabelled(image, self.root / "gtFine" / split / city / f"{frame}{_ANNOTATION}{_MASK}", files)
        for (city, frame), files in annotations.items():
            image = self.root / "leftImg8bit" / split / city / f"{frame}{_IMAGE}"
            shown = files.get(_MASK) or files[min(files)]
            yield Rejection(str(shown), f"mask without image: {image} is not there; add it or remove the annotation")
        yield from strays
        yield from more_strays

    def _images(self, split: str) -> tuple[dict[tuple[str, str], Path], list[Rejection]]:
        """Paths by (city, frame), and pictures that are out of place."""
        images, strays = {}, []
        for path, city in self._files("leftImg8bit", split):
            if city and path.name.endswith(_IMAGE):
                images[city, path.name.removesuffix(_IMAGE)] = path
            elif is_picture(path):
                strays.append(_stray(path, city, f"<frame>{_IMAGE}"))
        return images, strays

    def _annotations(self, split: str) -> tuple[dict[tuple[str, str], dict[str, Path]], list[Rejection]]:
        """Paths by the end of their names, such as color.png, by (city, frame), and pictures that are out of place."""
        annotations: dict[tuple[str, str], dict[str, Path]] = {}
        strays = []
        for path, city in self._files("gtFine", split):
            frame, sign, kind = path.name.partition(_ANNOTATION)
            if city and sign and (is_picture(path) or path.suffix == ".json"):
                annotations.setdefault((city, frame), {})[kind] = path
            elif is_picture(path):
                strays.append(_stray(path, city, f"<frame>{_ANNOTATION}{_MASK}"))
        return annotations, strays

    def _files(self, kind: str, split: str) -> list[tuple[Path, str]]:
        """Files with the name of their city's folder, in order; "" for those beside the city folders."""
        folder = self.root / kind / split
        if not folder.is_dir():
            raise ValueError(
                f"{folder}/ is missing, so there is no split {split!r} here "
                f"(found: {', '.join(self.available())}); ask for those only (--splits), or {_ORIGIN}"
            )
        files: list[tuple[Path, str]] = []
        for entry in _shown(folder):
            files += [(path, entry.name) for path in _shown(entry)] if entry.is_dir() else [(entry, "")]
        return files

    def _check_root(self) -> None:
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder; {_ORIGIN}")
        if not (self.root / "leftImg8bit").is_dir():
            raise ValueError(f"{self.root / 'leftImg8bit'}/ is missing: {_ORIGIN}")
        if not (self.root / "gtFine").is_dir():
            coarse = "; gtCoarse/ is there, but its outlines are not the labels to train and measure on"
            raise ValueError(
                f"{self.root / 'gtFine'}/ is missing{coarse if (self.root / 'gtCoarse').is_dir() else ''}: {_ORIGIN}"
            )


def _shown(folder: Path) -> list[Path]:
    # macOS leaves hidden files beside others, with the same endings.
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _unlabelled(image: Path, mask: Path, files: dict[str, Path]) -> Rejection:
    mend = (
        "copy it from gtFine_trainvaltest.zip, or make it from _gtFine_polygons.json with "
        "cityscapesscripts.preparation.json2labelImg"
    )
    if "color.png" in files:
        return Rejection(str(files["color.png"]), f"colours without label ids: {mask} is not there; {mend}")
    beside = f" (only {', '.join(sorted(files))})" if files else ""
    return Rejection(str(image), f"image without mask: {mask} is not there{beside}; {mend}")


def _stray(path: Path, city: str, name: str) -> Rejection:
    if not city:
        return Rejection(str(path), "outside the city folders: move it into the folder of its city, or remove it")
    return Rejection(str(path), f"its name is not {name}: name it as published, or remove it")
