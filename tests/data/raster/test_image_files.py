"""Which images lie under a place, how their maps are called, and what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miseg.data.raster import image_files
from miseg.data.raster.image_files import find
from tests.support.scene_layouts import SafeTree


def touched(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some bytes")


def names(places: list[Path], out: Path, scenes: bool = False) -> list[str]:
    found, left_out = find([str(place) for place in places], str(out), scenes=scenes)
    assert not left_out
    return [one.name for one in found]


def test_images_of_a_folder_are_named_by_the_path_below_it(tmp_path):
    here = tmp_path / "images"
    touched(here / "b.JPG", here / "a" / "x.y.png", here / "c.tif", here / "notes.txt", here / ".hidden.png")
    touched(here / ".cache" / "d.png", here / "maps" / "c.tif", here / "mapsheet.tif")
    assert names([here], here / "maps") == ["a/x.y", "b", "c", "mapsheet"]
    assert names([here / "b.JPG", here / "a"], tmp_path / "maps") == ["b", "x.y"]
    (one,), _ = find([str(here / "b.JPG")], str(tmp_path), scenes=False)
    assert (one.uri, one.bytes, one.modified_ns) == (str(here / "b.JPG"), 10, os.stat(here / "b.JPG").st_mtime_ns)
    assert one.fetch(tmp_path) == here / "b.JPG"


def test_what_belongs_to_one_scene_is_one(tmp_path):
    here = tmp_path / "scenes"
    touched(here / "2019-07-20.tif", here / "2019-07-20_SCL.tif", here / "2019-08-24" / "B02.tif")
    touched(here / "2019-08-24" / "B03.tif", here / "2019-08-24" / "MTD_MSIL2A.xml")
    product = SafeTree(here).add()
    stem = product.name.removesuffix(".SAFE")
    assert names([here], tmp_path / "maps", scenes=True) == ["2019-07-20", "2019-08-24", stem]
    assert names([product], tmp_path / "maps", scenes=True) == [stem]
    assert names([here / "2019-08-24"], tmp_path / "maps", scenes=True) == ["2019-08-24"]
    found, _ = find([str(here)], str(tmp_path / "maps"), scenes=True)
    assert [len(one.files) for one in found][:2] == [2, 3] and found[0].bytes == 20
    # For a method that takes images each file is one, and a product is none.
    found, left_out = find([str(here)], str(tmp_path / "maps"), scenes=False)
    assert [one.name for one in found] == ["2019-07-20", "2019-08-24/B02", "2019-08-24/B03"]
    assert list(left_out) == [str(product)] and "images of one file" in left_out[str(product)]


def test_two_images_of_one_map_and_names_that_meet_are_left_out(tmp_path):
    here = tmp_path / "images"
    touched(here / "a.png", here / "a.jpg", here / "a_confidence.png", here / "b_confidence.png")
    found, left_out = find([str(here)], str(tmp_path / "maps"), scenes=False)
    assert [one.name for one in found] == ["a", "b_confidence"] and len(left_out) == 2
    assert any("its map would be that of" in reason for reason in left_out.values())
    assert "the confidence of that of" in left_out[str(here / "a_confidence.png")]


def test_a_place_without_images_and_one_that_maps_would_lie_in_are_named(tmp_path):
    here = tmp_path / "images"
    touched(here / "a.png", tmp_path / "texts" / "a.txt")
    for places, out, said in (
        ([here, tmp_path / "none"], tmp_path / "maps", "none: nothing there"),
        ([tmp_path / "texts"], tmp_path / "maps", "texts: no image there"),
        ([here], here, "is where the images of"),
        ([here / "a.png"], here, "is where the images of"),
        (["nowhere://x"], tmp_path / "maps", "nowhere://x cannot be listed"),
    ):
        with pytest.raises(ValueError, match=said):
            find([str(place) for place in places], str(out), scenes=False)


def test_an_objects_key_that_leads_elsewhere_is_no_image() -> None:
    """A map is written under its image's name, and a bucket's keys may hold anything."""
    there = {"bucket/a/good.tif", "bucket/a/../../up.tif", "bucket/a/X.SAFE/../../../up.tif"}
    keys = {file: image_files._key(file, "bucket", there, scenes=True) for file in there}
    assert [key for key in keys.values() if key is not None] == ["bucket/a/good.tif"]
