"""Labels of a series: rasters on any grid, outlines of any format, classes, and splits by place."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio.warp
import shapely
from rasterio.transform import Affine

from miseg.data.raster.grid import Grid
from miseg.data.series.splits import divide
from tests.data.series.conftest import DAYS, by_date
from tests.support.scene_layouts import ORIGIN, UTM, place, raster, reflectances

SIZE = (48, 60)


@pytest.fixture
def scenes(tmp_path):
    for number, day in enumerate(DAYS):
        pixels = reflectances(number, SIZE)
        pixels[number] = 0
        raster(tmp_path / "scenes" / f"{day}.tif", pixels)
    return tmp_path


def codes(seed=0, size=SIZE, values=(3, 7, 1110)) -> np.ndarray:
    """Fields of 6 x 6 pixels."""
    rng = np.random.default_rng(seed)
    fields = rng.choice(np.array(values, np.uint16), (size[0] // 6 + 1, size[1] // 6 + 1))
    return fields.repeat(6, 0).repeat(6, 1)[: size[0], : size[1]]


ALL = {"bands": ("1", "2", "3", "4"), "split": (1.0,)}


def masks(dataset):
    return {day: mask for day, (_, mask) in by_date(dataset).items()}


def test_a_raster_on_the_scenes_pixels(scenes, packed):
    truth = codes()
    truth[:3, :4] = 0
    raster(scenes / "labels.tif", truth, nodata=0)
    dataset = packed(labels=scenes / "labels.tif", **ALL)
    assert dataset.info.classes == ("class 3", "class 7", "class 1110")
    for number, day in enumerate(DAYS):
        expected = np.select([truth == 3, truth == 7, truth == 1110], [0, 1, 2], 255)
        expected[number] = 255
        np.testing.assert_array_equal(masks(dataset)[day], expected)


@pytest.mark.parametrize("pixel", [10.0, 5.0, 2.5, 20.0])
@pytest.mark.parametrize("moved", [(0, 0), (-60, -40), (40, 20)])
def test_a_raster_of_other_pixels_has_each_at_its_place(scenes, packed, pixel, moved):
    """Fields of 60 m: pixels of 20 m and less have their borders where those of 10 m have."""
    scale = pixel / 10
    size = round((SIZE[0] + 20) / scale), round((SIZE[1] + 20) / scale)
    rows = np.floor((np.arange(size[0]) + 0.5) * scale + moved[1] / 10).astype(int)
    columns = np.floor((np.arange(size[1]) + 0.5) * scale + moved[0] / 10).astype(int)
    field = lambda row, column: 1 + (np.add.outer(row // 6, column // 6) % 3)  # noqa: E731
    raster(scenes / "labels.tif", field(rows, columns).astype(np.uint8), place(pixel, *moved))
    dataset = packed(labels=scenes / "labels.tif", **ALL)
    expected = field(np.arange(SIZE[0]), np.arange(SIZE[1])) - 1
    inside = np.ones(SIZE, bool)
    inside[: max(0, moved[1] // 10)], inside[:, : max(0, moved[0] // 10)] = False, False
    inside[0] = False  # no data on the first day
    mask = masks(dataset)[DAYS[0]]
    np.testing.assert_array_equal(mask[inside], expected[inside])
    assert (mask[~inside] == 255).all()


def test_a_raster_in_another_crs(scenes, packed, opened):
    truth = codes()
    width, height = 260, 200
    bounds = rasterio.warp.transform_bounds(UTM, "EPSG:4326", ORIGIN[0], ORIGIN[1] - 480, ORIGIN[0] + 600, ORIGIN[1])
    left, bottom, right, top = bounds
    transform = Affine((right - left) / width, 0, left, 0, (bottom - top) / height, top)
    far, _ = rasterio.warp.reproject(
        truth,
        np.zeros((height, width), np.uint16),
        src_transform=place(),
        src_crs=UTM,
        dst_transform=transform,
        dst_crs="EPSG:4326",
        resampling=rasterio.warp.Resampling.nearest,
    )
    raster(scenes / "labels.tif", far, transform, "EPSG:4326", nodata=0)
    settings = {"labels": scenes / "labels.tif", **ALL}
    assert "in EPSG:4326 (200x260): brought to the scenes' by nearest neighbour" in "\n".join(
        opened(**settings).sentences
    )
    mask = masks(packed(**settings))[DAYS[2]]
    known = mask != 255
    assert known.mean() > 0.95
    right = np.array([3, 7, 1110])[mask[known]] == truth[known]
    # Finer by three and back: only pixels at a border may have their neighbour's.
    assert right.mean() > 0.97
    shifted = np.roll(truth, 1, 1)[known] == np.array([3, 7, 1110])[mask[known]]
    assert shifted.mean() < right.mean() - 0.05


def test_zero_is_asked_about(scenes, packed, opened):
    truth = codes(values=(0, 1, 2))
    raster(scenes / "labels.tif", truth)
    with pytest.raises(ValueError, match=r"labels\.tif: 2\d% of the pixels are 0, which may be unlabelled or a class"):
        opened(labels=scenes / "labels.tif", **ALL)
    named = packed(labels=scenes / "labels.tif", classes=("bare", "wheat", "maize"), **ALL)
    np.testing.assert_array_equal(masks(named)[DAYS[0]][1:], truth[1:])
    ignored = packed("ignored", labels=scenes / "labels.tif", ignore=(0,), **ALL)
    assert ignored.info.classes == ("class 1", "class 2")
    np.testing.assert_array_equal(masks(ignored)[DAYS[0]][1:], np.where(truth[1:] == 0, 255, truth[1:] - 1))


def outlines(truth, names, crs=UTM):
    """Outlines of the fields of `truth` in a CRS, and the class of each."""
    shapes, classes = [], []
    for row in range(0, truth.shape[0], 6):
        for column in range(0, truth.shape[1], 6):
            x, y = ORIGIN[0] + 10 * column, ORIGIN[1] - 10 * row
            shapes.append(shapely.box(x, y - 60, x + 60, y))
            classes.append(names[int(truth[row, column])])
    if crs != UTM:
        moved = lambda points: np.column_stack(rasterio.warp.transform(UTM, crs, *points.T))  # noqa: E731
        shapes = list(shapely.transform(np.array(shapes), moved))
    return np.array(shapes, object), np.array(classes, object)


@pytest.mark.parametrize(
    ("file", "crs"), [("l.gpkg", UTM), ("l.geojson", "EPSG:4326"), ("l.shp", UTM), ("l.gpkg", "EPSG:3857")]
)
def test_outlines(scenes, packed, opened, file, crs):
    truth, names = codes(), {3: "wheat", 7: "maize", 1110: "beet"}
    shapes, classes = outlines(truth, names, crs)
    parcels = np.arange(len(shapes))
    pyogrio.raw.write(
        scenes / file, shapely.to_wkb(shapes), [classes, parcels], ["crop", "parcel"], crs=crs, geometry_type="Polygon"
    )
    with pytest.raises(ValueError, match=r"which field holds the class\? It has crop, parcel: .*--label-field"):
        opened(labels=scenes / file, **ALL)
    with pytest.raises(ValueError, match=r"--label-field corn: .* no such field; it has crop, parcel"):
        opened(labels=scenes / file, label_field="corn", **ALL)
    with pytest.raises(ValueError, match=r"class 'beet' is not among --classes \(wheat, maize\)"):
        opened(labels=scenes / file, label_field="crop", classes=("wheat", "maize"), **ALL)
    dataset = packed(labels=scenes / file, label_field="crop", **ALL)
    assert dataset.info.classes == ("beet", "maize", "wheat")
    expected = np.select([truth == 1110, truth == 7], [0, 1], 2)
    np.testing.assert_array_equal(masks(dataset)[DAYS[0]][1:], expected[1:])
    chosen = packed(
        "two", labels=scenes / file, label_field="crop", classes=("wheat", "maize"), ignore=("beet",), **ALL
    )
    np.testing.assert_array_equal(masks(chosen)[DAYS[0]][1:], np.select([truth == 3, truth == 7], [0, 1], 255)[1:])


def test_outlines_of_numbers_that_overlap_and_leave_gaps(scenes, packed, opened):
    x, y = ORIGIN
    shapes = [
        shapely.box(x, y - 100, x + 100, y),
        shapely.box(x + 50, y - 100, x + 200, y),
        shapely.Point(x + 305, y - 205),
    ]
    pyogrio.raw.write(
        scenes / "l.gpkg",
        shapely.to_wkb(np.array(shapes, object)),
        [np.array([12, 40, 12])],
        ["code"],
        crs=UTM,
        geometry_type="Unknown",
    )
    source = opened(labels=scenes / "l.gpkg", **ALL)
    told = "\n".join(source.sentences)
    assert "classes by the field code" in told and "50 pixels in outlines of different classes: unlabelled" in told
    mask = masks(packed(labels=scenes / "l.gpkg", **ALL))[DAYS[2]]
    expected = np.full(SIZE, 255)
    expected[:10, :5], expected[:10, 10:20], expected[20, 30], expected[2] = 0, 1, 0, 255
    np.testing.assert_array_equal(mask, expected)


def test_bad_labels_are_one_sentence(scenes, opened):
    raster(scenes / "three.tif", reflectances(0, bands=3))
    raster(scenes / "one.tif", np.full(SIZE, 4, np.uint8))
    raster(scenes / "broken.tif", np.full(SIZE, 0.5, np.float32))
    raster(scenes / "far.tif", codes(), place(10, 90_000))
    raster(scenes / "plain.tif", codes(), crs=None)
    (scenes / "text.geojson").write_text("hello")
    (scenes / "none.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    for name, reason in {
        "three.tif": "3 bands: save class numbers as a single band",
        "one.tif": "all labels are 4: there is nothing to tell apart",
        "broken.tif": "0.5 is no class number",
        "far.tif": "no label within the scenes",
        "plain.tif": "CRS",
        "text.geojson": "no vector file that can be read",
        "none.geojson": "which field holds the class",
    }.items():
        with pytest.raises(ValueError, match=reason) as raised:
            opened(labels=scenes / name, **ALL)
        assert "\n" not in str(raised.value) and name in str(raised.value)


def test_splits_share_no_pixel(scenes, packed):
    raster(scenes / "labels.tif", codes())
    dataset = packed(labels=scenes / "labels.tif", bands=("1", "2", "3", "4"))
    assert dataset.splits == ("train", "val")
    grids = {split: Grid.from_json(dataset.read(split, 0).georeference) for split in dataset.splits}
    assert (grids["train"].width, grids["val"].width) == (42, 18)
    assert grids["val"].transform[2] == grids["train"].transform[2] + 420
    np.testing.assert_array_equal(
        by_date(dataset, "val")[DAYS[0]][1][1:], np.searchsorted((3, 7, 1110), codes()[1:, 42:])
    )


@pytest.mark.parametrize("size", [(48, 60), (70, 40), (1400, 1100), (2000, 2000)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_areas_cover_the_grid_once(size, seed):
    shares = {"train": 0.4, "val": 0.3, "test": 0.3}
    seen = np.zeros(size, int)
    areas, told = divide(Grid(*size), shares, seed)
    for windows in areas.values():
        for row, column, height, width in windows:
            seen[row : row + height, column : column + width] += 1
    assert (seen == 1).all() and told and list(areas) == list(shares)
    assert divide(Grid(*size), shares, seed)[0] == areas
    assert any(divide(Grid(*size), shares, other)[0] != areas for other in (3, 4, 5, 6))


def test_blocks_are_drawn_so_that_each_split_has_each_class():
    shown = lambda window: frozenset({0, 1 + (window[0] > 1200)})  # noqa: E731
    areas, _ = divide(Grid(2048, 2048), {"train": 0.6, "val": 0.4}, 5, shown)
    for windows in areas.values():
        assert frozenset.union(*map(shown, windows)) == {0, 1, 2}
