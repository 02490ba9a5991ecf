"""A tiny data set in CamVid's published layout, and the real one where this machine has it."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.camvid import CamVid


class Tree:
    """Writes pairs and lists under `root`, as SegNet's CamVid has them."""

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


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "CamVid")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """Eleven training and five validation images of one size, in several shards."""
    root = tmp_path_factory.mktemp("small")
    tree = Tree(root / "CamVid")
    for split, count in (("train", 11), ("val", 5)):
        for number in range(count):
            tree.add(f"{number:03d}.png", split)
    return tree.pack(root / "packed", "train", "val", shard_bytes=2000)


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    if not os.environ.get("MISEG_DATA"):
        message = "MISEG_DATA is not set: it names the folder that holds the real camvid/"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return Path(os.environ["MISEG_DATA"]) / "camvid"


@pytest.fixture(scope="session")
def real_val(camvid_root: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """The validation split of the real CamVid."""
    packing = pack(CamVid(camvid_root), tmp_path_factory.mktemp("real") / "camvid", ["val"], max_rejected=0)
    return PackedDataset.open(packing.path)
