import numpy as np
import pytest

from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from miseg.data.samples import Rejection, Sample
from miseg.data.sources.ade20k import ADE20K
from miseg.data.sources.catalog import ensure_packed
from tests.support.layouts import SIZE, Ade20kTree, masks, noise, picture

A, B = "ADE_train_00000001", "ADE_train_00000002"
ALL_LABELS = np.arange(192, dtype=np.uint8).reshape(SIZE) % 151


@pytest.fixture
def tree(tmp_path):
    return Ade20kTree(tmp_path / "ade20k")


def test_classes_are_packed_from_0_and_the_rest_is_ignored(tree, tmp_path):
    tree.add(B, labels=ALL_LABELS)
    tree.add(A)
    tree.add("ADE_val_00000001", "validation", np.full(SIZE, 150, np.uint8))
    source = ADE20K(tree.root.parent)
    packed = masks(source, tmp_path / "out", "train")
    assert list(packed) == [f"train/{A}", f"train/{B}"]
    assert np.array_equal(packed[f"train/{B}"], np.where(ALL_LABELS == 0, 255, ALL_LABELS - 1))
    (val,) = masks(ADE20K(tree.root), tmp_path / "val", "val").values()
    assert (val == 149).all()
    assert source.available() == ("train", "val")


def test_names_and_colours(tree):
    names = [f"thing {number}; more, other name" for number in range(1, 151)]
    names[4] = names[9] = "screen, silver screen"
    tree.names(names)
    info = ADE20K(tree.root).info
    assert len(info.classes) == len(set(info.classes)) == len(set(info.colours)) == 150
    assert info.classes[0] == "thing 1; more" and (info.classes[4], info.classes[9]) == ("screen 5", "screen 10")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["wall"] * 149, r"objectInfo150\.txt names 149 classes, not each of 1\.\.150"),
        (["wall"] * 151, r"objectInfo150\.txt names 151 classes"),
        (["wall"] * 149 + ["a\nb"], r"objectInfo150\.txt, line 152: 'b' is not Idx, Ratio, Train, Val, Name"),
    ],
)
def test_a_damaged_table_of_names(tree, names, reason):
    tree.names(names)
    with pytest.raises(ValueError, match=reason):
        _ = ADE20K(tree.root).info


def test_no_table_of_names(tree, tmp_path):
    tree.add(A)
    (tree.root / "objectInfo150.txt").unlink()
    with pytest.raises(ValueError, match=r"objectInfo150\.txt is missing, .*ADEChallengeData2016\.zip.*--root"):
        pack(ADE20K(tree.root), tmp_path / "out", ["train"])


@pytest.mark.parametrize("value", [151, 255])
def test_a_value_that_is_no_class(tree, tmp_path, value):
    tree.add(A)
    labels = ALL_LABELS.copy()
    labels[3, 4] = value
    _, mask = tree.add(B, labels=labels)
    (rejection,) = pack(ADE20K(tree.root), tmp_path / "out", ["train"]).rejected
    assert rejection.file == str(mask)
    assert f"label {value} is outside 1..150 and 0 (unlabelled)" in rejection.reason


def test_a_mask_of_colours_and_one_of_another_size(tree, tmp_path):
    tree.add(A)
    _, coloured = tree.add(B, labels=noise(3))
    image, _ = tree.add("ADE_train_00000003", labels=ALL_LABELS[:6])
    found = {one.file: one.reason for one in pack(ADE20K(tree.root), tmp_path / "out", ["train"]).rejected}
    assert "RGB colours: save label numbers" in found[str(coloured)]
    assert "image is 12x16 and mask 6x16" in found[str(image)] and len(found) == 2


def test_a_grey_image_gets_three_equal_channels(tree, tmp_path):
    tree.add(A)
    tree.image(A, pixels=noise(1)[..., 0])
    dataset = PackedDataset.open(pack(ADE20K(tree.root), tmp_path / "out", ["train"]).path)
    pixels, _ = decode(dataset.read("train", 0))
    assert pixels.shape == (*SIZE, 3) and (pixels == pixels[..., :1]).all()


def test_halves(tree):
    tree.add(A)
    image = tree.image(B)
    mask = picture(tree.root / "annotations" / "training" / "ADE_train_00000009.png", ALL_LABELS)
    (tree.root / "images" / "training" / "._ADE_train_00000001.jpg").write_bytes(b"x")
    found = list(ADE20K(tree.root).samples("train"))
    assert [one.id for one in found if isinstance(one, Sample)] == [f"train/{A}"]
    reasons = {one.file: one.reason for one in found if isinstance(one, Rejection)}
    assert reasons.keys() == {str(image), str(mask)}
    assert "image without mask" in reasons[str(image)] and f"{B}.png is not there" in reasons[str(image)]
    assert "mask without image" in reasons[str(mask)] and "00000009.jpg is not there" in reasons[str(mask)]


def test_splits_that_are_not_there(tree):
    tree.add(A)
    source = ADE20K(tree.root)
    assert source.available() == ("train",)
    for split, reason in (
        ("test", "'test', whose masks the publisher keeps: ade20k has train and val"),
        ("training", "'training': ade20k has train and val"),
        ("val", r"images/validation/ is missing.*found: train.*--splits"),
    ):
        with pytest.raises(ValueError, match=reason):
            list(source.samples(split))


def test_folders_that_are_not_there(tmp_path):
    root = tmp_path / "ade20k"
    for missing in ("ade20k: no such folder", "images/ is missing", "annotations/ is missing", "neither training/"):
        with pytest.raises(ValueError, match=rf"{missing}.*ADEChallengeData2016\.zip.*MISEG_DATA"):
            ADE20K(root).available()
        (root if "folder" in missing else root / missing.split("/")[0]).mkdir(exist_ok=True)
    for kind in ("images", "annotations"):
        (root / kind / "training").mkdir(parents=True)
    with pytest.raises(ValueError, match="images/training/ holds no picture"):
        list(ADE20K(root).samples("train"))


def test_the_default_place_is_packed_on_first_use(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    tree.add(A)
    tree.add("ADE_val_00000001", "validation")
    dataset = PackedDataset.open(ensure_packed("ade20k", tmp_path / "storage"))
    assert dataset.splits == ("train", "val") and len(dataset.info.classes) == 150
