from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from miseg.data.samples import Rejection, Sample
from miseg.data.sources.catalog import ensure_packed
from miseg.data.sources.coco.frames import Frame
from miseg.data.sources.coco.labels import LABELS, STUFF_LABELS, THINGS
from miseg.data.sources.coco.stuff import CLASSES, COLOURS, CocoStuff15, coarse_labels
from tests.support.layouts import CocoStuffTree, masks, picture
from tests.support.real_data import real_data

A, B = "000000000009", "000000000025"
WHOLE = Frame(scale=1, middle=None)
# fmt: off
# IIC's published dictionary: the kind, 12..26, of each label of stuff, 91..181.
KINDS = (
    17, 17, 22, 20, 20, 22, 15, 25, 16, 13, 12, 12, 17, 17, 23, 15, 15, 17, 15, 21, 15, 25, 13, 13, 13, 13, 13, 22, 26,
    14, 14, 15, 22, 21, 21, 24, 20, 22, 15, 17, 16, 15, 22, 24, 21, 17, 25, 16, 21, 17, 22, 16, 21, 21, 25, 21, 26, 21,
    24, 20, 17, 14, 21, 26, 15, 23, 20, 21, 24, 15, 24, 22, 25, 15, 20, 17, 17, 22, 14, 18, 18, 18, 18, 18, 18, 18, 26,
    26, 19, 19, 24,
)
# fmt: on


@pytest.fixture
def tree(tmp_path):
    return CocoStuffTree(tmp_path / "coco_stuff")


@pytest.fixture(scope="module")
def real() -> Path:
    """The thirteen real images."""
    return real_data("coco_stuff")


def test_each_label_is_of_the_kind_that_iic_gives_it():
    table = coarse_labels()
    assert table[91:182].tolist() == [kind - 12 for kind in KINDS] and LABELS == 182
    assert (table[:91] == 255).all() and (table[182:] == 255).all()
    assert [label for labels in THINGS.values() for label in labels] == list(range(91)) and len(THINGS) == 12


def test_names_have_the_numbers_of_the_published_list():
    # labels.txt counts from 1 with "unlabeled" at 0, the masks from 0.
    published = {"banner": 92, "cloth": 104, "clothes": 105, "floor-wood": 118, "flower": 119, "grass": 124}
    published |= {"mirror-stuff": 133, "road": 149, "sea": 155, "sky-other": 157, "skyscraper": 158, "tree": 169}
    published |= {"wall-brick": 171, "water-other": 178, "waterdrops": 179, "wood": 182}
    assert {name: STUFF_LABELS[name] + 1 for name in published} == published
    assert len(STUFF_LABELS) == 91
    assert len(CLASSES) == len(set(COLOURS)) == 15 and CLASSES[0] == "ceiling" and CLASSES[14] == "water"


def test_all_182_labels_are_packed_as_fifteen(tree, tmp_path):
    labels = np.full((360, 360), 156, np.uint8)
    labels[:15].flat[:256] = [*range(182), *[255] * 74]
    tree.add(A, labels=labels)
    (packed,) = masks(CocoStuff15(tree.root, frame=WHOLE), tmp_path / "out", "train").values()
    assert (packed.flat[:91] == 255).all() and packed.flat[91:182].tolist() == [kind - 12 for kind in KINDS]
    assert (packed.flat[182:256] == 255).all() and (packed[15:] == CLASSES.index("sky")).all()


def test_real_images_against_a_count_of_their_masks(real, tmp_path):
    source = CocoStuff15(real, curated=False, frame=WHOLE)
    assert source.available() == ("all",)
    found = masks(source, tmp_path / "out", "all")
    assert len(found) == 13
    for name, packed in found.items():
        fine = np.asarray(Image.open(real / "label" / f"{name.removeprefix('all/')}.png"))
        expected = np.zeros(256, int)
        for label, count in zip(*np.unique(fine, return_counts=True), strict=True):
            expected[KINDS[label - 91] - 12 if 91 <= label < 182 else 255] += count
        assert np.bincount(packed.ravel(), minlength=256).tolist() == expected.tolist()
    assert len(np.unique(np.concatenate([packed.ravel() for packed in found.values()]))) > 10


