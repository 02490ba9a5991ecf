"""The real data sets that are plain folders, packed by the generic reader and looked at pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miseg.data.folders.description import Description
from miseg.data.folders.encoding import MaskOptions
from miseg.data.folders.names.layout import Layout
from miseg.data.folders.source import FolderSource, open_folders
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from miseg.data.sources.camvid import CLASSES, CamVid
from tests.support.real_data import real_data


@pytest.fixture(scope="module")
def data() -> Path:
    """The folder of the real data sets."""
    return real_data()


def packed(source: FolderSource, out: Path) -> dict[str, np.ndarray]:
    """The packed masks by id."""
    packing = pack(source, out, source.available(), max_rejected=0)
    dataset = PackedDataset.open(packing.path)
    rows = [dataset.read(split, index) for split in dataset.splits for index in range(dataset.size(split))]
    return {row.id: decode(row)[1] for row in rows}


def pixels(path: Path) -> np.ndarray:
    """A grey picture's levels; a GIF's palette is looked up."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def test_both_splits_of_drive_at_once(data, tmp_path):
    root = data / "drive"
    layout = Layout(
        ("{split}/images/{stem}_*.tif",),
        ("{split}/1st_manual/{stem}_manual1.gif",),
        ("{split}/mask/{stem}_*_mask.gif",),
    )
    source = open_folders(Description("drive", layout, MaskOptions(("background", "vessel"), foreground=(255,))), root)
    # The published test split stays, and 15 % of the training images are drawn to validate on.
    assert [sum(record.split == split for record in source.records) for split in source.available()] == [17, 3, 20]
    assert {int(record.name) for record in source.records if record.split == "test"} == set(range(1, 21))
    few = [record for record in source.records if record.name in ("01", "02", "21", "22", "23", "24")]
    few += [next(record for record in source.records if record.split == "val")]
    source = FolderSource(**{**vars(source), "records": tuple(dict.fromkeys(few))})
    masks = packed(source, tmp_path / "out")
    for record in source.records:
        vessels, view = pixels(record.masks[0]) == 255, pixels(record.valid) > 0
        assert record.masks[0].name == f"{record.name}_manual1.gif" and record.valid.name.startswith(record.name)
        mask = masks[f"{record.split}/{record.name}"]
        assert np.array_equal(mask == 255, ~view), "what is outside the field of view counts nowhere"
        assert np.array_equal(mask == 1, vessels & view)
    # Every retina has its vessels on about an eighth of the view.
    shares = [float((mask == 1).sum() / (mask != 255).sum()) for mask in masks.values()]
    assert 0.08 < min(shares) <= max(shares) < 0.18


def test_membrane_by_its_lists(data, tmp_path):
    root = data / "membrane"
    layout = Layout(("images",), ("labels",), lists=("{split}.txt",))
    source = open_folders(Description("membrane", layout, MaskOptions(("membrane", "cell"), foreground=(255,))), root)
    for split in ("train", "val", "test"):
        names = (root / f"{split}.txt").read_text().split()
        assert [record.name for record in source.records if record.split == split] == names
    masks = packed(source, tmp_path / "out")
    assert len(masks) == 30
    for name in ("0", "29"):
        record = next(record for record in source.records if record.name == name)
        mask = masks[f"{record.split}/{name}"]
        assert np.array_equal(mask, (pixels(root / "labels" / f"{name}.png") > 0).astype(np.uint8))
    dataset = PackedDataset.open(tmp_path / "out")
    assert dataset.info.channels == 1 and decode(dataset.read("train", 0))[0].shape == (512, 512, 1)


def test_nuclei_of_ids_0_and_1(data, tmp_path):
    root = data / "nuclei"
    # Of its 334 images those of the two short lists.
    layout = Layout(("images",), ("masks",), lists=("val.txt", "test.txt"))
    source = open_folders(Description("nuclei", layout, MaskOptions(("background", "nucleus"))), root)
    assert source.available() == ("val", "test") and len(source.records) == 100
    source = FolderSource(**{**vars(source), "records": source.records[:6] + source.records[-6:]})
    masks = packed(source, tmp_path / "out")
    for record in source.records:
        assert np.array_equal(masks[f"{record.split}/{record.name}"], pixels(record.masks[0]))


def test_camvid_is_what_its_own_reader_makes(data, tmp_path):
    root = data / "camvid"
    layout = Layout(lists=("val.txt",))
    source = open_folders(Description("camvid", layout, MaskOptions(CLASSES, ignore=(11,))), root)
    source = FolderSource(**{**vars(source), "records": source.records[:8]})
    masks = packed(source, tmp_path / "out")
    published = {sample.id: sample for sample in CamVid(root).samples("val")}
    assert len(published) == 101 and list(masks) == list(published)[:8]
    dataset = PackedDataset.open(tmp_path / "out")
    for number, (name, mask) in enumerate(masks.items()):
        labels = pixels(published[name].mask)
        assert np.array_equal(mask, np.where(labels == 11, 255, labels))
        assert dataset.read("val", number).image == published[name].image.read_bytes()
