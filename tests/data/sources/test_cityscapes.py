import numpy as np
import pytest

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.samples import Rejection, Sample
from miseg.data.sources.catalog import ensure_packed
from miseg.data.sources.cityscapes import CLASSES, COLOURS, Cityscapes
from tests.support.layouts import SIZE, CityscapesTree, masks, noise, picture

TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9}
TRAIN_IDS |= {23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
ALL_IDS = np.arange(34, dtype=np.uint8).repeat(6).reshape(12, 17)[:, :16]
A, B, C = "aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313"


@pytest.fixture
def tree(tmp_path):
    return CityscapesTree(tmp_path / "cityscapes")


def split_up(tree, split="train"):
    """Ids of the samples, and reasons by file."""
    found = list(Cityscapes(tree.root).samples(split))
    good = [one.id for one in found if isinstance(one, Sample)]
    return good, {one.file: one.reason for one in found if isinstance(one, Rejection)}


def test_label_ids_are_packed_as_train_ids(tree, tmp_path):
    tree.add(C, ids=ALL_IDS)
    tree.add(B)
    tree.add(A, "val", np.full(SIZE, 33, np.uint8))
    packed = masks(Cityscapes(tree.root), tmp_path / "out", "train")
    assert list(packed) == [f"train/{B}", f"train/{C}"]
    expected = np.vectorize(lambda number: TRAIN_IDS.get(number, 255))(ALL_IDS)
    assert np.array_equal(packed[f"train/{C}"], expected)
    assert set(np.unique(packed[f"train/{C}"])) == {*range(19), 255}
    dataset = PackedDataset.open(pack(Cityscapes(tree.root), tmp_path / "out", ["train", "val"]).path)
    assert dataset.info.name == "cityscapes" and dataset.info.classes == CLASSES and dataset.info.colours == COLOURS


def test_the_published_classes_and_colours():
    assert len(set(CLASSES)) == len(set(COLOURS)) == len(TRAIN_IDS) == 19
    assert (CLASSES[0], CLASSES[13], CLASSES[18]) == ("road", "car", "bicycle")
    assert (COLOURS[0], COLOURS[13], COLOURS[18]) == ((128, 64, 128), (0, 0, 142), (119, 11, 32))


@pytest.mark.parametrize("value", [34, 200, 255])
def test_a_value_that_is_no_published_id(tree, tmp_path, value):
    """255 marks a mask of train ids: what else is in it would be taken for other classes."""
    tree.add(A)
    ids = ALL_IDS.copy()
    ids[3, 4] = value
    _, mask = tree.add(B, ids=ids)
    packing = pack(Cityscapes(tree.root), tmp_path / "out", ["train"])
    (rejection,) = packing.rejected
    assert packing.rows == {"train": 1} and rejection.file == str(mask)
    assert rejection.reason == (
        f"label {value} is outside 7..8, 11..13, 17, 19..28, 31..33 and 0..6, 9..10, 14..16, 18, 29..30 (unlabelled): "
        "correct it or map it to 0; if the mask is renumbered to 0..18, take the publisher's own"
    )


def test_other_pictures_of_an_annotation_are_not_read(tree):
    tree.add(A)
    tree.annotation(A, "color.png", noise(1))
    for kind in ("instanceIds.png", "labelTrainIds.png"):
        tree.annotation(A, kind, ALL_IDS)
    (tree.root / "gtFine" / "train" / "aachen" / f"{A}_gtFine_polygons.json").write_text("{}")
    assert split_up(tree) == ([f"train/{A}"], {})


def test_a_folder_of_colours_alone(tree, tmp_path):
    tree.add(C)
    colours = []
    for frame in (A, B):
        tree.image(frame)
        colours.append(str(tree.annotation(frame, "color.png", noise(1))))
    packing = pack(Cityscapes(tree.root), tmp_path / "out", ["train"])
    assert packing.rows == {"train": 1} and packing.rejected_by_split == {"train": 2}
    assert [rejection.file for rejection in packing.rejected] == colours
    for frame, rejection in zip((A, B), packing.rejected, strict=True):
        assert (
            f"colours without label ids: {tree.root}/gtFine/train/aachen/{frame}_gtFine_labelIds.png is not there"
            in (rejection.reason)
        )
        assert "gtFine_trainvaltest.zip" in rejection.reason and "json2labelImg" in rejection.reason


def test_nothing_but_colours(tree, tmp_path):
    tree.image(A)
    tree.annotation(A, "color.png", noise(1))
    with pytest.raises(ValueError, match=r"'train' of cityscapes: not one usable image; .*color\.png: colours without"):
        pack(Cityscapes(tree.root), tmp_path / "out", ["train"])


def test_colours_under_the_name_of_label_ids(tree, tmp_path):
    tree.add(A)
    tree.add(B, ids=np.dstack([noise(1), np.full(SIZE, 255, np.uint8)]))
    tree.add(C, ids=np.asarray(COLOURS, np.uint8)[ALL_IDS % 19])
    first, second = pack(Cityscapes(tree.root), tmp_path / "out", ["train"]).rejected
    assert "mask in colour mode RGBA" in first.reason
    assert "published colours of cityscapes" in second.reason


def test_instance_ids_under_the_name_of_label_ids(tree, tmp_path):
    tree.add(A)
    tree.add(B, ids=np.full(SIZE, 26003, np.uint16))
    (rejection,) = pack(Cityscapes(tree.root), tmp_path / "out", ["train"]).rejected
    assert "16 bits" in rejection.reason


def test_halves(tree):
    tree.add(A)
    image = tree.image(B)
    trained = tree.image(C)
    tree.annotation(C, "labelTrainIds.png", ALL_IDS)
    mask = tree.annotation("bremen_000000_000019", "labelIds.png", ALL_IDS)
    tree.annotation("bremen_000000_000019", "color.png", noise(1))
    outline = tree.root / "gtFine" / "train" / "bremen" / "bremen_000001_000019_gtFine_polygons.json"
    outline.write_text("{}")
    good, reasons = split_up(tree)
    assert good == [f"train/{A}"]
    assert "image without mask" in reasons[str(image)] and "only" not in reasons[str(image)]
    assert "image without mask" in reasons[str(trained)] and "(only labelTrainIds.png)" in reasons[str(trained)]
    assert "mask without image" in reasons[str(mask)] and "bremen_000000_000019_leftImg8bit.png" in reasons[str(mask)]
    assert "bremen_000001_000019_leftImg8bit.png is not there" in reasons[str(outline)]
    assert len(reasons) == 4


def test_pictures_out_of_place_and_other_files(tree):
    tree.add(A)
    images, annotations = tree.root / "leftImg8bit" / "train", tree.root / "gtFine" / "train"
    misplaced = [
        picture(images / f"{B}_leftImg8bit.png", noise(1)),
        picture(annotations / f"{B}_gtFine_color.png", ALL_IDS),
    ]
    misnamed = [
        picture(images / "aachen" / f"{B}.png", noise(1)),
        picture(annotations / "aachen" / f"{B}.png", ALL_IDS),
    ]
    misnamed.append(picture(images / "aachen" / f"{B}_leftImg8bit.jpg", noise(1)))
    for folder in (images, images / "aachen", annotations, annotations / "aachen"):
        for name in ("Thumbs.db", "readme.txt", f"._{A}_leftImg8bit.png", f"._{A}_gtFine_labelIds.png"):
            (folder / name).write_bytes(b"x")
    picture(images / ".hidden" / f"{A}_leftImg8bit.png", noise(1))
    good, reasons = split_up(tree)
    assert good == [f"train/{A}"] and len(reasons) == 5
    assert all("outside the city folders" in reasons[str(path)] for path in misplaced)
    assert all("its name is not <frame>_" in reasons[str(path)] for path in misnamed)


def test_a_frame_in_two_city_folders(tree, tmp_path):
    for path in tree.add(A):
        copy = path.parents[1] / "bochum" / path.name
        copy.parent.mkdir()
        copy.write_bytes(path.read_bytes())
    (rejection,) = pack(Cityscapes(tree.root), tmp_path / "out", ["train"]).rejected
    assert "bochum" in rejection.file and f"id 'train/{A}' is there already" in rejection.reason


def test_sizes_that_differ(tree, tmp_path):
    tree.add(A)
    image, _ = tree.add(B, ids=ALL_IDS[:6])
    (rejection,) = pack(Cityscapes(tree.root), tmp_path / "out", ["train"]).rejected
    assert rejection.file == str(image) and "image is 12x16 and mask 6x16" in rejection.reason


def test_splits(tree):
    for split in ("train", "test", "train_extra"):
        tree.add(A, split)
    tree.image(A, "val")
    source = Cityscapes(tree.root)
    assert source.available() == ("train",)
    for split, reason in (
        ("test", r"'test': the published masks of cityscapes' test are placeholders"),
        ("train_extra", r"'train_extra': cityscapes has train and val"),
        ("val", r"gtFine/val/ is missing.*found: train.*--splits.*gtFine_trainvaltest\.zip"),
    ):
        with pytest.raises(ValueError, match=reason):
            list(source.samples(split))


def test_folders_that_are_not_there(tree, tmp_path):
    uses = (lambda: Cityscapes(tree.root).available(), lambda: split_up(tree))
    for missing in ("cityscapes: no such folder", "leftImg8bit/ is missing", "gtFine/ is missing: unpack"):
        for use in uses:
            with pytest.raises(ValueError, match=rf"{missing}.*leftImg8bit_trainvaltest\.zip.*--root.*MISEG_DATA"):
                use()
        (tree.root if "root" in missing or "no such" in missing else tree.root / missing.split("/")[0]).mkdir()
    with pytest.raises(ValueError, match=r"neither train/ nor val/ is in both leftImg8bit/ and gtFine/"):
        uses[0]()
    tree.annotation(A, "labelIds.png", ALL_IDS)
    (tree.root / "leftImg8bit" / "train" / "aachen").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"leftImg8bit/train/ holds no picture"):
        uses[1]()


def test_coarse_annotations_alone(tree):
    tree.image(A)
    picture(tree.root / "gtCoarse" / "train" / "aachen" / f"{A}_gtCoarse_labelIds.png", ALL_IDS)
    for use in (lambda: Cityscapes(tree.root).available(), lambda: split_up(tree)):
        with pytest.raises(ValueError, match=r"gtFine/ is missing; gtCoarse/ is there, but its outlines are not"):
            use()


def test_the_default_place_is_packed_on_first_use(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    for split in ("train", "val", "test"):
        tree.add(A, split)
    path = ensure_packed("cityscapes", tmp_path / "storage")
    assert PackedDataset.open(path).splits == ("train", "val")
