"""Published data sets that are descriptions."""

from pathlib import Path

import numpy as np
import pytest

from miseg.data.packed.dataset import PackedDataset
from miseg.data.sources.catalog import check_known, ensure_packed
from miseg.data.sources.described import DESCRIBED, open_described
from miseg.data.sources.registry import DATA_SETS, open_source
from tests.support.layouts import picture
from tests.support.real_data import real_data

COUNTS = {
    "drive": {"train": 17, "val": 3, "test": 20},
    "membrane": {"train": 20, "val": 5, "test": 5},
    "nuclei": {"train": 234, "val": 50, "test": 50},
}


@pytest.fixture
def nuclei(tmp_path, monkeypatch):
    """A folder for MISEG_DATA with two images a split."""
    root = tmp_path / "published" / "nuclei"
    for split in ("train", "val"):
        for n in range(2):
            picture(root / "images" / f"{split}{n}.png", np.full((8, 9, 3), 40 * n, np.uint8))
            picture(root / "masks" / f"{split}{n}.png", np.eye(8, 9, dtype=np.uint8))
        (root / f"{split}.txt").write_text(f"{split}0\n{split}1\n")
    monkeypatch.setenv("MISEG_DATA", str(root.parent))
    monkeypatch.chdir(tmp_path)
    return root


def test_each_describes_the_real_files():
    real_data()
    assert set(DESCRIBED) == set(COUNTS) and not set(DESCRIBED) & set(DATA_SETS)
    for name, counts in COUNTS.items():
        source = open_source(name)
        assert {split: sum(r.split == split for r in source.records) for split in source.available()} == counts
        assert source.info.name == name and not any(source.rejections.values())
        labels = np.unique(source.labels.labels(source.records[0]))
        assert set(labels.tolist()) == ({0, 1, 255} if name == "drive" else {0, 1})


def test_it_is_packed_on_first_use(nuclei, tmp_path):
    check_known("nuclei", tmp_path / "store")
    assert not (tmp_path / "store").exists()
    dataset = PackedDataset.open(ensure_packed("nuclei", tmp_path / "store"))
    assert dataset.uri == str(tmp_path / "store" / "data" / "nuclei")
    assert (dataset.size("train"), dataset.info.classes) == (2, ("background", "nucleus"))


@pytest.mark.parametrize("where", ["store/data/nuclei", "nuclei"])
def test_own_data_of_its_name_stands_for_it(nuclei, tmp_path, where):
    own = tmp_path / where
    ensure_packed("embedded", tmp_path / "other")
    own.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "other" / "data" / "embedded").rename(own)
    uri = ensure_packed("nuclei", "store")
    assert Path(uri) == own and PackedDataset.open(uri).info.name == "embedded"


def test_files_that_are_not_there(nuclei, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder, and drive lies in it"):
        open_described("drive", tmp_path / "nowhere")
    (nuclei / "val.txt").write_text("val0\ngone\n")
    with pytest.raises(ValueError, match="gone"):
        ensure_packed("nuclei", tmp_path / "store")
    monkeypatch.delenv("MISEG_DATA")
    with pytest.raises(ValueError, match="nuclei: give its folder with --root, or set MISEG_DATA"):
        ensure_packed("nuclei", tmp_path / "store")
