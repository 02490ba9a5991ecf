"""From files to samples: splits, groups, valid pixels, and the description that does it again."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from miseg.data.folders.description import Description, read_description, write_description
from miseg.data.folders.mask_files import read_mask
from miseg.data.folders.mask_survey import MaskOptions
from miseg.data.folders.names.layout import Layout
from miseg.data.folders.source import open_folders
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from tests.support.layouts import noise, picture

SIZE = (12, 16)


def pair(root, image, mask, labels=None, number=0):
    """An image and its mask of classes 0 and 1; the mask's path."""
    picture(root / image, noise(number, SIZE))
    default = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) // 7 % 2).astype(np.uint8)
    return picture(root / mask, default if labels is None else labels)


def packed(root, out, splits=None, **layout):
    options = {name: layout.pop(name) for name in ("split", "seed", "options") if name in layout}
    source = open_folders(Description("own", Layout(**layout), **options), root)
    pack(source, out, splits or source.available())
    return PackedDataset.open(out), source


def ids(dataset):
    return {split: [name for name, _, _ in dataset.index(split)] for split in dataset.splits}


def test_patients_with_several_images_each(tmp_path):
    for patient in range(8):
        for n in range(2 + patient % 3):
            stem = f"scans/patient_{patient:02d}/slice {n}"
            pair(tmp_path, f"{stem}.png", f"{stem}_seg.png", number=n)
    dataset, source = packed(
        tmp_path, tmp_path / "out", images=("scans/*/*.png",), masks=("scans/*/*_seg.png",), group=r"(patient_\d+)/"
    )
    assert dataset.splits == ("train", "val", "test") and sum(map(dataset.size, dataset.splits)) == 23
    of_split = {split: {name.split("/")[1] for name in names} for split, names in ids(dataset).items()}
    assert set.union(*of_split.values()) == {f"patient_{n:02d}" for n in range(8)}
    assert sum(map(len, of_split.values())) == 8, "no patient is in two splits"
    drawn = json.loads((tmp_path / "out" / "dataset.json").read_text())["drawn"]
    assert drawn["seed"] == 0 and drawn["groups"].keys() == set.union(*of_split.values())
    assert {f"{split}/{name}" for split, names in drawn["ids"].items() for name in names} == {
        name for names in ids(dataset).values() for name in names
    }
    assert any("8 groups of 23 images" in sentence for sentence in source.sentences)
    assert dataset.info.groups == {name: name.split("/")[1] for names in ids(dataset).values() for name in names}


def test_splits_of_folders_and_what_lacks_its_half(tmp_path):
    for split, count in (("Training", 3), ("valid", 2), ("test", 1)):
        for n in range(count):
            pair(tmp_path, f"{split}/images/{n}.jpg", f"{split}/masks/{n}.png", number=n)
    (tmp_path / "Training" / "masks" / "1.png").unlink()
    (tmp_path / "valid" / "images" / "0.jpg").unlink()
    out = tmp_path / "out"
    patterns = {"images": ("*/images/*",), "masks": ("*/masks/*",)}
    dataset, source = packed(tmp_path, out, **patterns)
    assert ids(dataset) == {
        "train": ["train/Training/0", "train/Training/2"],
        "val": ["val/valid/1"],
        "test": ["test/test/0"],
    }
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [Path(line["file"]).relative_to(tmp_path).as_posix() for line in rejected] == [
        "Training/images/1.jpg",
        "valid/masks/0.png",
    ]
    assert "drawn" not in json.loads((out / "dataset.json").read_text()) and source.info.drawn is None
    dataset, _ = packed(tmp_path, out, **patterns, without_mask="unlabelled")
    assert dataset.splits == ("train", "val", "test", "unlabelled") and dataset.read("unlabelled", 0).mask is None
    dataset, _ = packed(tmp_path, out, **patterns, without_mask="leave-out")
    assert (out / "rejected.jsonl").read_text().count("\n") == 1
    dataset, _ = packed(tmp_path, out, **patterns, split_folders=False, split=(0.5, 0.5))
    assert dataset.size("train") == dataset.size("val") == 2


def test_validation_images_are_drawn_from_train_where_there_are_none(tmp_path):
    for split, count in (("train", 10), ("test", 3)):
        for n in range(count):
            pair(tmp_path, f"{split}/{n}.jpg", f"{split}/{n}_m.png", number=n)
    patterns = {"images": ("{split}/*.jpg",), "masks": ("{split}/*.png",)}
    dataset, _ = packed(tmp_path, tmp_path / "out", **patterns)
    assert {split: dataset.size(split) for split in dataset.splits} == {"train": 9, "val": 1, "test": 3}
    assert "val" not in packed(tmp_path, tmp_path / "out", **patterns, split=(1, 0))[0].splits
    with pytest.raises(ValueError, match=r"--split takes the shares of train and val alone, as test is there"):
        packed(tmp_path, tmp_path / "out", **patterns, split=(0.6, 0.2, 0.2))


def test_images_without_masks_are_all_for_training(tmp_path):
    for n in range(4):
        picture(tmp_path / "photos" / f"{n}.jpg", noise(n, SIZE))
    dataset, _ = packed(tmp_path, tmp_path / "out", images=("photos",))
    assert dataset.info.classes == () and dataset.splits == ("train",) and dataset.size("train") == 4
    assert dataset.read("train", 0).mask is None
    dataset, _ = packed(tmp_path, tmp_path / "out", images=("photos",), split=(0.5, 0.5))
    assert dataset.splits == ("train", "val")