def test_real_images_that_are_mostly_stuff_at_a_third_of_their_size(real, tmp_path):
    dataset = PackedDataset.open(pack(CocoStuff15(real), tmp_path / "out", ["all"]).path)
    rows = [dataset.read("all", index) for index in range(dataset.size("all"))]
    taken = ["000000138805", "000000203744", "000000350505", "000000500044", "000000580986"]
    assert [row.id for row in rows] == [f"all/{name}" for name in taken]
    assert [(row.height, row.width) for row in rows] == [(158, 211), (126, 211), (139, 211), (141, 211), (141, 211)]
    for name, row in zip(taken, rows, strict=True):
        fine = np.asarray(Image.open(real / "label" / f"{name}.png"))
        original = np.asarray(Image.open(real / "img" / f"{name}.jpg"), float)
        pixels, labels = decode(row)
        # Labels stay at their places: those of the pixel that the middle of the small one lies in.
        y, x = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(labels.shape, fine.shape, strict=True))
        kinds = np.array([*[255] * 91, *(kind - 12 for kind in KINDS), *[255] * 74])
        # But where that is the edge between two, and rounding decides.
        assert (labels != kinds[fine[np.ix_(y, x)]]).mean() < 0.001
        assert np.abs(pixels.mean((0, 1)) - original.mean((0, 1))).max() < 1


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"images": "{}2017"},
        {"images": "{}2017", "masks": "stuffthingmaps_trainval2017/{}2017"},
        {"masks": "stuffthingmaps/{}2017"},
    ],
)
def test_the_places_where_people_have_them(tmp_path, where):
    tree = CocoStuffTree(tmp_path / "coco_stuff", where)
    tree.add(A)
    tree.add(B, "val")
    source = CocoStuff15(tree.root)
    assert source.available() == ("train", "val")
    assert list(masks(source, tmp_path / "out", "train")) == [f"train/{A}"]


def test_val_keeps_the_middle_and_train_the_whole(tree, tmp_path):
    labels = np.full((400, 600), 156, np.uint8)
    labels[198:204, 297:306] = 93
    for split in ("train", "val"):
        tree.add(A, split, labels)
    source = CocoStuff15(tree.root)
    (whole,), (middle,) = (masks(source, tmp_path / split, split).values() for split in ("train", "val"))
    assert whole.shape == (132, 198) and middle.shape == (128, 128)
    assert np.array_equal(middle, whole[2:130, 35:163])
    assert (middle == CLASSES.index("plant")).sum() == 6 and middle[64, 64] == CLASSES.index("plant")


def test_beside_a_small_image_val_is_black_and_ignored(tree, tmp_path):
    tree.add(A, "val", np.full((360, 450), 156, np.uint8))
    dataset = PackedDataset.open(pack(CocoStuff15(tree.root), tmp_path / "out", ["val"]).path)
    pixels, labels = decode(dataset.read("val", 0))
    # 119 rows of 128, five above and four below them.
    assert (labels[:5] == 255).all() and (labels[124:] == 255).all() and (labels[5:124] == 11).all()
    assert (pixels[:5] == 0).all() and (pixels[124:] == 0).all() and pixels[5:124].mean() > 100


@pytest.mark.parametrize(
    ("size", "stuff", "taken"),
    [((360, 400), 300, True), ((360, 400), 299, False), ((359, 400), 400, False), ((400, 359), 359, False)],
)
def test_the_rule_of_the_curated_lists(tree, tmp_path, size, stuff, taken):
    labels = np.zeros(size, np.uint8)
    labels[:, :stuff] = 181
    tree.add(A, labels=labels)
    tree.add(B)
    found = masks(CocoStuff15(tree.root), tmp_path / "out", "train")
    assert list(found) == ([f"train/{A}"] if taken else []) + [f"train/{B}"]
    assert len(masks(CocoStuff15(tree.root, curated=False), tmp_path / "all", "train")) == 2


def test_no_image_that_the_rule_takes(tree, tmp_path):
    tree.add(A, labels=np.zeros((400, 400), np.uint8))
    with pytest.raises(ValueError, match=r"'train' in .*none of 1 images has sides of 360.*75% of them.*--no-curated"):
        pack(CocoStuff15(tree.root), tmp_path / "out", ["train"])


def test_a_list_takes_what_it_names(tree, tmp_path):
    tree.add(A, labels=np.zeros((12, 16), np.uint8))
    tree.add(B)
    # A list of the published place counts without being asked for; one that is given goes before it.
    tree.list(A)
    assert list(masks(CocoStuff15(tree.root), tmp_path / "out", "train")) == [f"train/{A}"]
    (given := tmp_path / "list.txt").write_text(f"{B}\n\n{A}\n")
    assert list(masks(CocoStuff15(tree.root, given), tmp_path / "given", "train")) == [f"train/{B}", f"train/{A}"]
    assert len(masks(CocoStuff15(tree.root, curated=False), tmp_path / "all", "train")) == 2


