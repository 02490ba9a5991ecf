import json

import numpy as np
import pytest

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.samples import Rejection, Sample
from miseg.data.sources.catalog import ensure_packed
from miseg.data.sources.coco.frames import Frame
from miseg.data.sources.coco.persons import CLASSES, CocoPersons
from tests.support.layouts import CocoTree, box, crowd, masks, noise, picture

A, B, C = "000000000036", "000000000049", "000000000061"
WHOLE = Frame(scale=1, middle=None)
HALF = box(0, 0, 360, 200)


@pytest.fixture
def tree(tmp_path):
    return CocoTree(tmp_path / "coco")


def reasons(tree, split="train"):
    found = [one for one in CocoPersons(tree.root).samples(split) if isinstance(one, Rejection)]
    return {one.file: one.reason for one in found}


def test_people_are_1_and_crowds_are_ignored_but_where_a_person_is(tree, tmp_path):
    covered = np.zeros((360, 400), bool)
    covered[10:40, 150:390] = True
    covered[359, 399] = True
    two = {"segmentation": [*HALF["segmentation"], *box(300, 250, 360, 300)["segmentation"]]}
    tree.add(A, two, crowd(covered), box(0, 350, 20, 370))
    (labels,) = masks(CocoPersons(tree.root, frame=WHOLE), tmp_path / "out", "train").values()
    expected = np.where(covered, 255, 0)
    expected[:, :200] = 1
    expected[300:360, 250:300] = 1
    expected[:20, 350:370] = 1
    assert labels.shape == (360, 400) and np.array_equal(labels, expected)


def test_only_people_count(tree, tmp_path):
    tree.add(A, HALF)
    tree.add(B, HALF, category=18)
    tree.add(C)
    assert list(masks(CocoPersons(tree.root), tmp_path / "out", "train")) == [f"train/{A}"]


@pytest.mark.parametrize(
    ("size", "columns", "taken"),
    [((360, 400), 80, True), ((360, 400), 79, False), ((359, 400), 400, False), ((400, 359), 359, False)],
)
def test_which_images_are_taken(tree, tmp_path, size, columns, taken):
    tree.add(B, box(0, 0, size[0], columns), size=size)
    tree.add(A, HALF)
    found = masks(CocoPersons(tree.root), tmp_path / "out", "train")
    assert list(found) == [f"train/{A}"] + ([f"train/{B}"] if taken else [])


def test_a_crowd_alone_is_not_taken_and_another_share_takes_more(tree, tmp_path):
    covered = np.zeros((360, 400), bool)
    covered[:, :300] = True
    tree.add(A, crowd(covered))
    tree.add(B, box(0, 0, 360, 40))
    with pytest.raises(ValueError, match=r"instances_train2017\.json: none of 2 images has sides of 360 .* on 20% of"):
        pack(CocoPersons(tree.root), tmp_path / "out", ["train"])
    assert list(masks(CocoPersons(tree.root, 0.1), tmp_path / "out", "train")) == [f"train/{B}"]
    for share in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"min_share = {share}"):
            CocoPersons(tree.root, share)


def test_val_keeps_the_middle_and_train_the_whole(tree, tmp_path):
    for split in ("train", "val"):
        tree.add(A, HALF, split=split)
    source = CocoPersons(tree.root)
    assert source.available() == ("train", "val") and source.info.classes == CLASSES
    (whole,), (middle,) = (masks(source, tmp_path / split, split).values() for split in ("train", "val"))
    assert whole.shape == (119, 132) and middle.shape == (128, 128)
    assert (whole == 1).sum() == 119 * 66 and (whole == 0).sum() == 119 * 66
    assert np.array_equal(middle[5:124], whole[:, 2:130]) and (middle[[0, 4, 124, 127]] == 255).all()


def test_images_in_a_folder_of_their_own(tree, tmp_path):
    path = tree.add(A, HALF)
    (tree.root / "images").mkdir()
    path.parent.rename(tree.root / "images" / "train2017")
    assert list(masks(CocoPersons(tree.root), tmp_path / "out", "train")) == [f"train/{A}"]


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        ([], "no polygon"),
        ([[1, 2, 3, 4]], "polygon of 2 points, not 3 or more"),
        ([[1, 2, 3, 4, 5, 6, 7]], r"polygon [1, 2, 3, 4, 5, 6, 7] is no list of pairs of numbers"),
        ([[1, 2, 3, 4, 5, "x"]], "is no list of pairs of numbers"),
        ([[1, 2, 3, 4, 5, 1e9]], "polygon reaches far beyond the image of 360x400 pixels"),
        ([[1, 2, 3, 4, 5, float("nan")]], "polygon reaches far beyond the image"),
        ({"counts": [0, 144000], "size": [400, 360]}, "run lengths of size [400, 360], the image has [360, 400]"),
        ({"counts": [0, 144001], "size": [360, 400]}, "run lengths of 144001 pixels, the image has 144000"),
        ({"counts": [-1, 144001], "size": [360, 400]}, "are no list of whole numbers"),
        ({"counts": "aZ0", "size": [360, 400]}, "run lengths aZ0 are no list of whole numbers"),
    ],
)
def test_outlines_that_cannot_be_drawn(tree, tmp_path, outline, reason):
    tree.add(A, HALF)
    tree.add(B, HALF, {"segmentation": outline})
    (rejection,) = pack(CocoPersons(tree.root), tmp_path / "out", ["train"]).rejected
    assert rejection.file == str(tree.root / "annotations" / "instances_train2017.json")
    assert rejection.reason.startswith(f"image {B}.jpg: annotation 102: ") and reason in rejection.reason
    assert "copy it again from annotations_trainval2017.zip" in rejection.reason


