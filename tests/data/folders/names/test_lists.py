import unicodedata

import pytest

from miseg.data.folders.names.lists import BadLine, Names, read_list
from miseg.data.folders.names.patterns import find_files


@pytest.fixture
def read(tmp_path):
    """Reads a list over a tree of files; (image, mask) of each line, or why it is none."""

    def call(files, text, *, patterns=True, name="list.txt"):
        for file in files:
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        names = []
        for folder in ("images", "masks"):
            some = find_files([folder], tmp_path, f"--{folder}")[0].files if patterns else None
            names.append(Names(some, tmp_path))
        return [
            line.reason
            if isinstance(line, BadLine)
            else tuple(file and file.path.relative_to(tmp_path).as_posix() for file in (line.image, line.mask))
            for line in read_list(path, *names)
        ]

    return call


FILES = ("images/a.jpg", "images/my photo.jpg", "images/b.png", "masks/a.png", "masks/my photo.png", "masks/b.png")


@pytest.mark.parametrize(
    ("line", "image", "mask"),
    [
        ("a", "a.jpg", None),
        ("a.jpg", "a.jpg", None),
        ("my photo", "my photo.jpg", None),
        ("my photo.jpg", "my photo.jpg", None),
        ("/elsewhere/images/a.jpg", "a.jpg", None),
        (r"C:\data\images\a.jpg", "a.jpg", None),
        ("a.jpg a.png", "a.jpg", "a.png"),
        ("images/a.jpg\tmasks/a.png", "a.jpg", "a.png"),
        ("a.jpg, a.png", "a.jpg", "a.png"),
        ("my photo.jpg my photo.png", "my photo.jpg", "my photo.png"),
        ("images/my photo.jpg;masks/my photo.png", "my photo.jpg", "my photo.png"),
        ('"a.jpg" "a.png"', "a.jpg", "a.png"),
    ],
)
def test_a_line(read, line, image, mask):
    assert read(FILES, f"{line}\n") == [(f"images/{image}", mask and f"masks/{mask}")]


def test_windows_line_ends_a_byte_order_mark_and_blank_lines(read):
    assert read(FILES, b"\xef\xbb\xbfa\r\n\r\n  b.png  \r\n") == [("images/a.jpg", None), ("images/b.png", None)]


def test_pairs_as_published_without_patterns(read):
    line = "/SegNet/CamVid/images/my photo.jpg /SegNet/CamVid/masks/my photo.png\n"
    assert read(FILES, line, patterns=False) == [("images/my photo.jpg", "masks/my photo.png")]


@pytest.mark.parametrize(
    "line", ["../outside.jpg", "/etc/passwd", "images/../../outside.jpg", "images", "x\0y", "c.jpg"]
)
def test_a_list_does_not_reach_elsewhere(read, tmp_path, line):
    (tmp_path.parent / "outside.jpg").write_bytes(b"")
    for patterns in (True, False):
        (reason,) = read(FILES, f"{line}\n", patterns=patterns)
        assert "names no image that is there" in reason


def test_the_folder_that_a_line_names_is_the_file_s(read):
    files = (*FILES, "images/x/1.png", "images/y/1.png")
    found = read(files, "x/1.png\ny/1\nz/1.png\n1.png\n")
    assert found[:2] == [("images/x/1.png", None), ("images/y/1.png", None)]
    assert "names no image" in found[2] and "may be" in found[3] and "write the folder before the name" in found[3]


def test_a_line_that_can_be_read_in_two_ways(read):
    files = ("images/a", "images/a b.jpg", "masks/b.jpg")
    (reason,) = read([*files, "images/a.png"], "a b.jpg\n")
    assert "can be read as" in reason and "CSV" in reason


def test_a_table(read):
    rows = [
        "Split;image;other;mask",
        "train;a.jpg;1;a.png",
        "val;my photo.jpg;2;",
        "val;none.jpg;2;",
        "val;b.png;2;c.png",
    ]
    found = read(FILES, "\r\n".join(rows), name="list.csv")
    assert found[:2] == [("images/a.jpg", "masks/a.png"), ("images/my photo.jpg", None)]
    assert found[2].startswith("image 'none.jpg' is not there") and found[3].startswith("mask 'c.png' is not there")


def test_no_text(read):
    with pytest.raises(ValueError, match=r"list\.txt: not UTF-8 text"):
        read(FILES, "a\n".encode("utf-16"))


def test_paths_start_from_the_list_or_from_another_folder(tmp_path):
    for path in ("images/a.jpg", "lists/images/a.jpg", "images/b.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    names = Names(None, tmp_path / "lists", tmp_path)
    assert names.find("images/a.jpg").path == tmp_path / "lists/images/a.jpg"
    assert names.find("images/b.jpg").path == tmp_path / "images/b.jpg"
    assert names.find(f"{tmp_path}/images/b.jpg").path == tmp_path / "images/b.jpg"
    assert names.find(f"{tmp_path.parent}/images/c.jpg") is None
    (tmp_path / "lists/list.txt").write_text("images/c.jpg\n../images/b.jpg\n")
    missing, above = (line.reason for line in read_list(tmp_path / "lists/list.txt", names, names))
    assert f"looked for below {tmp_path / 'lists'} and {tmp_path}" in missing
    assert "'..' is not followed" in above


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_list", ["NFC", "NFD"])
def test_letters_composed_in_another_form_on_disk(tmp_path, on_disk, in_list):
    there, line = (unicodedata.normalize(form, "Bäume/é 1.png") for form in (on_disk, in_list))
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).write_bytes(b"")
    file = Names(None, tmp_path).find(line)
    assert file.path == tmp_path / there
    assert file.name == unicodedata.normalize("NFC", "Bäume/é 1") and unicodedata.is_normalized("NFC", file.wild[0])


def test_columns_of_a_table_by_other_names(read):
    assert read(FILES, "image_path,mask_path\na.jpg,a.png\n", name="list.csv") == [("images/a.jpg", "masks/a.png")]
    assert read(FILES, "Image,image_path,masks\na.jpg,x,a.png\n", name="l.csv") == [("images/a.jpg", "masks/a.png")]
    with pytest.raises(ValueError, match="image_path and image_file may both be image"):
        read(FILES, "image_path,image_file\na.jpg,b.png\n", name="list.csv")
    header, _ = read(FILES, "photo,truth\na.jpg,a.png\n", name="list.csv")
    assert "name its columns image, mask" in header
    (above,) = read(FILES, "image\n../a.jpg\n", name="list.csv")
    assert "'..' is not followed" in above
