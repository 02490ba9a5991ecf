"""Drawn labels: what changes make of them, how they are kept, and files that they go to and come from."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from miseg.data.labels import files as label_files
from miseg.data.labels import store as label_store
from miseg.data.labels.annotations import read_annotations
from miseg.data.labels.drawings import Drawings, LabelClass, checked_geometry, mark_of_drawing
from miseg.data.labels.store import LabelStore, StaleError
from miseg.data.raster.grid import Grid
from tests.support.scene_layouts import UTM, place, raster

SCENES = ("2019-05-16", "2019-07-20")
HERE = place()
GRID = Grid(40, 50, UTM, (HERE.a, HERE.b, HERE.c, HERE.d, HERE.e, HERE.f))
PLAIN = Grid(40, 50)
POINT = {"type": "Point", "coordinates": [3.5, 4.5]}
LINE = {"type": "LineString", "coordinates": [[10.25, 10.75], [14.2, 12.1], [20.6, 12.3]]}
BOX = {"type": "Polygon", "coordinates": [[[30, 20], [36, 20], [36, 25], [30, 25], [30, 20]]]}


def made(*changes: dict, start: Drawings | None = None) -> Drawings:
    found = start or Drawings()
    for change in changes:
        found = found.changed(change, SCENES)
    return found


def classes() -> Drawings:
    return made({"do": "add_class", "id": "w", "name": "wheat"}, {"do": "add_class", "id": "m", "name": "maize"})


def draw(id: str, class_id: str = "w", geometry: dict = POINT, scene: str = SCENES[0]) -> dict:
    return {"do": "draw", "id": id, "class_id": class_id, "scene": scene, "geometry": geometry}


def some() -> Drawings:
    return made(draw("a"), draw("b", "m", LINE), draw("c", "w", BOX), draw("d", "m", POINT, SCENES[1]), start=classes())


# Changes


def test_classes_get_colours_that_differ_and_keep_their_drawings_under_another_name():
    found = some()
    assert [one.colour for one in found.classes] == ["#1f77b4", "#ff7f0e"]
    found = made({"do": "edit_class", "id": "w", "name": " winter  wheat ", "colour": "#00ff00"}, start=found)
    assert found.classes[0] == LabelClass("w", "winter wheat", "#00ff00")
    assert [one.class_id for one in found.drawings] == ["w", "m", "w", "m"]
    found = made({"do": "remove_class", "id": "w"}, start=found)
    assert [one.id for one in found.drawings] == ["b", "d"]
    assert made({"do": "add_class", "id": "x", "name": "x"}, start=found).classes[1].colour == "#1f77b4"


def test_what_is_said_again_changes_nothing():
    found = some()
    again = [draw("a", "m", BOX), {"do": "add_class", "id": "w", "name": "other"}, {"do": "erase", "ids": ["z"]}]
    assert made(*again, {"do": "remove_class", "id": "z"}, start=found) is found
    erased = made({"do": "erase", "ids": ["a", "c"]}, start=found)
    assert [one.id for one in erased.drawings] == ["b", "d"]
    assert made({"do": "assign", "id": "b", "class_id": "w"}, start=erased).drawings[0].class_id == "w"
    assert json.loads(made({"do": "reshape", "id": "b", "geometry": BOX}, start=erased).drawings[0].geometry) == BOX


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "change 'None': there are draw"),
        ({"do": ["draw"]}, "there are draw"),
        ({"do": "draw", "id": "x"}, "without 'scene'"),
        (draw("../x"), "id '../x': letters, digits"),
        (draw("x", "z"), "there is no class 'z'"),
        (draw("x", ["w"]), "malformed"),
        (draw("x", scene="/etc/passwd"), "there is no scene '/etc/passwd'"),
        (draw("x", geometry={"type": "Circle"}), "no geometry of type 'Circle'"),
        (draw("x", geometry={"type": "Point", "coordinates": [1e9, 0]}), "far outside"),
        (draw("x", geometry={"type": "Point", "coordinates": ["1", 0]}), "no finite numbers"),
        (draw("x", geometry={"type": "MultiPoint", "coordinates": [[0, 0]] * 10_001}), "10001 positions"),
        (draw("x", geometry={"type": "GeometryCollection", "geometries": [POINT, LINE]}), "draw each by itself"),
        (draw("x", geometry=None), "0 positions"),
        ({"do": "add_class", "id": "x", "name": "  "}, "no name"),
        ({"do": "add_class", "id": "x", "name": "wheat"}, "class 'wheat' is there already"),
        ({"do": "add_class", "id": "a", "name": "x"}, "id 'a' is there already"),
        ({"do": "add_class", "id": "x", "name": "x" * 101}, "101 characters"),
        ({"do": "add_class", "id": "x", "name": "x", "colour": "red"}, "colour 'red'"),
        ({"do": "edit_class", "id": "x", "name": "x", "colour": "#000000"}, "that class is gone"),
        ({"do": "reshape", "id": "x", "geometry": POINT}, "that drawing is gone"),
        ({"do": "erase", "ids": 3}, "malformed"),
    ],
)
def test_what_cannot_be_is_told(change, said):
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        some().changed(change, SCENES)


def test_pixels_are_those_of_the_same_features_in_a_file(tmp_path):
    found = some()
    path = tmp_path / "labels.geojson"
    path.write_text(label_files.geojson(found, PLAIN, SCENES[0]))
    annotations, problems = read_annotations(path, PLAIN)
    assert not problems
    there = {(row, column, annotations.classes[label]) for row, column, label in zip(
        annotations.rows, annotations.columns, annotations.labels, strict=True)}  # fmt: skip
    expected = set()
    for one in found.drawings[:3]:
        drawn, problem = mark_of_drawing(one, {"w": "wheat", "m": "maize"}[one.class_id], PLAIN)
        assert problem is None
        expected |= {(row, column, drawn.name) for row, column in zip(drawn.rows, drawn.columns, strict=True)}
    assert there == expected and len(there) > 40
    beyond = {"type": "Polygon", "coordinates": [[[45, 35], [60, 35], [60, 60], [45, 60], [45, 35]]]}
    outside, problem = mark_of_drawing(made(draw("x", geometry=beyond), start=classes()).drawings[0], "wheat", PLAIN)
    assert outside.rows.size == 25 and problem is not None and "the 25 pixels inside are used" in problem.reason


# Kept on disk


def test_every_change_is_on_disk_before_it_counts_and_comes_back(tmp_path):
    store = LabelStore(tmp_path / "labels", GRID, SCENES)
    store.apply(0, {"do": "add_class", "id": "w", "name": "Weizen – blé"})
    for number in range(3):
        store.apply(store.revision, draw(f"p{number}"))
        kept = json.loads((tmp_path / "labels" / label_store.FILE).read_text())
        assert kept["revision"] == store.revision == number + 2 and len(kept["drawings"]) == number + 1
    store.undo(4)
    assert len(store.drawings.drawings) == 2 and store.state()["redo"]
    store.redo(5)
    store.apply(0, draw("p1", "w", BOX))  # there already
    assert (store.revision, len(store.drawings.drawings)) == (6, 3)
    before = store.state()
    store.close()
    again = LabelStore(tmp_path / "labels", GRID, SCENES)
    assert again.state() == before | {"undo": False, "redo": False}
    again.undo(6)
    assert again.revision == 6
    again.close()


def test_two_windows_overwrite_nothing_of_each_other(tmp_path):
    store = LabelStore(tmp_path, GRID, SCENES)
    store.apply(0, {"do": "add_class", "id": "w", "name": "wheat"})
    store.apply(1, draw("of-one"))
    store.apply(1, draw("of-the-other"))
    assert [one.id for one in store.drawings.drawings] == ["of-one", "of-the-other"]
    for refused in (
        lambda: store.undo(2),
        lambda: store.redo(2),
        lambda: store.apply(2, {"do": "reshape", "id": "of-one", "geometry": BOX}),
        lambda: store.apply(2, {"do": "edit_class", "id": "w", "name": "x", "colour": "#000000"}),
        lambda: store.apply(2, {"do": "remove_class", "id": "w"}),
    ):
        with pytest.raises(StaleError, match="another window has changed the labels"):
            refused()
    assert store.revision == 3
    store.close()


def test_a_change_that_cannot_be_saved_was_not_made(tmp_path):
    store = LabelStore(tmp_path, GRID, SCENES)
    store.apply(0, {"do": "add_class", "id": "w", "name": "wheat"})
    kept = (tmp_path / label_store.FILE).read_bytes()
    blocked = tmp_path / f".{label_store.FILE}.writing"
    blocked.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        store.apply(1, draw("a"))
    with pytest.raises(OSError, match="Is a directory"):
        store.undo(1)
    assert (store.revision, store.drawings.drawings) == (1, ())
    assert (tmp_path / label_store.FILE).read_bytes() == kept
    blocked.rmdir()
    store.apply(1, draw("a"))
    store.close()
    assert len(json.loads((tmp_path / label_store.FILE).read_text())["drawings"]) == 1


def test_the_file_is_whole_whenever_it_is_read(tmp_path):
    store = LabelStore(tmp_path, GRID, SCENES)
    store.apply(0, {"do": "add_class", "id": "w", "name": "wheat"})
    done, seen = threading.Event(), set()

    def read() -> None:
        while not done.is_set():
            seen.add(json.loads((tmp_path / label_store.FILE).read_text())["revision"])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        store.apply(store.revision, draw(f"p{number}", geometry=BOX))
    done.set()
    reader.join()
    assert max(seen) <= 61 and len(seen) > 1
    store.close()


def _draws_until_killed(folder: Path, told) -> None:
    store = LabelStore(folder, GRID, SCENES)
    store.apply(0, {"do": "add_class", "id": "w", "name": "wheat"})
    for number in range(10_000):
        store.apply(store.revision, draw(f"p{number}"))
        told.send(number)


@pytest.mark.faults
def test_a_killed_process_loses_no_label_that_was_acknowledged_and_blocks_nobody(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_draws_until_killed, args=(tmp_path, theirs))
    process.start()
    assert ours.poll(30) and ours.recv() == 0
    with pytest.raises(ValueError, match="another labelling page has these labels: end it, or give another --out"):
        LabelStore(tmp_path, GRID, SCENES)
    while ours.recv() < 25:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    acknowledged = 25
    while ours.poll():
        acknowledged = ours.recv()
    store = LabelStore(tmp_path, GRID, SCENES)
    ids = [one.id for one in store.drawings.drawings]
    assert ids[: acknowledged + 1] == [f"p{number}" for number in range(acknowledged + 1)]
    assert len(ids) <= acknowledged + 2
    store.close()
    process.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        (json.dumps({"format": 9, "revision": 1, "grid": {}}), "cannot be read"),
        (json.dumps({"format": 1, "revision": 1}), "cannot be read"),
    ],
)
def test_damaged_labels_are_named_and_left_alone(tmp_path, text, said):
    (tmp_path / label_store.FILE).write_text(text)
    with pytest.raises(ValueError, match=said) as refused:
        LabelStore(tmp_path, GRID, SCENES)
    assert str(tmp_path / label_store.FILE) in str(refused.value)
    assert (tmp_path / label_store.FILE).read_text() == text
    (tmp_path / label_store.FILE).unlink()
    LabelStore(tmp_path, GRID, SCENES).close()


def test_labels_of_another_image_are_refused(tmp_path):
    store = LabelStore(tmp_path, GRID, SCENES)
    store.apply(0, {"do": "add_class", "id": "w", "name": "wheat"})
    store.close()
    with pytest.raises(ValueError, match="drawn on another image \\(40 x 50 pixels, EPSG:32631\\): give another --out"):
        LabelStore(tmp_path, PLAIN, SCENES)


# Files


@pytest.mark.parametrize("grid", [GRID, PLAIN], ids=["georeferenced", "pixels"])
def test_geojson_comes_back_as_it_went(tmp_path, grid):
    drawn = made(
        draw("e", "m", {"type": "MultiPoint", "coordinates": [[0.5, 0.5], [49.5, 39.5]]}),
        draw("f", "w", {"type": "Polygon", "coordinates": [
            [[1, 30], [9, 30], [9, 39], [1, 39], [1, 30]], [[3, 32], [5, 32], [5, 34], [3, 34], [3, 32]]]}),
        start=some(),
    )  # fmt: skip
    path = tmp_path / "labels.geojson"
    path.write_text(label_files.geojson(drawn, grid), encoding="utf-8")
    longitude, latitude = json.loads(path.read_text())["features"][0]["geometry"]["coordinates"]
    assert (3 < longitude < 5 and 50 < latitude < 52) if grid is GRID else (longitude, latitude) == (3.5, 4.5)
    loaded = label_files.load(path, grid, SCENES[0], SCENES)
    assert loaded.problems == []
    back = label_files.added(Drawings(), loaded)
    names = {one.id: one.name for one in (*back.classes, *drawn.classes)}
    assert {(one.name, one.colour) for one in back.classes} == {(one.name, one.colour) for one in drawn.classes}
    told = [[(names[one.class_id], one.scene, one.geometry) for one in found.drawings] for found in (back, drawn)]
    assert told[0] == told[1]
    assert label_files.added(back, loaded) == back, "what is there is not doubled"


def test_a_label_raster_in_an_archive_comes_back_with_names_and_colours(tmp_path):
    drawn = some()
    path = tmp_path / "out" / "labels.tif"
    path.parent.mkdir()
    label_files.write_label_raster(path, drawn, GRID, SCENES[0])
    with rasterio.open(path) as source:
        assert (source.crs.to_string(), source.nodata, source.transform) == (UTM, 255, place())
        labels = source.read(1)
    annotations, problems = read_annotations(path, GRID)
    assert problems == [] and annotations.classes == ("maize", "wheat")
    assert annotations.colours == ((255, 127, 14), (31, 119, 180))
    assert np.array_equal(labels[annotations.rows, annotations.columns], annotations.labels)
    archive = tmp_path / "labels.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, "../../labels.tif")
        file.write(f"{path}.aux.xml", "../../labels.tif.aux.xml")
    loaded = label_files.load(archive, GRID, SCENES[1], SCENES)
    back = label_files.added(Drawings(), loaded)
    assert {(one.name, one.colour) for one in back.classes} == {("wheat", "#1f77b4"), ("maize", "#ff7f0e")}
    assert {one.scene for one in back.drawings} == {SCENES[1]}
    again = tmp_path / "again.tif"
    label_files.write_label_raster(again, back, GRID, SCENES[1])
    with rasterio.open(again) as source:
        assert np.array_equal(source.read(1), labels)
    assert sorted(path.name for path in tmp_path.parent.glob("labels*")) == []


def test_features_that_cannot_be_used_are_named_one_by_one(tmp_path):
    features = [
        {"type": "Feature", "properties": {"class": "a", "colour": "url(x)"}, "geometry": POINT},
        {"type": "Feature", "properties": {}, "geometry": POINT},
        {"type": "Feature", "properties": {"class": "a", "scene": "1999-01-01"}, "geometry": POINT},
        {"type": "Feature", "properties": {"class": "a"}, "geometry": None},
        {"type": "Feature", "properties": {"class": 3}, "geometry": BOX},
    ]
    path = tmp_path / "mixed.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    loaded = label_files.load(path, PLAIN, SCENES[0], SCENES)
    assert [one[:3] for one in loaded.drawings] == [("a", None, SCENES[0]), ("3", None, SCENES[0])]
    assert [problem.source.split(", ")[1] for problem in loaded.problems] == ["feature 2", "feature 4", "feature 3"]
    far = {"type": "Feature", "properties": {"class": "a"}, "geometry": {"type": "Point", "coordinates": [10, 10]}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [far]}))
    assert "lies outside the image" in label_files.load(path, GRID, SCENES[0], SCENES).problems[0].reason


def test_files_that_are_no_labels_are_refused(tmp_path, monkeypatch):
    def refused(name: str, content: bytes, said: str) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            label_files.load(path, GRID, SCENES[0], SCENES)

    refused("a.geojson", b'{"type": "Topology"}', "is no FeatureCollection")
    refused("a.zip", b"PK\x03\x04 no archive", "no archive that can be read")
    refused("a.csv", b"x,y\n1,2\n", "no column row, column, class")
    refused("a.bin", b"\x00" * 64, "no raster")
    everything = raster(tmp_path / "map.tif", np.full((200, 200), 3, np.uint8))
    with pytest.raises(ValueError, match="40000 labelled pixels: that is a map"):
        label_files.load(everything, Grid(200, 200, UTM, GRID.transform), SCENES[0], SCENES)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("labels.tif", b"\x00" * (label_files.MOST_BYTES + 1))
    assert bomb.stat().st_size < 50_000
    with pytest.raises(ValueError, match="more than 16 MiB unpacked"):
        label_files.load(bomb, GRID, SCENES[0], SCENES)


def test_a_geometry_is_rounded_the_same_way_once_and_for_all():
    text = checked_geometry({"type": "LineString", "coordinates": [[1 / 3, 2 / 3], [10, 10 + 1e-9]]})
    assert json.loads(text)["coordinates"] == [[0.3333, 0.6667], [10, 10]]
    assert checked_geometry(json.loads(text)) == text
