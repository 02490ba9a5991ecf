"""Label files as pixels: every kind of file and geometry, and what of it is left out."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

from miseg.data.annotations import Annotations, read_annotations
from miseg.data.geojson import read_geojson
from miseg.data.grid import Grid
from miseg.data.raster_files import mapped

PLAIN = Grid(20, 30)
UTM = Grid(20, 30, "EPSG:32631", (10.0, 0.0, 574680.0, 0.0, -10.0, 5622440.0))


def feature(kind: str, coordinates: object, name: object = "water", **properties: object) -> dict:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": {"class": name, **properties}, "geometry": geometry}


def write(path: Path, *features: object, **members: object) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}), encoding="utf-8")
    return path


def found(labels: Annotations) -> set[tuple[int, int, str]]:
    return {
        (int(r), int(c), labels.classes[k]) for r, c, k in zip(labels.rows, labels.columns, labels.labels, strict=True)
    }


def test_geometries_become_pixels(tmp_path):
    square = [[2, 2], [6, 2], [6, 5], [2, 5], [2, 2]]
    hole = [[3, 3], [5, 3], [5, 4], [3, 4], [3, 3]]
    tiny = [[10.6, 8.7], [10.8, 8.7], [10.8, 8.9], [10.6, 8.7]]
    path = write(
        tmp_path / "p.geojson",
        feature("Point", [0.5, 19.9, 7.0], "b"),
        feature("MultiPoint", [[29.99, 0], [3, 12.5]], "b"),
        feature("LineString", [[12.5, 0.5], [15.5, 0.5]], "a"),
        feature("MultiLineString", [[[20.5, 3.5], [20.5, 5.2]], [[25.5, 1.5], [25.5, 1.5]]], "a"),
        feature("Polygon", [square, hole], "c"),
        feature("MultiPolygon", [[tiny], [[[12, 12], [13, 12], [13, 13], [12, 13]]]], "c"),
    )
    collection = {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [7.5, 7.5]}]}
    document = json.loads(path.read_text())
    document["features"].append({"type": "Feature", "properties": {"class": "c"}, "geometry": collection})
    path.write_text(json.dumps(document))
    labels, problems = read_annotations(path, PLAIN)
    inside = {(r, c, "c") for r in range(2, 5) for c in range(2, 6)} - {(3, 3, "c"), (3, 4, "c")}
    points = {(19, 0, "b"), (0, 29, "b"), (12, 3, "b")}
    lines = {(0, c, "a") for c in range(12, 16)} | {(r, 20, "a") for r in range(3, 6)} | {(1, 25, "a")}
    assert problems == []
    assert found(labels) == inside | points | lines | {(8, 10, "c"), (12, 12, "c"), (7, 7, "c")}
    assert labels.classes == ("a", "b", "c") and labels.counts() == {"a": 8, "b": 3, "c": 13}
    assert labels.rows.dtype == labels.columns.dtype == labels.labels.dtype == np.int64
    assert labels.place(list(zip(labels.rows, labels.columns, strict=True)).index((7, 7))) == "p.geojson, feature 7"
    assert len(labels) == 24


def touched(a: np.ndarray, b: np.ndarray, row: int, column: int) -> bool:
    """Whether the line a..b meets the square of a pixel: Liang and Barsky's clipping."""
    low, high = 0.0, 1.0
    for start, step, least in ((a[0], b[0] - a[0], column), (a[1], b[1] - a[1], row)):
        if step == 0:
            if not least <= start <= least + 1:
                return False
            continue
        ends = sorted(((least - start) / step, (least + 1 - start) / step))
        low, high = max(low, ends[0]), min(high, ends[1])
    return low <= high


def within(ring: np.ndarray, x: float, y: float) -> bool:
    """Whether a point lies in a ring: crossings of a ray."""
    crossings = 0
    for (x1, y1), (x2, y2) in itertools.pairwise(ring):
        crossings += (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1)
    return crossings % 2 == 1


@pytest.mark.parametrize("strip", [40, 2**22])
def test_scribbles_and_polygons_are_those_of_a_slow_reference(tmp_path, monkeypatch, strip):
    monkeypatch.setattr("miseg.data.geojson._PIXELS_AT_ONCE", strip)
    rng = np.random.default_rng(4)
    grid = Grid(12, 14, "EPSG:32631", UTM.transform)
    to_map = Affine(*grid.transform)
    for _ in range(60):
        # Some leave the image.
        points = rng.uniform(-3, 16, (int(rng.integers(3, 6)), 2))
        ring = np.concatenate([points, points[:1]])
        line, polygon = ([list(mapped(to_map, *p.tolist())) for p in way] for way in (points, ring))
        path = write(
            tmp_path / "p.geojson",
            feature("LineString", line),
            feature("Polygon", [polygon], "forest"),
            crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}},
        )
        marks = {mark.name: mark for mark in read_geojson(path, grid)[0]}
        drawn = {name: set(zip(mark.rows.tolist(), mark.columns.tolist(), strict=True)) for name, mark in marks.items()}
        pixels = [(r, c) for r in range(12) for c in range(14)]
        on_line = {p for p in pixels if any(touched(a, b, *p) for a, b in itertools.pairwise(points))}
        inside = {(r, c) for r, c in pixels if within(ring, c + 0.5, r + 0.5)}
        assert drawn.get("water", set()) == on_line
        assert drawn.get("forest", set()) == inside
