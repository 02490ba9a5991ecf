import re

import numpy as np
import pytest
from scipy.io import savemat

from miseg.data.checks import BadFileError
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.samples import Rejection, Sample
from miseg.data.sources.sbd import VocAug, read_class_map
from tests.support.layouts import SIZE, VocTree, masks, noise, picture, save_class_map, some_labels

RANDOM = np.random.default_rng(0).integers(0, 21, (60, 80), dtype=np.uint8)


@pytest.fixture
def tree(tmp_path):
    """Two images in VOC's train and one in its val, two more in SBD's, of which VOC's are listed too."""
    tree = VocTree(tmp_path / "voc")
    for name, split in (("voc_b", "train"), ("voc_a", "train"), ("voc_val", "val")):
        tree.add(name, split)
    for name, split in (("sbd_b", "train"), ("voc_val", "train"), ("sbd_a", "val"), ("voc_a", "val")):
        tree.add_sbd(name, split)
    return tree


def found(tree):
    return list(VocAug(tree.root).samples("train"))


def ids(tree):
    return [one.id for one in found(tree) if isinstance(one, Sample)]


def reasons(tree):
    return {one.file: one.reason for one in found(tree) if isinstance(one, Rejection)}


def test_trainaug_is_both_sets_without_voc_s_val(tree, tmp_path):
    packed = masks(VocAug(tree.root), tmp_path / "out", "train")
    assert list(packed) == ["train/voc_b", "train/voc_a", "train/sbd_b", "train/sbd_a"]
    for name in ("sbd_b", "sbd_a"):
        assert np.array_equal(packed[f"train/{name}"], some_labels(name) % 21)
    # VOC's own masks have void pixels, SBD's have none.
    for name in ("voc_a", "voc_b"):
        assert np.array_equal(packed[f"train/{name}"], some_labels(name)) and 255 in packed[f"train/{name}"]


def test_all_splits_in_one_data_set(tree, tmp_path):
    source = VocAug(tree.root)
    assert source.available() == ("train", "val")
    packing = pack(source, tmp_path / "out", source.available(), max_rejected=0)
    assert packing.rows == {"train": 4, "val": 1} and packing.rejected == ()
    dataset = PackedDataset.open(packing.path)
    assert dataset.info.name == "voc-aug" and dataset.read("val", 0).id == "val/voc_val"


def test_voc_s_copy_of_an_image_comes_first(tree):
    copy = tree.image("sbd_b")
    images = {one.id: one.image for one in found(tree)}
    assert images["train/sbd_b"] == copy
    assert images["train/sbd_a"] == tree.sbd / "img" / "sbd_a.jpg"


@pytest.mark.parametrize(
    "place",
    [
        "benchmark_RELEASE/dataset",
        "sbd",
        "sbd/dataset",
        "sbd/benchmark_RELEASE/dataset",
        "dataset",
        "VOCdevkit/sbd",
        "VOCdevkit/VOC2012/sbd",
        "VOCdevkit/VOC2012/benchmark_RELEASE/dataset",
    ],
)
@pytest.mark.parametrize("root", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_each_place_of_sbd(tree, place, root):
    target = tree.root / place
    target.parent.mkdir(parents=True, exist_ok=True)
    tree.sbd.rename(target)
    assert len(list(VocAug(tree.root / root).samples("train"))) == 4


def test_masks_in_png_form_alone(tree, tmp_path):
    tree.sbd.rename(tmp_path / "elsewhere")
    for name in ("png_b", "voc_val", "voc_a", "png_a"):
        tree.image(name)
        tree.mask(name, some_labels(name) % 20, "SegmentationClassAug")
    (tree.folder / "SegmentationClassAug" / "._png_a.png").write_bytes(b"x")
    packed = masks(VocAug(tree.root), tmp_path / "out", "train")
    assert list(packed) == ["train/voc_b", "train/voc_a", "train/png_a", "train/png_b"]
    assert np.array_equal(packed["train/png_a"], some_labels("png_a") % 20)
    assert np.array_equal(packed["train/voc_a"], some_labels("voc_a"))


def test_png_masks_fill_what_sbd_s_folder_lacks(tree, tmp_path):
    for name in ("sbd_a", "sbd_b", "not_listed"):
        tree.mask(name, np.full(SIZE, 7, np.uint8), "SegmentationClassAug")
    (tree.sbd / "cls" / "sbd_a.mat").unlink()
    packed = masks(VocAug(tree.root), tmp_path / "out", "train")
    assert list(packed) == ["train/voc_b", "train/voc_a", "train/sbd_b", "train/sbd_a"]
    assert set(packed["train/sbd_a"].ravel()) == {7}
    assert np.array_equal(packed["train/sbd_b"], some_labels("sbd_b") % 21)


def cut(compress, part):
    def spoil(path):
        save_class_map(path, RANDOM, compress)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])

    return spoil


