"""Writes tiny data sets in published layouts, right ones and wrong ones."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from miseg.data.sources.camvid import CamVid

SIZE = (12, 16)


def picture(path: Path, pixels: np.ndarray, **options) -> Path:
    """Saves the pixels in the format of the path's ending; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def noise(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def masks(source, out: Path, split: str) -> dict[str, np.ndarray]:
    """The packed masks of the split by id."""
    dataset = PackedDataset.open(pack(source, out, [split]).path)
    rows = [dataset.read(split, index) for index in range(dataset.size(split))]
    return {row.id: decode(row)[1] for row in rows}


class CamVidTree:
    """Writes pairs and lists under `root`, as SegNet's copy of CamVid has them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: dict[str, list[str]] = {}

    def add(
        self, name: str, split: str = "train", size: tuple[int, int] = (12, 16), labels: np.ndarray | None = None
    ) -> tuple[Path, Path]:
        """A good pair of (height, width) `size`, listed; the paths of image and mask."""
        rng = np.random.default_rng(len(self.lines.get(split, [])))
        image, mask = self.root / split / name, self.root / f"{split}annot" / name
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(image)
        Image.fromarray(rng.integers(0, 12, size, dtype=np.uint8) if labels is None else labels).save(mask)
        self.list(split, name)
        return image, mask

    def list(self, split: str, name: str) -> None:
        """Adds a line to the split's list."""
        self.lines.setdefault(split, []).append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}")
        (self.root / f"{split}.txt").write_text("\n".join(self.lines[split]) + "\n", encoding="utf-8")

    def pack(self, out: Path, *splits: str, **settings) -> PackedDataset:
        """The tree, packed and opened."""
        return PackedDataset.open(pack(CamVid(self.root), out, splits or ("train",), **settings).path)


class VocTree:
    """VOC 2012 under `root`/VOCdevkit/VOC2012, and SBD at `sbd`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "VOCdevkit" / "VOC2012"
        self.sbd = root / "benchmark_RELEASE" / "dataset"

    def add(self, name: str, split: str = "train", labels: np.ndarray | None = None) -> tuple[Path, Path]:
        """A listed image with a palette mask of random labels; the paths of both."""
        self.list(split, name)
        labels = some_labels(name) if labels is None else labels
        return self.image(name), self.mask(name, labels)

    def image(self, name: str, folder: Path | None = None) -> Path:
        return picture((folder or self.folder / "JPEGImages") / f"{name}.jpg", noise(len(name)))

    def mask(self, name: str, labels: np.ndarray, folder: str = "SegmentationClass") -> Path:
        path = self.folder / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        palette_picture(labels).save(path)
        return path

    def list(self, split: str, line: str) -> None:
        add_line(self.folder / "ImageSets" / "Segmentation" / f"{split}.txt", line)

    def add_sbd(self, name: str, split: str = "train", labels: np.ndarray | None = None) -> tuple[Path, Path]:
        """A listed image of SBD with its .mat file; the paths of both."""
        add_line(self.sbd / f"{split}.txt", name)
        path = self.sbd / "cls" / f"{name}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_class_map(path, some_labels(name) % 21 if labels is None else labels)
        return self.image(name, self.sbd / "img"), path


class CityscapesTree:
    """Cityscapes under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, frame: str, split: str = "train", ids: np.ndarray | None = None) -> tuple[Path, Path]:
        """An image with its label ids in the folder of its city; the paths of both."""
        ids = np.random.default_rng(len(frame)).integers(0, 34, SIZE, dtype=np.uint8) if ids is None else ids
        return self.image(frame, split), self.annotation(frame, "labelIds.png", ids, split)

    def image(self, frame: str, split: str = "train") -> Path:
        city = frame.partition("_")[0]
        return picture(self.root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png", noise(len(frame)))

    def annotation(self, frame: str, kind: str, pixels: np.ndarray, split: str = "train") -> Path:
        city = frame.partition("_")[0]
        return picture(self.root / "gtFine" / split / city / f"{frame}_gtFine_{kind}", pixels)


class Ade20kTree:
    """ADE20K under `root`/ADEChallengeData2016."""

    def __init__(self, root: Path) -> None:
        self.root = root / "ADEChallengeData2016"
        self.names([f"thing {number}, other name" for number in range(1, 151)])

    def names(self, names: list[str]) -> None:
        """Writes objectInfo150.txt."""
        self.root.mkdir(parents=True, exist_ok=True)
        lines = [f"{number}\t0.1\t10\t1\t{name}" for number, name in enumerate(names, start=1)]
        (self.root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *lines]))

    def add(self, name: str, folder: str = "training", labels: np.ndarray | None = None) -> tuple[Path, Path]:
        """An image with its mask; the paths of both."""
        labels = np.random.default_rng(len(name)).integers(0, 151, SIZE, dtype=np.uint8) if labels is None else labels
        return self.image(name, folder), picture(self.root / "annotations" / folder / f"{name}.png", labels)

    def image(self, name: str, folder: str = "training", pixels: np.ndarray | None = None) -> Path:
        pixels = noise(len(name)) if pixels is None else pixels
        return picture(self.root / "images" / folder / f"{name}.jpg", pixels)


