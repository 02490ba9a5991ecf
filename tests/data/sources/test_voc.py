import io

import numpy as np
import pytest
from PIL import Image

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.samples import Rejection, Sample
from miseg.data.sources.catalog import ensure_packed
from miseg.data.sources.voc import CLASSES, COLOURS, Voc
from tests.support.layouts import VocTree, masks, palette_picture, picture, some_labels, voc_colour

LISTS = "VOCdevkit/VOC2012/ImageSets/Segmentation"


@pytest.fixture
def tree(tmp_path):
    return VocTree(tmp_path / "voc")


def rejections(packing):
    return {rejection.file: rejection.reason for rejection in packing.rejected}


def test_palette_masks_are_packed_label_by_label(tree, tmp_path):
    for name, split in (("2007_000042", "train"), ("2007_000032", "train"), ("2007_000033", "val")):
        image, mask = tree.add(name, split)
    assert Image.open(io.BytesIO(mask.read_bytes())).mode == "P"
    packed = masks(Voc(tree.root), tmp_path / "out", "train")
    assert list(packed) == ["train/2007_000042", "train/2007_000032"]
    for name in ("2007_000042", "2007_000032"):
        assert np.array_equal(packed[f"train/{name}"], some_labels(name)) and 255 in packed[f"train/{name}"]
    dataset = PackedDataset.open(pack(Voc(tree.root), tmp_path / "out", ["train", "val"]).path)
    assert dataset.read("val", 0).image == image.read_bytes()
    assert dataset.info.name == "voc" and dataset.info.classes == CLASSES and dataset.info.colours == COLOURS


def test_palettes_of_four_bits_and_grey_masks(tree, tmp_path):
    labels = some_labels("x") % 16
    _, mask = tree.add("four")
    palette_picture(labels).save(mask, bits=4)
    assert mask.read_bytes()[24] == 4
    _, mask = tree.add("grey")
    picture(mask, labels)
    packed = masks(Voc(tree.root), tmp_path / "out", "train")
    assert np.array_equal(packed["train/four"], labels) and np.array_equal(packed["train/grey"], labels)


@pytest.mark.parametrize("root", ["voc", "voc/VOCdevkit", "voc/VOCdevkit/VOC2012"])
def test_each_root(tree, tmp_path, root):
    tree.add("2007_000032")
    tree.add("2007_000033", "val")
    source = Voc(tmp_path / root)
    assert source.available() == ("train", "val")
    assert [sample.id for sample in source.samples("train")] == ["train/2007_000032"]


def test_the_published_classes_and_colours():
    assert (CLASSES[0], CLASSES[1], CLASSES[20], len(set(CLASSES))) == ("background", "aeroplane", "tv/monitor", 21)
    assert tuple(voc_colour(label) for label in range(21)) == COLOURS
    # As the devkit's page shows them.
    assert (COLOURS[1], COLOURS[8], COLOURS[15], COLOURS[20]) == (
        (128, 0, 0),
        (64, 0, 0),
        (192, 128, 128),
        (0, 64, 128),
    )


def test_masks_of_colours_are_rejected(tree, tmp_path):
    """Re-saved without palette, with and without the void border, and as SegmentationObject shows its instances."""
    tree.add("good")
    _, resaved = tree.add("resaved", labels=some_labels("resaved") % 21)
    _, bordered = tree.add("bordered")
    _, objects = tree.add("objects", labels=np.arange(192, dtype=np.uint8).reshape(12, 16))
    for path in (resaved, bordered, objects):
        Image.open(path).convert("RGB").save(path)
    packing = pack(Voc(tree.root), tmp_path / "out", ["train"])
    reasons = rejections(packing)
    assert packing.rows == {"train": 1} and len(reasons) == 3
    assert "all of them published colours of voc" in reasons[str(resaved)]
    assert "mask of 22 RGB colours: save label numbers instead" in reasons[str(bordered)]
    assert "mask of 192 RGB colours: save label numbers instead" in reasons[str(objects)]


def test_a_label_outside_is_rejected_with_its_value(tree, tmp_path):
    tree.add("good")
    _, mask = tree.add("bad", labels=np.full((12, 16), 21, np.uint8))
    reasons = rejections(pack(Voc(tree.root), tmp_path / "out", ["train"]))
    assert r"label 21 is outside 0..20 and 255 (unlabelled)" in reasons[str(mask)]


