from pathlib import Path

import pytest

from miseg.data.folders.names.pairs import Side, pair_files
from miseg.data.folders.names.patterns import find_files


@pytest.fixture
def pairs(tmp_path):
    """Pairs the files of two patterns of a tree of these names; by image's name, the mask's."""

    def pair(files, images, masks, several=False):
        for name in files.split():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        sets = [find_files(patterns.split(), tmp_path, "--images") for patterns in (images, masks)]
        found = pair_files(*sets, Side("mask", "--masks", several))
        by_name = {
            image.path.relative_to(tmp_path).as_posix(): [mask.path.relative_to(tmp_path).as_posix() for mask in masks]
            for image, masks in found.partners.items()
        }
        return by_name, [mask.path.relative_to(tmp_path).as_posix() for mask in found.left], found.rules

    return pair


def test_equal_names(pairs):
    by_name, left, rules = pairs("i/a.jpg i/b.jpg i/c.jpg m/a.png m/b.png m/d.png", "i", "m")
    assert by_name == {"i/a.jpg": ["m/a.png"], "i/b.jpg": ["m/b.png"], "i/c.jpg": []} and left == ["m/d.png"]
    assert rules == ("mask of an image: the same name but for the ending",)


@pytest.mark.parametrize(
    ("image", "mask", "rule"),
    [
        ("{}.jpg", "{}_mask.png", "* ↔ *_mask"),
        ("{}_training.tif", "{}_manual1.gif", "*_training ↔ *_manual1"),
        ("img_{}.png", "seg_{}.png", "img_* ↔ seg_*"),
        ("case_{}_0000.png", "case_{}.png", "*_0000 ↔ *"),
        ("{}.jpg", "{}.jpg.png", "* ↔ *.jpg"),
        ("x-{}-im-v2.png", "y {}.label.png".replace(" ", "~"), "x-*-im-v2 ↔ y~*.label"),
    ],
)
@pytest.mark.parametrize("keys", [("21", "22", "3"), ("1", "10", "100", "11"), ("a_1", "a_2", "b_1", "b_2")])
def test_names_that_differ_by_a_beginning_and_an_end(pairs, image, mask, rule, keys):
    files = " ".join(f"i/{image} m/{mask}".format(key, key) for key in keys)
    by_name, left, rules = pairs(files, "i", "m")
    assert by_name == {f"i/{image}".format(key): [f"m/{mask}".format(key)] for key in keys}
    # What all keys share is taken with the beginning, so that rules differ by it alone.
    assert left == [] and len(rules) == 1 and rules[0].startswith("mask of an image: ")
    if keys[0] == "21":
        assert rules == (f"mask of an image: {rule}",)


def test_folders_of_wildcards_hold_what_belongs_together(pairs):
    files = "train/i/21_training.tif train/m/21_manual.gif train/i/22_training.tif train/m/22_manual.gif " + (
        "test/i/21_test.tif test/m/21_manual.gif test/i/02_test.tif test/m/02_manual.gif"
    )
    expected = {
        "train/i/21_training.tif": ["train/m/21_manual.gif"],
        "train/i/22_training.tif": ["train/m/22_manual.gif"],
        "test/i/21_test.tif": ["test/m/21_manual.gif"],
        "test/i/02_test.tif": ["test/m/02_manual.gif"],
    }
    assert pairs(files, "*/i/*", "*/m/*")[0] == expected
    assert pairs(files, "{split}/i/*", "{split}/m/*")[0] == expected
    assert pairs(files, "train/i test/i", "train/m test/m")[0] == expected, "the first with the first"


def test_names_of_one_split_in_other_words(pairs):
    by_name, _, _ = pairs("i/training/1.png i/valid/1.png m/train/1.png m/val/1.png", "i", "m")
    assert by_name == {"i/training/1.png": ["m/train/1.png"], "i/valid/1.png": ["m/val/1.png"]}


