"""Label files as pixels: every kind of file and geometry, and what of it is left out."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from PIL import Image
from rasterio.transform import Affine

from miseg.data.labels.annotations import Annotations, read_annotations, sample_points
from miseg.data.labels.geojson import read_geojson
from miseg.data.raster.grid import Grid
from miseg.data.raster.raster_files import mapped
from tests.support.real_data import real_data

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
    assert labels.source(list(zip(labels.rows, labels.columns, strict=True)).index((7, 7))) == "p.geojson, feature 7"
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
    monkeypatch.setattr("miseg.data.labels.coverage._PIXELS_AT_ONCE", strip)
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


def test_a_polygon_that_crosses_itself_is_told_with_the_place(tmp_path):
    pentagram = [[0, 4], [10, 4], [2, 10], [5, 0], [8, 10], [0, 4]]
    bow_tie = [[12, 1], [18, 7], [18, 1], [12, 7], [12, 1]]
    whole, flat, pixel = [[0, 12], [5, 12], [5, 17], [0, 17]], [[20, 3], [24, 3], [22, 3]], [[9, 19]] * 4
    path = write(tmp_path / "p.geojson", *(feature("Polygon", [r]) for r in (pentagram, bow_tie, whole, flat, pixel)))
    marks, problems = read_geojson(path, PLAIN)
    assert [problem.source for problem in problems] == ["p.geojson, feature 1", "p.geojson, feature 2"]
    assert re.fullmatch(
        r"crosses itself at column \S+, row \S+: pixels that it covers twice are left out", problems[0].reason
    )
    assert problems[1].reason.startswith("crosses itself at column 15, row 4:")
    assert [mark.rows.size > 0 for mark in marks] == [True] * 5
    drawn = set(zip(marks[0].columns.tolist(), marks[0].rows.tolist(), strict=True))
    assert (5, 5) not in drawn and (5, 2) in drawn, "the middle of a pentagram is covered twice"


@pytest.fixture(scope="module")
def flanders() -> Path:
    return real_data("sentinel2_flanders")


def test_longitudes_and_latitudes_land_on_the_right_pixels_of_a_utm_image(tmp_path, flanders):
    with rasterio.open(flanders / "2018-08-04.tif") as image:
        grid = Grid(image.height, image.width, image.crs.to_string(), tuple(image.transform)[:6])
        left, top, size = image.bounds.left, image.bounds.top, image.res[0]
    rng = np.random.default_rng(0)
    rows, columns = np.divmod(rng.choice(64 * 64, 50, replace=False), 64)
    # Anywhere in the pixel but for its outermost metre.
    eastings = left + size * columns + rng.uniform(1, 9, 50)
    northings = top - size * rows - rng.uniform(1, 9, 50)
    longitudes, latitudes = rasterio.warp.transform("EPSG:32631", "EPSG:4326", eastings, northings)
    names = [("wheat", "maize")[index % 2] for index in range(50)]
    features = [feature("Point", list(where), name) for *where, name in zip(longitudes, latitudes, names, strict=True)]
    expected = set(zip(rows.tolist(), columns.tolist(), names, strict=True))
    assert longitudes[0] == pytest.approx(4.06, abs=0.02) and latitudes[0] == pytest.approx(50.75, abs=0.02)
    for members in (
        {},
        {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}},
        {"crs": {"type": "name", "properties": {"name": "EPSG:4326"}}},
        {"crs": {"type": "EPSG", "properties": {"code": 4326}}},
    ):
        labels, problems = read_annotations(write(tmp_path / "p.geojson", *features, **members), grid)
        assert found(labels) == expected and problems == []
        assert [labels.source(index) for index in (0, 49)] == ["p.geojson, feature 1", "p.geojson, feature 50"]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}
    x, y = rasterio.warp.transform("EPSG:32631", "EPSG:3857", eastings, northings)
    features = [feature("Point", list(where), name) for *where, name in zip(x, y, names, strict=True)]
    assert found(read_annotations(write(tmp_path / "p.geojson", *features, crs=crs), grid)[0]) == expected


def test_what_cannot_be_used_is_left_out_and_listed(tmp_path):
    valid = np.ones((20, 30), bool)
    valid[3, 4] = False
    path = write(
        tmp_path / "p.geojson",
        feature("Point", [1.5, 1.5], "a"),
        feature("Point", [2.5, 1.5], "b"),
        feature("Point", [1.2, 1.7], "a"),
        feature("LineString", [[4.5, 3.5], [6.5, 3.5]], "a"),
        feature("Point", [30, 2], "a"),
        feature("Point", [6.5, 3.5], "b"),
        {"type": "Feature", "properties": {"id": 7}, "geometry": {"type": "Point", "coordinates": [1, 1]}},
        {"type": "Feature", "properties": None, "geometry": {"type": "Point", "coordinates": [1, 1]}},
        feature("Point", [9, 9], True),
        feature("Point", [9, 9], " "),
        {"type": "Feature", "properties": {"class": "a"}, "geometry": None},
        feature("Point", [], "a"),
        feature("Point", [4.5, 3.5], "cloud"),
    )
    for how in (valid, lambda rows, columns: valid[rows, columns]):
        labels, problems = read_annotations(path, PLAIN, how)
        assert found(labels) == {(1, 1, "a"), (1, 2, "b"), (3, 5, "a")}
        assert labels.classes == ("a", "b") and labels.labels.tolist() == [0, 1, 0]
        reasons = {}
        for place, reason in problems:
            reasons.setdefault(place.removeprefix("p.geojson, feature "), []).append(reason)
        assert reasons == {
            "4": [
                "'a': 1 of 3 pixels (first row 3, column 4) are on nodata or cloud",
                "'a': 1 of 3 pixels (first row 3, column 6) are labelled with another class too",
            ],
            "5": ["'a': row 2, column 30 is outside the image of 20 x 30 pixels"],
            "6": ["'b': row 3, column 6 is labelled with another class too"],
            "7": ["no class: property 'class' is no text or number (among ['id'])"],
            "8": ["no class: property 'class' is no text or number (among [])"],
            "9": ["no class: property 'class' is no text or number (True)"],
            "10": ["no class: property 'class' is no text or number (' ')"],
            "11": ["no geometry"],
            "12": ["no geometry"],
            "13": ["'cloud': row 3, column 4 is on nodata or cloud"],
            "p.geojson": ["class 'cloud' has no label left: it is no class of the map"],
        }
    with pytest.raises(ValueError, match=r"valid of shape \(3, 3\) for an image of 20 x 30"):
        read_annotations(path, PLAIN, np.ones((3, 3), bool))
    with pytest.raises(ValueError, match=r"valid gives float64 .* expected a bool"):
        read_annotations(path, PLAIN, lambda rows, columns: np.ones(len(rows)))


def test_lines_and_polygons_that_leave_the_image(tmp_path):
    west = [574680 - 50, 5622440 - 25]
    shapes = [
        feature("LineString", [west, [574680 + 25, 5622440 - 25]], "a"),
        feature("Polygon", [[[0, 0], [1, 0], [1, 1], [0, 0]]], "b"),
        feature("Point", [574685, 5622435], "b"),
        # Its only pixel centres lie outside, its own centre inside.
        feature("Polygon", [[[574620, 5622330], [574690, 5622330], [574690, 5622333], [574620, 5622333]]], "b"),
        # Far beyond what the projection is made for.
        feature("LineString", [[1e30, 0], [1e30, 5]], "a"),
    ]
    crs = {"type": "name", "properties": {"name": "EPSG:32631"}}
    labels, problems = read_annotations(write(tmp_path / "p.geojson", *shapes, crs=crs), UTM)
    assert found(labels) == {(2, 0, "a"), (2, 1, "a"), (2, 2, "a"), (0, 0, "b")}
    assert [(place[-1], reason) for place, reason in problems] == [
        ("1", "leaves the image of 20 x 30 pixels: the 3 pixels inside are used"),
        ("2", "lies outside the image of 20 x 30 pixels"),
        ("4", "lies outside the image of 20 x 30 pixels"),
        ("5", "lies outside the image of 20 x 30 pixels"),
    ]


def test_a_position_beyond_the_projection_costs_no_other_label(tmp_path):
    lon, lat = rasterio.warp.transform(UTM.crs, "EPSG:4326", [574685.0, 574705.0], [5622435.0, 5622435.0])
    shapes = [feature("Point", [lon[0], lat[0]], "a"), feature("Point", [lon[1], lat[1]], "b")]
    shapes.append(feature("Point", [-87.0, 0.0], "a"))
    labels, problems = read_annotations(write(tmp_path / "p.geojson", *shapes), UTM)
    assert found(labels) == {(0, 0, "a"), (0, 2, "b")}
    assert len(problems) == 1 and "outside the image" in problems[0].reason


def test_classes_are_ordered_by_value_then_by_name(tmp_path):
    names = [10, "wheat", 2.0, "9", " Mai\u200bze\n", 1.5, "2"]
    path = write(tmp_path / "p.geojson", *(feature("Point", [n, 1], name) for n, name in enumerate(names)))
    labels, _ = read_annotations(path, PLAIN)
    assert labels.classes == ("1.5", "2", "9", "10", "Maize", "wheat")
    assert labels.labels.tolist() == [3, 5, 1, 2, 4, 0, 1]
    order = ("wheat", "2", "10")
    labels, problems = read_annotations(path, PLAIN, classes=order)
    assert labels.classes == order and labels.labels.tolist() == [2, 0, 1, 1]
    assert [reason for _, reason in problems] == [f"class {n!r} is none of wheat, 2, 10" for n in ("9", "Maize", "1.5")]
    with pytest.raises(ValueError, match=r"p\.geojson: no usable label of class 'rye': label each class, or leave it"):
        read_annotations(path, PLAIN, classes=(*order, "rye"))
    with pytest.raises(ValueError, match="give each class once"):
        read_annotations(path, PLAIN, classes=("2", "2"))


@pytest.mark.parametrize(
    ("features", "members", "grid", "reason"),
    [
        (
            [feature("Point", [1, 1])],
            {},
            PLAIN,
            r"p\.geojson: usable labels of one class only, 'water': label at least",
        ),
        ([], {}, PLAIN, r"no usable label: check that it belongs to this image"),
        (
            [feature("Point", [1, 1], None)],
            {},
            PLAIN,
            r"no usable label: .*\(left out: p\.geojson, feature 1: no class",
        ),
        ([feature("Point", [1, -1])], {}, PLAIN, r"feature 1: \(1, -1\) does not lie in the image of 20 x 30.*no CRS"),
        (
            [feature("Point", [1, 1])],
            {"crs": {"properties": {"name": "EPSG:4326"}}},
            PLAIN,
            "in EPSG:4326, but the image",
        ),
        ([feature("Point", [1, 1])], {"crs": None}, UTM, "member crs: null names no CRS: export in EPSG:4326"),
        ([feature("Point", [1, 1])], {"crs": {"type": "link"}}, UTM, "names no CRS"),
        ([feature("Point", [1, 1])], {"crs": {"properties": {"name": "EPSG:99999"}}}, UTM, "unknown CRS 'EPSG:99999'"),
        (
            [feature("Point", [1, 1])],
            {},
            Grid(2, 2, "moon"),
            "the image: unknown CRS 'moon'.* give one that PROJ knows",
        ),
        (
            [feature("Point", [574685, 5622435])],
            {},
            UTM,
            r"feature 1: \(574685, 5\.62244e\+06\) is no longitude and lat",
        ),
        ([feature("Point", ["1", 1])], {}, PLAIN, r"feature 1: broken coordinates of a Point .*draw it again"),
        ([feature("Point", None)], {}, PLAIN, "broken coordinates of a Point"),
        ([feature("Point", [1])], {}, PLAIN, "broken coordinates of a Point"),
        ([feature("Point", [1, float("nan")])], {}, PLAIN, "no finite numbers"),
        ([feature("LineString", [[1, 1]])], {}, PLAIN, "broken coordinates of a LineString .1 positions, at least 2"),
        ([feature("Polygon", [[[1, 1], [2, 2]]])], {}, PLAIN, "3 positions, at least 4"),
        ([feature("MultiPolygon", [[]])], {}, PLAIN, "broken coordinates of a MultiPolygon"),
        ([feature("Circle", [1, 1])], {}, PLAIN, "feature 1: no geometry of type 'Circle' in GeoJSON"),
        ([{"type": "Point"}], {}, PLAIN, "feature 1: no object of type Feature"),
        ([], {"type": "Topology"}, PLAIN, "type 'Topology' is no FeatureCollection"),
    ],
)
def test_a_geojson_that_is_refused(tmp_path, features, members, grid, reason):
    with pytest.raises(ValueError, match=reason):
        read_annotations(write(tmp_path / "p.geojson", *features, **members), grid)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b'{"type": ', r"broken JSON .*line 1 column 10"), (b"\xff\xfe", "not UTF-8"), (b"[1]", "no GeoJSON object but")],
)
def test_a_broken_json(tmp_path, content, reason):
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_annotations(tmp_path / "p.json", PLAIN)


@pytest.mark.parametrize("name", ["p.json", "p.csv", "p.tif"])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}: (no such file|cannot be read \(No such file)"):
        read_annotations(tmp_path / name, PLAIN)


@pytest.mark.parametrize(
    "text",
    [
        "row,column,class\n1,2,water\n\n3,4,forest\n1,2,water\n",
        "\ufeffrow;column;class\r\n1;2;water\r\n3;4;forest\r\n",
        'Class\tid\tRow\tColumn\n"water"\tx\t1\t2.0\nforest\ty\t 3\t4\n',
    ],
)
def test_a_table(tmp_path, text):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8", newline="")
    labels, problems = read_annotations(tmp_path / "p.csv", PLAIN)
    assert found(labels) == {(1, 2, "water"), (3, 4, "forest")} and problems == []
    assert labels.source(0) == "p.csv, line 2"


def test_a_table_s_problems_name_their_line(tmp_path):
    text = "row,column,crop\n1,2,5\n3,4,10\n20,0,5\n-1,0,5\n6,6,\n3,4,5\n1,3,10\n"
    (tmp_path / "p.csv").write_text(text)
    labels, problems = read_annotations(tmp_path / "p.csv", PLAIN, class_property="crop")
    assert found(labels) == {(1, 2, "5"), (1, 3, "10")} and labels.classes == ("5", "10")
    assert [problem.source for problem in problems] == [f"p.csv, line {n}" for n in (6, 4, 5, 3, 7)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"p\.csv, line 1: no column row, column, class \(found: nothing\): start the file with row,column,class"),
        ("x,y,class\n1,2,a\n", r"line 1: no column row, column \(found: x, y, class\)"),
        (
            "row,column,class\n1,2,a\n1.5,2,a\n",
            r"p\.csv, line 3: row '1\.5' is not a whole number: count pixels from 0",
        ),
        ("row,column,class\n1,nan,a\n", "line 2: column 'nan' is not a whole number"),
        ("row,column,class\n1,2\n", "line 2: 2 values for 3 columns: complete or remove"),
        ('row,column,class\n1,2,"a\n', "line 2: unexpected end of data"),
    ],
)
def test_a_table_that_is_refused(tmp_path, text, reason):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_annotations(tmp_path / "p.csv", PLAIN)


def test_a_table_in_another_encoding(tmp_path):
    (tmp_path / "p.csv").write_bytes("row,column,class\n1,2,blé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"p\.csv: not UTF-8 text \(byte 23\): save it as CSV in UTF-8"):
        read_annotations(tmp_path / "p.csv", PLAIN)


def raster(path: Path, values: np.ndarray, grid: Grid = UTM, colours: dict | None = None, **profile: object) -> Path:
    height, width = values.shape
    profile = {"dtype": values.dtype, "crs": grid.crs, "transform": Affine(*grid.transform), **profile}
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=1, **profile) as file:
        if colours:
            file.write_colormap(1, colours)
        file.write(values, 1)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_a_raster_on_the_image_s_grid(tmp_path, monkeypatch, dtype):
    # Several strips.
    monkeypatch.setattr("miseg.data.labels.raster._PIXELS_AT_ONCE", 100)
    values = np.zeros((20, 30), dtype)
    values[1, 2], values[19, 29], values[5, 5:8] = 2, 10, 2
    values[0, 0] = 77
    path = raster(tmp_path / "l.tif", values, nodata=77, blockysize=4)
    labels, problems = read_annotations(path, UTM)
    assert found(labels) == {(1, 2, "2"), (5, 5, "2"), (5, 6, "2"), (5, 7, "2"), (19, 29, "10")}
    assert labels.classes == ("2", "10") and labels.colours is None and problems == []
    assert labels.source(0) == "l.tif"
    valid = np.ones((20, 30), bool)
    valid[5, 6:] = False
    labels, problems = read_annotations(path, UTM, valid)
    assert len(labels) == 3
    assert problems == [("l.tif", "'2': 2 of 4 pixels (first row 5, column 6) are on nodata or cloud")]


def test_a_raster_on_another_grid_is_aligned_by_nearest_neighbour(tmp_path):
    # Half the pixel's size, from two pixels further north and west, in the same and in another CRS.
    values = np.zeros((60, 80), np.uint8)
    values[4:6, 4:6], values[10:12, 20:22], values[0, 0] = 1, 2, 2
    grid = Grid(60, 80, "EPSG:32631", (5.0, 0.0, 574660.0, 0.0, -5.0, 5622460.0))
    labels, _ = read_annotations(raster(tmp_path / "l.tif", values, grid), UTM)
    assert found(labels) == {(0, 0, "1"), (3, 8, "2")}
    west, north = rasterio.warp.transform(UTM.crs, "EPSG:4326", [574640.0], [5622480.0])
    transform = Affine(2e-5, 0.0, west[0], 0.0, -2e-5, north[0])
    with rasterio.open(tmp_path / "l.tif") as file:
        turned = np.zeros((250, 500), np.uint8)
        rasterio.warp.reproject(rasterio.band(file, 1), turned, dst_transform=transform, dst_crs="EPSG:4326")
    path = raster(tmp_path / "m.tif", turned, Grid(250, 500, "EPSG:4326", tuple(transform)[:6]), nodata=0)
    assert found(read_annotations(path, UTM)[0]) == {(0, 0, "1"), (3, 8, "2")}


def test_a_raster_s_names_and_colours(tmp_path):
    values = np.zeros((20, 30), np.uint8)
    values[1, 2], values[3, 4], values[5, 6], values[7, 8] = 1, 2, 3, 255
    colours = {0: (0, 0, 0), 1: (200, 10, 10), 2: (10, 200, 10), 3: (1, 2, 3)}
    path = raster(tmp_path / "l.tif", values, colours=colours)
    categories = "<Category/><Category>wheat</Category><Category>beet &amp; rye</Category>"
    xml = (
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{categories}</CategoryNames></PAMRasterBand></PAMDataset>'
    )
    (tmp_path / "l.tif.aux.xml").write_text(xml)
    labels, _ = read_annotations(path, UTM)
    assert found(labels) == {(1, 2, "wheat"), (3, 4, "beet & rye"), (5, 6, "3")}
    assert labels.classes == ("3", "beet & rye", "wheat")
    assert labels.colours == ((1, 2, 3), (10, 200, 10), (200, 10, 10))


def test_a_png_without_georeference(tmp_path):
    values = np.zeros((20, 30), np.uint8)
    values[1, 2], values[3, 4] = 1, 2
    Image.fromarray(values).save(tmp_path / "l.png")
    for grid in (PLAIN, UTM):
        labels, _ = read_annotations(tmp_path / "l.png", grid)
        assert found(labels) == {(1, 2, "1"), (3, 4, "2")}
    with pytest.raises(ValueError, match=r"l\.png: 20 x 30 pixels without a CRS .* image of 4 x 5: export it on"):
        read_annotations(tmp_path / "l.png", Grid(4, 5))


def test_a_raster_that_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(1, 200, (200, 300), dtype=np.uint8)
    grid = Grid(200, 300, UTM.crs, UTM.transform)
    whole = raster(tmp_path / "l.tif", values, grid).read_bytes()
    Image.fromarray(values).save(tmp_path / "l.png")
    for name, content in (("t.tif", whole[: len(whole) // 2]), ("t.png", (tmp_path / "l.png").read_bytes()[:9000])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: no raster, truncated or damaged .* copy or export it again"):
            read_annotations(tmp_path / name, grid)
    with pytest.raises(ValueError, match=r"t\.tif: no raster, truncated or damaged"):
        read_annotations(tmp_path / "t.tif", Grid(90, 90, grid.crs, grid.transform))
    (tmp_path / "x.tif").write_text("no raster")
    with pytest.raises(ValueError, match=r"x\.tif: no raster, truncated or damaged"):
        read_annotations(tmp_path / "x.tif", grid)
    for wrong in (-3.0, 1.5):
        decimal = np.zeros((20, 30), np.float32)
        decimal[4, 5] = wrong
        path = raster(tmp_path / "d.tif", decimal)
        with pytest.raises(ValueError, match=rf"d\.tif: {wrong} at row 4, column 5 is no class number"):
            read_annotations(path, UTM)
    Image.fromarray(rng.integers(0, 9, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(ValueError, match=r"c\.png: 3 bands: save class numbers as a single band"):
        read_annotations(tmp_path / "c.png", PLAIN)
    many = np.arange(600, dtype=np.uint16).reshape(20, 30)
    with pytest.raises(ValueError, match=r"i\.tif: more than 255 class numbers: give labels, not an image"):
        read_annotations(raster(tmp_path / "i.tif", many), UTM)
    Image.fromarray(values).save(tmp_path / "j.jpg")
    with pytest.raises(ValueError, match="JPEG compression alters labels"):
        read_annotations(tmp_path / "j.jpg", grid)


def test_sampled_points_are_nested_and_without_replacement():
    truth = np.random.default_rng(1).integers(0, 3, (40, 50)).astype(np.uint8)
    truth[:3] = 255
    truth[5, 5:8] = 7
    many = sample_points(truth, 50, seed=3)
    few = sample_points(truth, 5, seed=3)
    assert many.short == {7: 3} and few.short == {7: 3}
    assert np.bincount(many.labels).tolist() == [50, 50, 50, 0, 0, 0, 0, 3]
    assert len({*zip(many.rows, many.columns, strict=True)}) == 153
    assert (truth[many.rows, many.columns] == many.labels).all()
    for label in (0, 1, 2, 7):
        of_many, of_few = many.labels == label, few.labels == label
        assert np.array_equal(many.rows[of_many][:5], few.rows[of_few])
        assert np.array_equal(many.columns[of_many][:5], few.columns[of_few])
    alone = sample_points(np.where(truth == 1, truth, 255), 5, seed=3)
    assert np.array_equal(alone.rows, few.rows[few.labels == 1])
    assert not np.array_equal(sample_points(truth, 5, seed=4).rows, few.rows)


@pytest.mark.parametrize(
    ("truth", "count", "reason"),
    [
        (np.zeros((3, 3)), 1, "expected integer labels"),
        (np.full((3, 3), 255), 1, r"labels \[\]"),
        (np.full((3, 3), -1), 1, r"labels \[-1\]"),
        (np.zeros((3, 3), int), 0, "per_class = 0"),
    ],
)
def test_a_truth_to_draw_nothing_from(truth, count, reason):
    with pytest.raises(ValueError, match=reason):
        sample_points(truth, count, 0)