def test_halves_and_lines_that_are_no_id(tree):
    lone_image, gone = tree.add("no_mask")
    gone.unlink()
    gone, lone_mask = tree.add("no_image")
    gone.unlink()
    tree.list("train", "neither")
    tree.list("train", "2007_000032  1")
    tree.list("train", "../../secret")
    tree.list("train", "C:\\secret")
    tree.add("good")
    found = list(Voc(tree.root).samples("train"))
    assert [one.id for one in found if isinstance(one, Sample)] == ["train/good"]
    reasons = {one.file: one.reason for one in found if isinstance(one, Rejection)}
    assert "image without mask" in reasons[str(lone_image)]
    assert "mask without image" in reasons[str(lone_mask)]
    assert "neither" in reasons[str(tree.folder / "JPEGImages" / "neither.jpg")]
    listed = tree.root / LISTS / "train.txt"
    for number, line in ((4, "2007_000032  1"), (5, "../../secret"), (6, "C:\\secret")):
        reason = reasons[f"{listed}:{number}"]
        assert repr(line) in reason and "is not an id" in reason and "ImageSets/Main" in reason
    assert len(reasons) == 6


def test_an_id_listed_twice(tree, tmp_path):
    tree.add("a")
    tree.list("train", "a")
    packing = pack(Voc(tree.root), tmp_path / "out", ["train"])
    assert packing.rows == {"train": 1} and "'train/a' is there already" in packing.rejected[0].reason


def test_windows_line_ends_blank_lines_and_byte_order_mark(tree):
    tree.add("a")
    tree.add("b")
    (tree.root / LISTS / "train.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\nb \r\n")
    assert [sample.id for sample in Voc(tree.root).samples("train")] == ["train/a", "train/b"]


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"\r\n \n", "empty"), (b"a\n\xff", "not UTF-8")])
def test_a_list_without_ids_or_text(tree, content, reason):
    tree.add("a")
    (tree.root / LISTS / "train.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"train\.txt.*{reason}"):
        list(Voc(tree.root).samples("train"))


def test_what_no_list_names_is_left_alone(tree, tmp_path):
    tree.add("a")
    (tree.folder / "JPEGImages" / "2007_000001.jpg").write_bytes(b"broken")
    (tree.folder / "SegmentationClass" / "2007_000001.png").write_bytes(b"broken")
    assert pack(Voc(tree.root), tmp_path / "out", ["train"]).rejected == ()


def test_trainval_is_packed_when_asked_for_only(tree, tmp_path):
    for name, split in (("a", "train"), ("b", "val")):
        tree.add(name, split)
        tree.list("trainval", name)
    source = Voc(tree.root)
    assert source.available() == ("train", "val")
    assert list(masks(source, tmp_path / "out", "trainval")) == ["trainval/a", "trainval/b"]


def test_splits_that_are_not_there(tree):
    tree.add("a")
    tree.list("test", "2008_000006")
    for split, reason in (
        ("test", r"no split 'test': VOC publishes no masks for it; use val"),
        ("trainaug", r"'trainaug': voc has train, val and trainval.*voc-aug"),
        ("val", r"val\.txt is missing.*found: train.*--splits.*VOCtrainval"),
    ):
        with pytest.raises(ValueError, match=reason):
            list(Voc(tree.root).samples(split))
    assert Voc(tree.root).available() == ("train",)


def test_folders_that_are_not_there(tree, tmp_path):
    for use in (lambda source: source.available(), lambda source: list(source.samples("train"))):
        with pytest.raises(ValueError, match=r"nowhere: no such folder.*VOCtrainval.*--root.*MISEG_DATA"):
            use(Voc(tmp_path / "nowhere"))
        with pytest.raises(ValueError, match=r"has no ImageSets/Segmentation/.*VOCdevkit/VOC2012/"):
            use(Voc(tmp_path))
    (tree.root / LISTS).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"neither train\.txt nor val\.txt"):
        Voc(tree.root).available()
    tree.list("train", "a")
    with pytest.raises(ValueError, match=r"JPEGImages/ is missing"):
        list(Voc(tree.root).samples("train"))
    tree.image("a")
    with pytest.raises(ValueError, match=r"SegmentationClass/ is missing"):
        list(Voc(tree.root).samples("train"))


def test_the_default_place_is_packed_on_first_use(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    tree.add("a")
    tree.add("b", "val")
    path = ensure_packed("voc", tmp_path / "storage")
    assert PackedDataset.open(path).splits == ("train", "val")
    image, _ = tree.add("c")
    image.write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 files of voc were rejected.*c\.jpg: empty file"):
        ensure_packed("voc", tmp_path / "other storage")


def test_stored_masks_are_grey(tree, tmp_path):
    tree.add("a")
    dataset = PackedDataset.open(pack(Voc(tree.root), tmp_path / "out", ["train"]).path)
    assert Image.open(io.BytesIO(dataset.read("train", 0).mask)).mode == "L"