def test_a_folder_a_pair(pairs):
    by_name, _, rules = pairs("p1/scan.png p1/truth.png p2/scan.png p2/truth.png", "*/scan.png", "*/truth.png")
    assert by_name == {"p1/scan.png": ["p1/truth.png"], "p2/scan.png": ["p2/truth.png"]}
    assert rules == ("mask of an image: the one of its folder",)


def test_a_file_an_object(pairs):
    files = "x/images/x7.png x/masks/1a.png x/masks/7.png y/images/y.png y/masks/9.png"
    by_name, left, _ = pairs(files, "*/images/*", "*/masks/*", several=True)
    assert by_name == {"x/images/x7.png": ["x/masks/1a.png", "x/masks/7.png"], "y/images/y.png": ["y/masks/9.png"]}
    assert left == []
    with pytest.raises(ValueError, match=r"x7\.png has 2 masks .*1a\.png and .*7\.png.*--instances"):
        pairs("", "*/images/*", "*/masks/*")


def test_fields(pairs):
    files = "i/aachen/a_1_left.png i/bonn/a_1_left.png m/aachen/a_1_ids.png m/bonn/a_1_ids.png m/bonn/a_1_colour.png"
    by_name, left, rules = pairs(files, "i/{city}/{stem}_left.png", "m/{city}/{stem}_ids.png")
    assert by_name["i/bonn/a_1_left.png"] == ["m/bonn/a_1_ids.png"] and left == []
    assert rules == ("mask of an image: the same {city} and {stem}",)
    assert pairs("j/a_1.png", "j/*.png", "m/aachen/{stem}_ids.png")[0] == {"j/a_1.png": ["m/aachen/a_1_ids.png"]}
    with pytest.raises(ValueError, match=r"has \{city\}, which --images i/\*/\* lacks"):
        pairs("", "i/*/*", "m/{city}/{stem}_ids.png")
    with pytest.raises(ValueError, match=r"would both be the image of a_1"):
        pairs("", "i/*/{stem}_left.png", "m/bonn/{stem}_ids.png")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            "i/1_x.png i/2_x.png m/1_a.gif m/2_a.gif m/1_b.gif m/2_b.gif",
            r"1_x\.png: its mask may be .*1_a\.gif or .*1_b",
        ),
        ("i/1_x.png i/2_x.png m/1_a.gif m/2_a.gif m/1_b.gif", r"1_x\.png: its mask may be .*1_a\.gif or .*1_b"),
        ("i/f_0.png i/f_1.png i/f_2.png m/g_1.png m/g_2.png m/g_3.png", r"f_0\.png and .*g_3\.png are left over"),
        ("i/a_1_2.png i/b_3_1.png m/x_1.png m/x_3.png m/y_1.png m/y_2.png", "no mask fits an image|two ways"),
        ("i/one.png i/two.png m/eins.png m/zwei.png", "no mask fits an image by name"),
        ("i/img_1.png i/img_2.png m/seg_01.png m/seg_02.png", "no mask fits an image by name"),
        ("i/cat_1.png m/cat_7.png i/dog_2.png m/dog_8.png", "no mask fits an image by name"),
    ],
)
def test_what_is_not_clear_is_refused(pairs, files, reason):
    with pytest.raises(ValueError, match=reason):
        pairs(files, "i", "m")


def test_any_other_pattern_of_the_same_files_pairs_alike(pairs, tmp_path):
    files = " ".join(f"i/s_{n}.png m/s_{n}_gt.png" for n in range(12))
    by_name, _, _ = pairs(files, "i", "m")
    assert pairs("", "**/s_{stem}.png".replace("**", "i"), "m/s_{stem}_gt.png")[0] == by_name
    shuffled = [str(path) for path in sorted(Path(tmp_path, "i").iterdir(), key=lambda path: hash(path.name))]
    assert pairs("", " ".join(shuffled), "m/*")[0] == by_name