def structure(**fields):
    return lambda path: savemat(path, {"GTcls": fields})


BAD_FILES = {
    "cut": (cut(True, 0.9), "truncated or no MATLAB file"),
    "cut, not compressed": (cut(False, 0.9), "truncated or no MATLAB file"),
    "cut in its header": (cut(True, 0.001), "truncated or no MATLAB file"),
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "truncated or no MATLAB file|holds nothing, not GTcls"),
    "a page": (lambda path: path.write_bytes(b"<html>404</html>" * 20), "truncated or no MATLAB file"),
    "HDF5": (
        lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(900)),
        "MATLAB 7.3.*-v7",
    ),
    "instances": (
        lambda path: savemat(path, {"GTinst": {"Segmentation": RANDOM}}),
        "holds GTinst, not GTcls: copy the file of this name from SBD's cls/, not inst/",
    ),
    "nothing": (lambda path: savemat(path, {}), "holds nothing, not GTcls"),
    "no structure": (lambda path: savemat(path, {"GTcls": RANDOM}), "GTcls has no field, not Segmentation"),
    "no class map": (structure(Boundaries=RANDOM), "GTcls has Boundaries, not Segmentation"),
    "floats": (structure(Segmentation=RANDOM / 2), r"float64 \[60, 80\]: save it as uint8"),
    "three axes": (structure(Segmentation=RANDOM[..., None].repeat(3, 2)), r"uint8 \[60, 80, 3\]"),
    "no pixel": (structure(Segmentation=np.zeros((0, 0), np.uint8)), r"uint8 \[0, 0\]"),
    "text": (structure(Segmentation="RANDOM"), "Segmentation is "),
    "label outside": (structure(Segmentation=RANDOM + 1), r"label 21 is outside 0\.\.20 and 255 \(unlabelled\)"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_class_map_is_rejected_by_its_name(tree, tmp_path, kind):
    spoil, reason = BAD_FILES[kind]
    path = tree.sbd / "cls" / "sbd_b.mat"
    spoil(path)
    packing = pack(VocAug(tree.root), tmp_path / "out", ["train"])
    assert packing.rows == {"train": 3} and packing.rejected_by_split == {"train": 1}
    assert packing.rejected[0].file == str(path)
    assert re.search(reason, packing.rejected[0].reason)


def test_every_cut_of_a_class_map_is_refused(tmp_path):
    for compress in (True, False):
        path = tmp_path / "x.mat"
        save_class_map(path, RANDOM, compress)
        data = path.read_bytes()
        assert np.array_equal(read_class_map(data), RANDOM)
        for size in range(0, len(data), max(1, len(data) // 60)):
            with pytest.raises(BadFileError):
                read_class_map(data[:size])


def test_another_size_is_rejected_by_the_image_s_name(tree, tmp_path):
    save_class_map(tree.sbd / "cls" / "sbd_b.mat", RANDOM)
    (rejection,) = pack(VocAug(tree.root), tmp_path / "out", ["train"]).rejected
    assert rejection.file.endswith("sbd_b.jpg") and "image is 12x16 and mask 60x80 pixels" in rejection.reason


def test_halves_and_bad_lines(tree):
    lone_image, gone = tree.add_sbd("no_mask")
    gone.unlink()
    gone, lone_mask = tree.add_sbd("no_image")
    gone.unlink()
    with (tree.sbd / "val.txt").open("a") as file:
        file.write("sbd_c 1\n")
    assert ids(tree) == ["train/voc_b", "train/voc_a", "train/sbd_b", "train/sbd_a"]
    rejected = reasons(tree)
    assert rejected[str(lone_image)].startswith(f"image without mask: {gone.parents[1]}/cls/no_mask.mat")
    assert str(tree.folder / "JPEGImages" / "no_image.jpg") in rejected[str(lone_mask)]
    assert "'sbd_c 1' is not an id" in rejected[f"{tree.sbd / 'val.txt'}:3"]
    assert len(rejected) == 3


def test_an_id_listed_twice(tree, tmp_path):
    """In one list it is the list's mistake; in two it is how the sets overlap."""
    for path in (tree.sbd / "train.txt", tree.folder / "ImageSets" / "Segmentation" / "train.txt"):
        path.write_text(path.read_text() * 2)
    packing = pack(VocAug(tree.root), tmp_path / "out", ["train"])
    assert packing.rows == {"train": 4}
    assert [rejection.file.rsplit("/", 1)[-1] for rejection in packing.rejected] == [
        "voc_b.jpg",
        "voc_a.jpg",
        "sbd_b.jpg",
    ]
    assert all("is there already" in rejection.reason for rejection in packing.rejected)


def test_a_val_list_with_a_line_that_is_no_id(tree):
    """Its image could not be kept out of training."""
    tree.list("val", "sbd_a  1")
    with pytest.raises(ValueError, match=r"val\.txt:2: 'sbd_a  1' is not an id.*keep out of training"):
        found(tree)


@pytest.mark.parametrize("name", ["train.txt", "val.txt"])
def test_lists_of_sbd_that_are_missing_or_empty(tree, name):
    (tree.sbd / name).write_text("\n")
    with pytest.raises(ValueError, match=rf"dataset/{name} is empty"):
        found(tree)
    (tree.sbd / name).unlink()
    for use in (lambda: found(tree), lambda: VocAug(tree.root).available()):
        with pytest.raises(ValueError, match=rf"dataset/{name} is missing: trainaug needs both"):
            use()


@pytest.mark.parametrize("split", ["train", "val"])
def test_lists_of_voc_that_are_missing(tree, split):
    (tree.folder / "ImageSets" / "Segmentation" / f"{split}.txt").unlink()
    for use in (lambda: found(tree), lambda: VocAug(tree.root).available()):
        with pytest.raises(ValueError, match=rf"{split}\.txt is missing"):
            use()


def test_without_sbd(tree, tmp_path):
    tree.sbd.rename(tmp_path / "elsewhere")
    for use in (lambda: found(tree), lambda: VocAug(tree.root).available()):
        with pytest.raises(
            ValueError, match=r"neither SBD nor .*SegmentationClassAug/ is there: unpack benchmark\.tgz"
        ):
            use()


@pytest.mark.parametrize("split", ["trainval", "test", "trainaug"])
def test_other_splits(tree, split):
    with pytest.raises(ValueError, match=rf"split '{split}': voc-aug has train and val"):
        list(VocAug(tree.root).samples(split))


def test_a_broken_image_of_sbd(tree, tmp_path):
    path = picture(tree.sbd / "img" / "sbd_b.jpg", noise(1))
    path.write_bytes(path.read_bytes()[:-200])
    (rejection,) = pack(VocAug(tree.root), tmp_path / "out", ["train"]).rejected
    assert rejection.file == str(path) and "truncated" in rejection.reason