class CocoStuffTree:
    """COCO-Stuff under `root`, in the folders that IIC asks for; `where` names others: {"images": …, "masks": …}."""

    def __init__(self, root: Path, where: dict[str, str] | None = None) -> None:
        self.root = root
        self.where = {"images": "images/{}2017", "masks": "annotations/{}2017"} | (where or {})

    def add(
        self, name: str, split: str = "train", labels: np.ndarray | None = None, size: tuple[int, int] = (360, 363)
    ) -> tuple[Path, Path]:
        """An image with its mask, of which three quarters are sky by default; the paths of both."""
        if labels is None:
            labels = np.full(size, 156, np.uint8)
            labels[:, : size[1] // 4] = 0
        image = picture(self._folder("images", split) / f"{name}.jpg", noise(len(name), labels.shape))
        return image, picture(self._folder("masks", split) / f"{name}.png", labels)

    def list(self, *names: str, split: str = "train") -> Path:
        """Writes the split's curated list."""
        path = self.root / "curated" / f"{split}2017" / "Coco164kFull_Stuff_Coarse_7.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names))
        return path

    def _folder(self, kind: str, split: str) -> Path:
        return self.root / self.where[kind].format(split)


class CocoTree:
    """COCO 2017 under `root`, with its files of instances."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content: dict[str, dict[str, list[dict]]] = {}

    def add(
        self, name: str, *people: dict, split: str = "train", size: tuple[int, int] = (360, 400), category: int = 1
    ) -> Path:
        """An image, with annotations of `people` that lack only their numbers; the image's path."""
        content = self.content.setdefault(split, {"images": [], "annotations": [], "categories": []})
        content["categories"] = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
        number, (height, width) = 10 * len(content["images"]) + 7, size
        content["images"].append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        for one in people:
            numbers = {"id": 100 + len(content["annotations"]), "image_id": number, "category_id": category}
            content["annotations"].append({"iscrowd": 0} | numbers | one)
        self.write(split)
        return picture(self.root / f"{split}2017" / f"{name}.jpg", noise(len(name), size))

    def write(self, split: str = "train") -> Path:
        """Writes what `content` holds of the split; the file's path."""
        path = self.root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.content[split]))
        return path


def box(top: int, left: int, bottom: int, right: int) -> dict:
    """An outline that covers rows top..bottom-1 and columns left..right-1."""
    return {"segmentation": [[left, top, right, top, right, bottom, left, bottom]]}


def crowd(covered: np.ndarray) -> dict:
    """The run lengths, column by column from an uncovered one, as COCO has them for crowds."""
    flat = np.concatenate([[False], covered.ravel(order="F"), [not covered[-1, -1]]])
    changes = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], changes])).tolist()
    return {"iscrowd": 1, "segmentation": {"counts": counts, "size": list(covered.shape)}}


def some_labels(name: str) -> np.ndarray:
    """Labels 0..20 and 255 that differ from name to name."""
    labels = np.random.default_rng(list(name.encode())).integers(0, 22, SIZE, dtype=np.uint8)
    return np.where(labels == 21, 255, labels).astype(np.uint8)


def palette_picture(labels: np.ndarray) -> Image.Image:
    """A picture in mode P, with VOC's colour map for all 256 numbers."""
    result = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    result.putpalette([value for label in range(256) for value in voc_colour(label)])
    return result


def voc_colour(label: int) -> tuple[int, ...]:
    """The colour map as VOCcolormap.m has it: three bits of the label at a time, from the highest bit down."""
    colour = [0, 0, 0]
    for shift in range(7, -1, -1):
        for channel in range(3):
            colour[channel] |= (label >> channel & 1) << shift
        label >>= 3
    return tuple(colour)


def save_class_map(path: Path, labels: np.ndarray, compress: bool = True) -> None:
    """A .mat file as those of SBD's cls/."""
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[np.zeros(labels.shape, bool)]] * 20
    present = np.setdiff1d(np.unique(labels), [0, 255])[:, None]
    content = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": present}
    savemat(path, {"GTcls": content}, do_compression=compress)


def add_line(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
