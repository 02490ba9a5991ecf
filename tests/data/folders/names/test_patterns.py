import os
import unicodedata
from pathlib import Path

import pytest

from miseg.data.folders.names.patterns import find_files


@pytest.fixture
def tree(tmp_path):
    def write(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return tmp_path

    return write


def names(root, *patterns):
    return [[file.name for file in some.files] for some in find_files(patterns, root, "--images")]


def test_wildcards_fields_and_folders(tree):
    root = tree("a/1.png", "a/2.PNG", "a/b/3.png", "a/notes.txt", "a/.hidden.png", "a/.dir/4.png", "c/1.png")
    assert names(root, "a/*.png") == [["1"]]
    assert names(root, "a") == [["1", "2", "b/3"]], "pictures alone, hidden ones not, folders below too"
    assert names(root, "a/*") == [["1", "2"]], "what no ending tells is a picture by its own"
    assert names(root, "**/*.png") == [["a/1", "a/b/3", "c/1"]]
    assert names(root, "*/?.png", "a/[!1-2]*/*") == [["a/1", "c/1"], ["b/3"]]
    assert names(root, "a/1.png", "c/1.png", "a/2.PNG") == [["1", "2"], ["1"]], "files that a shell found: by folder"
    (files,) = find_files(["{place}/{stem}.png"], root, "--images")
    assert [file.fields for file in files.files] == [{"place": "a", "stem": "1"}, {"place": "c", "stem": "1"}]
    assert [file.wild for file in files.files] == [("a",), ("c",)]


def test_an_absolute_pattern_and_a_file_with_brackets(tree):
    root = tree("img [1].png", "img 1.png")
    assert names(Path("/"), f"{root}/img*") == [["img 1", "img [1]"]]
    assert names(root, "img [1].png") == [["img [1]"]], "a file of that very name is meant"
    assert names(root, "img [[]1].png") == [["img [1]"]]


def test_names_are_compared_in_normal_form(tree):
    root = tree(unicodedata.normalize("NFD", "Fläche/ä_1.png"))
    assert names(root, unicodedata.normalize("NFC", "F*/ä_*.png")) == [[unicodedata.normalize("NFC", "Fläche/ä_1")]]


def test_a_field_twice_is_the_same_text(tree):
    root = tree("p1/p1_a.png", "p2/p1_a.png")
    (files,) = find_files(["{patient}/{patient}_*.png"], root, "--images")
    assert [file.name for file in files.files] == ["p1/p1_a"]


@pytest.mark.parametrize("pattern", ["{group}_{number}.png", "{stem}_*.png", "*{stem}.png"])
def test_a_name_that_fits_in_two_ways_is_refused(tree, pattern):
    root = tree("clip_a_001.png")
    with pytest.raises(ValueError, match=r"fits .*clip_a_001\.png in two ways, \{\w+\} = '.*' or '.*': write more"):
        find_files([pattern], root, "--images")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("imgs/*.png", "there is no folder .*imgs; .* holds images/, list.txt"),
        ("images/*.jpg", "matches nothing; .*images holds a.png"),
        ("images/a.jpg", "no such file or folder; .*images holds a.png"),
        ("i*/*.jpg", "matches nothing; .*images holds a.png"),
        ("list", "no such file or folder"),
        ("", "give a pattern"),
        ("images/[b-a].png", "cannot be understood"),
        ("images/\0", "give a pattern"),
    ],
)
def test_a_pattern_without_a_match_says_what_is_there(tree, pattern, reason):
    root = tree("images/a.png", "list.txt")
    with pytest.raises(ValueError, match=rf"^--images .*{reason}"):
        find_files([pattern], root, "--images")


def test_a_folder_without_a_picture(tree):
    root = tree("images/a.txt")
    with pytest.raises(ValueError, match=r"no picture \(PNG, .*\) in this folder or below it: it holds a\.txt"):
        find_files(["images"], root, "--masks")


def test_links_to_folders_in_a_circle(tree):
    root = tree("images/a.png")
    os.symlink(root, root / "images" / "round")
    assert names(root, "images") == [["a"]] and names(root, "**/*.png") == [["images/a"]]
