"""The survey of real data: CamVid, membrane, nuclei and DRIVE, each packed by the readers that users have."""

import json
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miseg.data.folders.description import Description
from miseg.data.folders.mask_survey import MaskOptions
from miseg.data.folders.names.layout import Layout
from miseg.data.folders.source import open_folders
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.camvid import CamVid
from miseg.data.survey.report import report_on
from miseg.data.survey.survey import survey


@pytest.fixture(scope="session")
def real(camvid_root: Path) -> Path:
    return camvid_root.parent


def own(root: Path, out: Path, **settings) -> PackedDataset:
    options = settings.pop("options", MaskOptions())
    split = settings.pop("split", ())
    source = open_folders(Description(out.name, Layout(**settings), options, split=split), root)
    return PackedDataset.open(pack(source, out, source.available()).path)


class FirstOf:
    """The first images of each split of a source."""

    def __init__(self, source, count):
        self.source, self.count, self.info = source, count, source.info

    def available(self):
        return self.source.available()

    def samples(self, split):
        return islice(self.source.samples(split), self.count)


@pytest.fixture(scope="session")
def membrane(real, tmp_path_factory) -> PackedDataset:
    """In the blocks of the stack that its lists hold."""
    return own(
        real / "membrane",
        tmp_path_factory.mktemp("survey") / "membrane",
        images=("images/*.png",),
        masks=("labels/*.png",),
        lists=("{split}.txt",),
        options=MaskOptions(foreground=(255,)),
    )


def test_membrane_in_blocks_is_a_series_whose_blocks_touch(membrane):
    result = survey(membrane)
    assert {name: (split.images, split.masks) for name, split in result.splits.items()} == {
        "train": (20, 20),
        "val": (5, 5),
        "test": (5, 5),
    }
    labels = np.stack([membrane.pixels("train", index).mask for index in range(20)])
    assert result.splits["train"].pixels == ((labels == 0).sum(), (labels == 1).sum())
    assert result.splits["train"].median == (512, 512) and result.copies == ()
    assert result.series is not None and result.series.alike > 0.8
    assert result.series.beside == {"val": (("val/20", "train/19"),), "test": ()}
    assert not any("series" in problem for problem in result.problems)


def test_membrane_drawn_slice_by_slice_is_told(real, tmp_path):
    dataset = own(
        real / "membrane",
        tmp_path / "membrane",
        images=("images/*.png",),
        masks=("labels/*.png",),
        options=MaskOptions(foreground=(255,)),
    )
    result = survey(dataset)
    beside = {split: len(pairs) for split, pairs in result.series.beside.items()}
    assert beside["val"] > 1
    assert any(f"{beside['val']} of {dataset.size('val')} images of val are next to" in p for p in result.problems)


@pytest.mark.slow
def test_eyes_look_alike_and_are_no_copies(real, tmp_path):
    """64 bits of a difference hash call different patients copies."""
    dataset = own(
        real / "drive",
        tmp_path / "drive",
        images=("training/images/*.tif", "test/images/*.tif"),
        masks=("training/1st_manual/*.gif", "test/1st_manual/*.gif"),
        valid=("training/mask/*.gif", "test/mask/*.gif"),
        options=MaskOptions(foreground=(255,)),
    )
    result = survey(dataset)
    assert sum(split.images for split in result.splits.values()) == 40 and result.copies == ()
    assert result.series is None
    assert 0.3 < result.splits["train"].ignored_share < 0.33
    assert not any("speckled" in problem for problem in result.problems)


@pytest.mark.slow
def test_nuclei_are_no_series_and_no_copies(real, tmp_path):
    dataset = own(
        real / "nuclei",
        tmp_path / "nuclei",
        images=("images/*.png",),
        masks=("masks/*.png",),
        lists=("{split}.txt",),
    )
    result = survey(dataset)
    assert [split.images for split in result.splits.values()] == [234, 50, 50]
    assert result.copies == () and result.series is None and result.problems == ()


def test_camvid_is_a_series_and_a_class_is_in_val_alone(camvid_root, tmp_path):
    source = FirstOf(CamVid(camvid_root), 24)
    dataset = PackedDataset.open(pack(source, tmp_path / "camvid", source.available()).path)
    result = survey(dataset)
    assert result.copies == () and result.series is not None and result.series.beside == {"val": ()}
    assert any(problem.startswith("in val alone, so never learned: fence:") for problem in result.problems)
    assert not any("speckled" in problem for problem in result.problems)


@pytest.mark.slow
def test_the_report_is_files_beside_the_sidecar_and_always_the_same(membrane):
    folder = Path(membrane.uri)
    lines = report_on(folder)
    text, picture = (folder / "survey.json").read_bytes(), (folder / "survey.png").read_bytes()
    assert report_on(folder) == lines
    assert ((folder / "survey.json").read_bytes(), (folder / "survey.png").read_bytes()) == (text, picture)
    record = json.loads(text)
    assert record["of"] == membrane.fingerprint and record["splits"]["train"]["images"] == 20
    assert PackedDataset.open(folder).fingerprint == membrane.fingerprint
    with Image.open(folder / "survey.png") as shown:
        colours = {colour for _, colour in shown.convert("RGB").getcolors(2**24)}
        assert shown.width == 1400 and tuple(membrane.info.colours[1]) in colours, os.fspath(folder)
    assert any(line.split()[:3] == ["train", "20", "20"] for line in lines)
