"""A tiny data set in CamVid's published layout, and the real one where this machine has it."""

from pathlib import Path

import pytest

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.camvid import CamVid
from tests.support.layouts import CamVidTree
from tests.support.real_data import real_data


@pytest.fixture
def tree(tmp_path: Path) -> CamVidTree:
    return CamVidTree(tmp_path / "CamVid")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """Eleven training and five validation images of one size, in several shards."""
    root = tmp_path_factory.mktemp("small")
    tree = CamVidTree(root / "CamVid")
    for split, count in (("train", 11), ("val", 5)):
        for number in range(count):
            tree.add(f"{number:03d}.png", split)
    return tree.pack(root / "packed", "train", "val", shard_bytes=2000)


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    return real_data("camvid")


@pytest.fixture(scope="session")
def real_val(camvid_root: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """The validation split of the real CamVid."""
    packing = pack(CamVid(camvid_root), tmp_path_factory.mktemp("real") / "camvid", ["val"], max_rejected=0)
    return PackedDataset.open(packing.path)