def test_an_outline_that_leaves_the_image_a_little_is_cut(tree, tmp_path):
    tree.add(A, box(-5, -3, 365, 200))
    (labels,) = masks(CocoPersons(tree.root, frame=WHOLE), tmp_path / "out", "train").values()
    assert (labels[:, :200] == 1).all() and (labels[:, 200:] == 0).all()


def test_images_that_are_missing_damaged_or_of_another_size(tree):
    tree.add(A, HALF)
    gone, cut, other = (tree.add(name, HALF) for name in (B, C, "000000000074"))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:200])
    picture(other, noise(1, (400, 360)))
    found = reasons(tree)
    assert found.keys() == {str(path) for path in (gone, cut, other)}
    assert "listed in instances_train2017.json, but not there" in found[str(gone)]
    assert "truncated or damaged" in found[str(cut)] and "image is 400x360 and mask 360x400" in found[str(other)]


def test_names_that_reach_elsewhere_and_annotations_of_no_image(tree):
    tree.add(A, HALF)
    tree.add(B, HALF)
    tree.content["train"]["images"][1]["file_name"] = "../val2017/x.jpg"
    path = tree.write()
    assert "file_name '../val2017/x.jpg' is no name such as 000000000139.jpg" in reasons(tree)[str(path)]
    tree.content["train"]["images"].pop()
    tree.write()
    found = list(CocoPersons(tree.root).samples("train"))
    assert [one.id for one in found if isinstance(one, Sample)] == [f"train/{A}"]
    assert "image_id 17 of annotation 101 is none of its images" in reasons(tree)[str(path)]


def without(content, kind, number=None, **fields):
    """`content` without a list, or with other fields in one of its entries."""
    if number is None:
        return {name: value for name, value in content.items() if name != kind}
    entries = [dict(entry) for entry in content[kind]]
    entries[number] |= fields
    return content | {kind: entries}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: [], "has no list of categories, as COCO's files of instances have"),
        (lambda content: without(content, "images"), "has no list of images"),
        (lambda content: content | {"annotations": {}}, "has no list of annotations"),
        (lambda content: content | {"images": [3]}, r"images\[0\] has id = '3'"),
        (lambda content: without(content, "images", 0, height="x"), r"images\[0\] has height = 'x'"),
        (lambda content: without(content, "images", 0, width=0), r"jpg has 360x0 pixels, not 1\.\.8192 a side"),
        (lambda content: without(content, "images", 0, width=10**9), r"has 360x1000000000 pixels"),
        (
            lambda content: without(content, "annotations", 0, segmentation=None),
            r"annotations\[0\] has segmentation = ",
        ),
        (lambda content: without(content, "annotations", 0, image_id=[1]), r"annotations\[0\] has image_id = "),
        (lambda content: without(content, "categories", 0, name="cat"), "has no category 'person': use instances_"),
    ],
)
def test_files_of_something_else(tree, damage, reason):
    tree.add(A, HALF)
    path = tree.write()
    path.write_text(json.dumps(damage(tree.content["train"])))
    with pytest.raises(ValueError, match=rf"instances_train2017\.json.*{reason}"):
        list(CocoPersons(tree.root).samples("train"))


@pytest.mark.parametrize("content", [b"", b'{"images": [', b"\xff\xfe\x00", b"not json"])
def test_damaged_json(tree, content):
    tree.add(A, HALF)
    tree.write().write_bytes(content)
    with pytest.raises(ValueError, match=r"instances_train2017\.json is damaged or no JSON .*copy it again from"):
        list(CocoPersons(tree.root).samples("train"))


def test_splits_and_folders_that_are_not_there(tree):
    with pytest.raises(ValueError, match=r"coco: no such folder; .*annotations_trainval2017\.zip.*MISEG_DATA"):
        CocoPersons(tree.root).available()
    image = tree.add(A, HALF)
    source = CocoPersons(tree.root)
    assert source.available() == ("train",)
    for split, reason in (
        ("test", "'test': coco-persons has train and val"),
        ("val", r"no instances_val2017\.json, so there is no split 'val' here \(found: train\); .*--splits"),
    ):
        with pytest.raises(ValueError, match=reason):
            list(source.samples(split))
    image.parent.rename(tree.root / "elsewhere")
    with pytest.raises(ValueError, match=r"has no split with images and instances_train2017\.json or so: .*--root"):
        source.available()


def test_the_default_place_is_packed_on_first_use(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    tree.add(A, HALF)
    tree.add(B, HALF, split="val")
    dataset = PackedDataset.open(ensure_packed("coco-persons", tmp_path / "storage"))
    assert dataset.splits == ("train", "val") and dataset.info.classes == CLASSES
