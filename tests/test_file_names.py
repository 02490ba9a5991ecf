"""A name that comes from a file or a user stays in the folder that it is joined to."""

from __future__ import annotations

import os
import random
import unicodedata
from pathlib import Path

import pytest

from miseg.file_names import LONGEST, below, check_below, check_plain, check_plain_path, given_name, last_name
from miseg.files import LinkError, open_regular

PLAIN = [
    "a",
    "step-000000010",
    "weights.safetensors",
    "Straße",
    "火",
    "panel é.png",
    "two words",
    "a..b",
    "x" * LONGEST,
]
NOT_PLAIN = [
    "", ".", "..", "../up", "a/b", "/etc/passwd", "a\\b", "..\\up", "a\x00b", "a\nb", "\x1b[2J", ".hidden", "~/x", "~x",
    " a", "a ", "a\u202eb", "\ud800", "x" * (LONGEST + 1), "ß" * LONGEST, None, 7, True, b"a", ["a"], {},
]  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_name_passes_as_it_stands(name: str) -> None:
    assert check_plain(name) == name == check_plain_path(name)


@pytest.mark.parametrize("name", NOT_PLAIN, ids=ascii)
def test_what_is_no_plain_name_is_refused_on_one_short_line(name: object) -> None:
    with pytest.raises(ValueError) as refused:
        check_plain(name)
    text = str(refused.value)
    assert text.isprintable() and 10 < len(text) < 250


@pytest.mark.parametrize("path", ["a/../b", "/a", "a//b", "a/", "..", "a/.b", None, 3], ids=ascii)
def test_a_path_is_made_of_plain_names(path: object) -> None:
    assert check_plain_path("") == "" and check_plain_path("panels/é") == "panels/é"
    with pytest.raises(ValueError):
        check_plain_path(path)


def test_whatever_passes_names_one_file_of_the_folder(tmp_path: Path) -> None:
    """Random names of the characters that matter, joined and written."""
    draw, passed = random.Random(0), 0
    for _ in range(5000):
        name = "".join(draw.choices("../\\~ abß\x00\n\u2028%?é\ud800:*", k=draw.randint(0, 6)))
        try:
            check_plain(name)
        except ValueError:
            continue
        passed += 1
        path = tmp_path / name
        assert path.parent == tmp_path and os.path.normpath(path) == str(path)
        path.write_text("")
    assert passed > 300 and {path.parent for path in tmp_path.rglob("*")} == {tmp_path}


def test_a_users_name_has_one_spelling() -> None:
    decomposed = unicodedata.normalize("NFD", "Größe")
    assert given_name("--name", decomposed) == given_name("--name", "Größe") == "Größe"


@pytest.mark.parametrize("name", ["../up", "slash/name", "a%41", "what?", "a#b", "a*", "s3:x", "[a]", 'a"b', ".a", ""])
def test_a_users_name_that_leads_elsewhere_is_refused_with_the_option(name: str) -> None:
    with pytest.raises(ValueError, match=r"^--name .*give one such as first-try$"):
        given_name("--name", name)


def test_a_file_behind_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"secret")
    with open_regular(tmp_path / "real" / "file") as file:
        assert file.read() == b"secret"
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "link").symlink_to(tmp_path / "real" / "file")
    os.mkfifo(tmp_path / "real" / "pipe")
    for path in ("folder/file", "real/link", "real/pipe"):
        with pytest.raises(LinkError), open_regular(tmp_path / path):
            pass
    with pytest.raises(FileNotFoundError), open_regular(tmp_path / "real" / "none"):
        pass


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/a/b/", "/a/b/runs/x"),
        ("/what?/b", "/what?/b/runs/x"),
        ("s3://bucket/a/", "s3://bucket/a/runs/x"),
        ("s3://bucket/a?region=eu&tls_ca_file_path=/c.pem", "s3://bucket/a/runs/x?region=eu&tls_ca_file_path=/c.pem"),
    ],
)
def test_what_lies_below_a_place_keeps_the_options_of_a_uri_at_its_end(place, expected):
    assert below(place, "runs", "x") == below(below(place, "runs"), "x") == expected
    check_below(expected, place)
    with pytest.raises(ValueError, match="is not below"):
        check_below(below("s3://elsewhere/a", "x"), place)
    with pytest.raises(ValueError, match=r"\.\."):
        check_below(below(place, "..", "x"), place)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("camvid", "camvid"),
        ("/data/camvid/", "camvid"),
        ("/data/cam?vid", "cam?vid"),
        ("s3://bucket/data/camvid?region=eu/west", "camvid"),
        ("s3://bucket/data/camvid/?region=eu", "camvid"),
    ],
)
def test_the_name_of_data_is_without_the_options_of_its_uri(place, expected):
    assert last_name(place) == expected


def test_options_of_another_store_lead_elsewhere():
    with pytest.raises(ValueError, match="is not below"):
        check_below("s3://bucket/a/x?endpoint_override=elsewhere", "s3://bucket/a?region=eu")
    with pytest.raises(ValueError, match="means something else in URIs"):
        check_below("s3://bucket/a/x?endpoint_override=elsewhere", "s3://bucket/a")