def test_a_list_that_names_missing_images(tree, tmp_path):
    tree.add(A)
    tree.add(B)[1].unlink()
    path = tree.list("000000000001", A, B, "../train2017/x")
    found = {one.file: one.reason for one in pack(CocoStuff15(tree.root), tmp_path / "out", ["train"]).rejected}
    assert found.keys() == {f"{path}:1", f"{path}:4", str(tree.root / "images" / "train2017" / f"{B}.jpg")}
    assert "no image '000000000001' in split 'train': add it or remove the line" in found[f"{path}:1"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "list.txt is empty: write one image id a line"),
        (b"000000000001\n", "list.txt names no image of split 'train', but for one '000000000001'.*--splits"),
        (b"\xff\n", r"list.txt: not UTF-8 text \(byte 0\): save the list"),
    ],
)
def test_bad_lists(tree, tmp_path, content, reason):
    tree.add(A)
    (path := tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        list(CocoStuff15(tree.root, path).samples("train"))


def test_a_list_for_every_image_and_wrong_frames(tree):
    with pytest.raises(ValueError, match=r"image list x\.txt, but every image is asked for"):
        CocoStuff15(tree.root, Path("x.txt"), curated=False)
    for scale in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"scale = {scale}"):
            Frame(scale=scale)
    with pytest.raises(ValueError, match="middle = 0"):
        Frame(middle=0)


@pytest.mark.parametrize("value", [182, 183, 254])
def test_a_value_that_is_no_label(tree, tmp_path, value):
    tree.add(A)
    labels = np.full((360, 360), 156, np.uint8)
    labels[3, 4] = value
    _, mask = tree.add(B, labels=labels)
    (rejection,) = pack(CocoStuff15(tree.root), tmp_path / "out", ["train"]).rejected
    assert rejection.file == str(mask)
    assert f"label {value} is outside 0..181 and 255 (unlabelled): correct it" in rejection.reason


def test_damaged_files_and_one_of_another_size(tree, tmp_path):
    tree.add(A)
    image, _ = tree.add("000000000001")
    _, mask = tree.add("000000000002")
    for path in (image, mask):
        path.write_bytes(path.read_bytes()[:200])
    empty = tree.add("000000000003")[0]
    empty.write_bytes(b"")
    resized = tree.add("000000000004")[0]
    picture(resized, np.zeros((363, 360, 3), np.uint8))
    _, coloured = tree.add("000000000005")
    picture(coloured, np.zeros((360, 363, 3), np.uint8))
    found = {one.file: one.reason for one in pack(CocoStuff15(tree.root), tmp_path / "out", ["train"]).rejected}
    assert found.keys() == {str(path) for path in (image, mask, empty, resized, coloured)}
    assert "truncated or damaged" in found[str(image)] and "truncated or damaged" in found[str(mask)]
    assert "empty file" in found[str(empty)] and "RGB colours" in found[str(coloured)]
    assert "image is 363x360 and mask 360x363" in found[str(resized)]


def test_halves(tree):
    tree.add(A)
    image, gone = tree.add(B)
    gone.unlink()
    gone, mask = tree.add("000000000001")
    gone.unlink()
    # What MMSegmentation's converter leaves beside the published masks.
    picture(mask.with_name(f"{A}_labelTrainIds.png"), np.zeros((360, 363), np.uint8))
    found = list(CocoStuff15(tree.root).samples("train"))
    assert [one.id for one in found if isinstance(one, Sample)] == [f"train/{A}"]
    reasons = {one.file: one.reason for one in found if isinstance(one, Rejection)}
    assert reasons.keys() == {str(image), str(mask)}
    assert "image without mask" in reasons[str(image)] and "mask without image" in reasons[str(mask)]


def test_splits_that_are_not_there(tree):
    tree.add(A)
    source = CocoStuff15(tree.root)
    for split, reason in (
        ("test", "'test': coco-stuff-15 has train and val, or all in img/ and label/"),
        ("val", r"images/val2017/ and .*val2017/ are missing, .*found: train\); ask for those only \(--splits\)"),
        ("all", r"img/ are missing"),
    ):
        with pytest.raises(ValueError, match=reason):
            list(source.samples(split))


def test_folders_that_are_not_there(tmp_path):
    root = tmp_path / "coco_stuff"
    with pytest.raises(ValueError, match=r"coco_stuff: no such folder; .*stuffthingmaps_trainval2017\.zip.*MISEG_DATA"):
        CocoStuff15(root).available()
    (root / "images" / "train2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    with pytest.raises(ValueError, match=r"has no split with images and masks: .*--root"):
        CocoStuff15(root).available()
    (root / "annotations" / "train2017").mkdir()
    with pytest.raises(ValueError, match="images/train2017/ holds no picture"):
        list(CocoStuff15(root).samples("train"))


def test_the_default_place_is_packed_on_first_use(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    tree.add(A)
    tree.add(B, "val")
    dataset = PackedDataset.open(ensure_packed("coco-stuff-15", tmp_path / "storage"))
    assert dataset.splits == ("train", "val") and dataset.info.classes == CLASSES