def test_pixels_that_do_not_count(tmp_path):
    labels = np.ones(SIZE, np.uint8)
    labels[:, :8] = 0
    for n in range(3):
        pair(tmp_path, f"i/{n}.png", f"m/{n}.png", labels, n)
        picture(tmp_path / "v" / f"{n}_fov.png", np.pad(np.full((4, 16), 255, np.uint8), ((0, 8), (0, 0))))
    dataset, _ = packed(tmp_path, tmp_path / "out", images=("i",), masks=("m",), valid=("v",), split=(1, 0))
    _, mask = decode(dataset.read("train", 0))
    assert (mask[4:] == 255).all() and (mask[:4] == labels[:4]).all()
    with pytest.raises(ValueError, match=r"0_fov\.png: --valid says where labels count.*leave --valid out"):
        packed(tmp_path, tmp_path / "out", images=("i",), valid=("v",))
    (tmp_path / "v" / "1_fov.png").unlink()
    with pytest.raises(ValueError, match=r"1\.png: no file of --valid fits it by name"):
        packed(tmp_path, tmp_path / "out", images=("i",), masks=("m",), valid=("v",))


def test_lists_of_names(tmp_path):
    for n in range(6):
        pair(tmp_path, f"i/{n}.png", f"m/{n}.png", number=n)
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbf2\r\n0.png\r\n9\r\n")
    (tmp_path / "Valid.txt").write_text("1\n")
    arguments = {"images": ("i",), "masks": ("m",), "lists": ("train.txt", "Valid.txt")}
    dataset, source = packed(tmp_path, tmp_path / "out", **arguments)
    assert ids(dataset) == {"train": ["train/2", "train/0"], "val": ["val/1"]}, "in the order of the list"
    assert "3 images left out, because no list names them" in source.sentences
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text()
    assert json.loads(rejected)["file"] == f"{tmp_path / 'train.txt'}:3"
    (tmp_path / "Valid.txt").write_text("0\n")
    with pytest.raises(ValueError, match=r"(Valid|train)\.txt:\d: .*0\.png is in .*txt:\d already"):
        packed(tmp_path, tmp_path / "out", **arguments)


def test_a_description_packs_the_same_bytes_again(tmp_path):
    for n in range(9):
        pair(tmp_path, f"data/i/{n}.png", f"data/m/{n}_x.png", number=n, labels=None)
    root, out = tmp_path / "data", tmp_path / "out"
    description = Description("own", Layout(("i/*.png",), ("m",)), MaskOptions(classes=("a", "b")), seed=3)
    source = open_folders(description, root)
    pack(source, out / "first", source.available())
    described = replace(description, encoding=source.encoding)
    for place in (out / "first" / "dataset.yaml", root / "dataset.yaml"):
        write_description(described, place, root)
        again = read_description(place)
        pack(open_folders(again, place.parent), out / "second", source.available())
        for file in (out / "first").iterdir():
            if file.name != "dataset.yaml":
                assert file.read_bytes() == (out / "second" / file.name).read_bytes(), file
    content = yaml.safe_load((root / "dataset.yaml").read_text())
    assert content["images"] == ["i/*.png"] and content["seed"] == 3, "below its own folder, paths are relative"
    os.rename(root, tmp_path / "moved")
    moved = open_folders(read_description(tmp_path / "moved" / "dataset.yaml"), tmp_path / "moved")
    assert moved.available() == source.available()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image: i/*.png", r"key 'image' is unknown: did you mean images\?"),
        ("frobnicate: 1", r"key 'frobnicate' is unknown: use one of name, images"),
        ("images: [1]", r"images: \[1\] is no text and no list of texts"),
        ("images: i\nseed: x", "seed: 'x' is no whole number"),
        ("images: i\nwithout_mask: maybe", "without_mask: 'maybe' is none of reject, leave-out, unlabelled"),
        ("images: i\nsplit: [yes]", "split: True is no number"),
        ("images: i\nencoding: {kind: ids}", "encoding: .*classes"),
        ("- images", "holds list, not keys and values"),
        ("images: [", "is no YAML"),
        ("!!python/object/apply:os.getcwd []", "is no YAML"),
        ("seed: 1", "no images: give their pattern"),
    ],
)
def test_a_description_that_is_none(tmp_path, text, reason):
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(ValueError, match=reason):
        open_folders(read_description(tmp_path / "dataset.yaml"), tmp_path)


def test_masks_are_read_once_to_draw_splits_and_to_pack(tmp_path, monkeypatch):
    for n in range(6):
        pair(tmp_path, f"i/{n}.png", f"m/{n}.png", number=n)
    description = Description("own", Layout(("i",), ("m",)))
    encoding = open_folders(description, tmp_path).encoding
    calls = []
    monkeypatch.setattr(
        "miseg.data.folders.encoding.read_mask", lambda data, read=read_mask: calls.append(data) or read(data)
    )
    source = open_folders(replace(description, encoding=encoding), tmp_path)
    pack(source, tmp_path / "out", source.available())
    assert len(calls) == 6
    pack(source, tmp_path / "again", source.available())
    assert len(calls) == 12, "what was kept is given once"
    first, again = (json.loads((tmp_path / name / "dataset.json").read_text()) for name in ("out", "again"))
    assert first == again


@pytest.mark.parametrize("as_stored", [True, False])
def test_images_of_no_object_lie_as_those_of_some(tmp_path, as_stored):
    exif = Image.Exif()
    exif[0x0112] = 6
    for n in range(3):
        picture(tmp_path / f"i/{n}.jpg", noise(n, SIZE), exif=exif)
    mask = np.zeros(SIZE if as_stored else SIZE[::-1], np.uint8)
    mask[:4] = 1
    picture(tmp_path / "m/0.png", mask)
    dataset, _ = packed(
        tmp_path, tmp_path / "out", images=("i",), masks=("m",), without_mask="background", split=(1, 0)
    )
    shapes = {decode(dataset.read("train", number))[0].shape[:2] for number in range(3)}
    assert shapes == {mask.shape}
