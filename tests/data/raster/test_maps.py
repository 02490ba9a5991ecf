"""Maps as GDAL reads them back, and their pictures."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from miseg.data.labels.annotations import read_annotations
from miseg.data.raster.grid import Grid
from miseg.data.raster.maps import MapWriter, confidence_path, default_colours
from miseg.data.raster.quicklook import NO_DATA, quicklook
from miseg.data.raster.raster_files import category_names, class_colours
from miseg.data.raster.rasters import open_raster
from tests.support.real_data import real_data

NAMES = ("wheat", "beet & <rye>", "blé")
COLOURS = ((200, 10, 10), (10, 200, 10), (1, 2, 3))
UTM = Grid(300, 520, "EPSG:32631", (10.0, 0.0, 574680.0, 0.0, -10.0, 5622440.0))
LOCAL = (
    'PROJCS["here",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Azimuthal_Equidistant"],PARAMETER["latitude_of_center",50.1],'
    'PARAMETER["longitude_of_center",4.2],PARAMETER["false_easting",3],PARAMETER["false_northing",4],UNIT["metre",1]]'
)


def scene(grid: Grid, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes 0..2 and 255, and confidences."""
    rng = np.random.default_rng(seed)
    classes = rng.choice([0, 1, 2, 255], (grid.height, grid.width))
    return classes, rng.random(classes.shape)


def written(path: Path, grid: Grid = UTM, side: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    classes, confidence = scene(grid)
    side = side or max(grid.height, grid.width)
    with MapWriter(path, grid, NAMES, COLOURS) as writer:
        for top in range(0, grid.height, side):
            for left in range(0, grid.width, side):
                part = np.s_[top : top + side, left : left + side]
                height, width = classes[part].shape
                writer.write((top, left, height, width), classes[part], confidence[part])
    return classes, confidence


def test_a_map_read_back_by_gdal(tmp_path):
    path = tmp_path / "new" / "map.tif"
    classes, confidence = written(path)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), classes) and file.dtypes == ("uint8",)
        assert file.crs == rasterio.crs.CRS.from_epsg(32631) and tuple(file.transform)[:6] == UTM.transform
        assert file.nodata == 255 and file.block_shapes == [(256, 256)] and file.compression.name == "deflate"
        assert category_names(file) == list(NAMES)
        table = class_colours(file)
        assert [table[label] for label in range(3)] == list(COLOURS) and file.colormap(1)[255] == (0, 0, 0, 0)
        assert [value.name for value in file.colorinterp] == ["palette"]
    with rasterio.open(tmp_path / "new" / "map_confidence.tif") as file:
        values = file.read(1)
        assert (
            file.dtypes == ("float32",) and np.isnan(file.nodata) and np.array_equal(np.isnan(values), classes == 255)
        )
        assert np.array_equal(values[classes != 255], confidence.astype(np.float32)[classes != 255])
        assert file.crs == rasterio.crs.CRS.from_epsg(32631) and tuple(file.transform)[:6] == UTM.transform
    assert sorted(p.name for p in path.parent.iterdir()) == ["map.tif", "map.tif.aux.xml", "map_confidence.tif"]


@pytest.mark.parametrize("side", [256, 100])
def test_window_by_window_equals_whole(tmp_path, side):
    written(tmp_path / "whole.tif")
    written(tmp_path / "parts.tif", side=side)
    for name in ("{}.tif", "{}_confidence.tif"):
        files = [rasterio.open(tmp_path / name.format(how)) for how in ("whole", "parts")]
        whole, parts = (file.read() for file in files)
        assert np.array_equal(whole, parts, equal_nan=whole.dtype == np.float32)
        for file in files:
            file.close()


@pytest.mark.parametrize(
    "grid",
    [
        Grid(30, 40),
        Grid(30, 40, None, (2.0, 0.0, 5.0, 0.0, -2.0, 7.0)),
        Grid(30, 40, "EPSG:4326", (1 / 3600, 0.0, 4.1, 0.0, -1 / 3600, 50.7)),
        Grid(30, 40, "EPSG:26914", (3.0, 4.0, 1e5 / 3, 4.0, -3.0, 1e6 / 7)),
        Grid(30, 40, "EPSG:32631", (10.0, 0.0, 574680.0, 0.0, 10.0, 5622440.0)),
        Grid(30, 40, "ESRI:54030", (10.0, 0.0, 574680.0, 0.0, -10.0, 5622440.0)),
        Grid(30, 40, LOCAL, (10.0, 0.0, 574680.0, 0.0, -10.0, 5622440.0)),
    ],
)
def test_any_georeference_is_kept_exactly(tmp_path, grid):
    classes, _ = written(tmp_path / "map.tif", grid)
    for path in (tmp_path / "map.tif", confidence_path(tmp_path / "map.tif")):
        with open_raster(path) as file:
            assert file.crs == (grid.crs and rasterio.crs.CRS.from_user_input(grid.crs))
            assert tuple(file.transform)[:6] == grid.transform
    with open_raster(tmp_path / "map.tif") as file:
        assert np.array_equal(file.read(1), classes) and category_names(file) == list(NAMES)


def test_the_georeference_of_a_real_image_is_kept_exactly(tmp_path):
    image = real_data("sentinel2_flanders") / "2018-08-04.tif"
    with rasterio.open(image) as source:
        grid = Grid(source.height, source.width, source.crs.to_string(), tuple(source.transform)[:6])
        written(tmp_path / "map.tif", grid)
        with rasterio.open(tmp_path / "map.tif") as file:
            assert (file.crs, file.transform, file.bounds) == (source.crs, source.transform, source.bounds)
    quicklook(
        image,
        tmp_path / "map.tif",
        COLOURS,
        tmp_path / "map.png",
        class_names=NAMES,
        confidence=confidence_path(tmp_path / "map.tif"),
    )
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size == (3 * 266 + 10, 10 + 10 + 16 + 256 + 10 + 16 + 10)


def test_a_map_is_a_label_raster(tmp_path):
    classes, _ = written(tmp_path / "map.tif")
    labels, problems = read_annotations(tmp_path / "map.tif", UTM, classes=NAMES)
    again = np.full_like(classes, 255)
    again[labels.rows, labels.columns] = labels.labels
    assert np.array_equal(again, classes) and problems == []
    assert labels.classes == NAMES and labels.colours == COLOURS


def test_what_is_not_written_is_nodata(tmp_path):
    with MapWriter(tmp_path / "map.tif", UTM, ["a"]) as writer:
        writer.write((2, 3, 4, 5), np.zeros((4, 5), int), np.ones((4, 5)))
    with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(tmp_path / "map_confidence.tif") as beside:
        assert (file.read(1) == 0).sum() == 20 and (file.read(1) == 255).sum() == 300 * 520 - 20
        assert np.nansum(beside.read(1)) == 20


def test_a_failed_run_leaves_what_was_there(tmp_path):
    def fails() -> None:
        with MapWriter(tmp_path / "map.tif", UTM, NAMES) as writer:
            writer.write((0, 0, 1, 1), np.zeros((1, 1), int), np.ones((1, 1)))
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fails()
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "map.tif")
    # As a viewer leaves it.
    (tmp_path / "map_confidence.tif.aux.xml").write_text("<PAMDataset/>")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="killed"):
        fails()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    written(tmp_path / "map.tif")
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "map.tif.aux.xml", "map_confidence.tif"}


@pytest.mark.parametrize(
    ("path", "grid", "names", "colours", "reason"),
    [
        ("map.png", UTM, NAMES, None, r"map\.png: a map is a GeoTIFF: end its name with \.tif"),
        ("map.tif", UTM, (), None, r"0 classes: a map holds 1\.\.255"),
        ("map.tif", UTM, [str(n) for n in range(256)], None, "256 classes"),
        ("map.tif", UTM, NAMES, COLOURS[:2], "2 colours for 3 classes"),
        ("map.tif", UTM, ("a",), [(1, 2, 256)], r"colour \(1, 2, 256\): give"),
        ("map.tif", UTM, ("a\x00",), None, r"class name 'a\\x00': give printable text"),
        ("map.tif", Grid(2, 2, "moon"), NAMES, None, r"map\.tif: unknown CRS 'moon'"),
    ],
)
def test_a_map_that_cannot_be(tmp_path, path, grid, names, colours, reason):
    with pytest.raises(ValueError, match=reason):
        MapWriter(tmp_path / path, grid, names, colours)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("window", "classes", "confidence", "reason"),
    [
        ((0, 519, 1, 2), np.zeros((1, 2), int), np.ones((1, 2)), "leaves the map of 300 x 520 pixels"),
        ((0, 0, 1, 2), np.zeros((2, 1), int), np.ones((1, 2)), r"classes \(2, 1\) and confidence \(1, 2\) for"),
        ((0, 0, 1, 2), np.array([[0, 3]]), np.ones((1, 2)), r"class 3 in .* give 0\.\.2, or 255"),
        ((0, 0, 1, 2), np.array([[0, -1]]), np.ones((1, 2)), "class -1"),
        ((0, 0, 1, 2), np.array([[0, 1]]), np.array([[0, 1.1]]), r"confidence 1\.1 in .*expected 0\.\.1"),
        ((0, 0, 1, 2), np.array([[0, 1]]), np.array([[0, np.nan]]), "confidence nan"),
    ],
)
def test_a_window_that_cannot_be_written(tmp_path, window, classes, confidence, reason):
    with MapWriter(tmp_path / "map.tif", UTM, NAMES) as writer, pytest.raises(ValueError, match=reason):
        writer.write(window, classes, confidence)


def test_colours_can_be_told_apart():
    colours = default_colours(255)
    assert colours == default_colours(255) and len(set(colours)) == 255
    assert colours[:2] == ((31, 119, 180), (255, 127, 14)) and default_colours(7) == colours[:7]
    assert default_colours(0) == ()
    near = np.abs(np.array(colours)[:, None] - np.array(colours)[None]).sum(-1) + 999 * np.eye(255, dtype=int)
    assert near[:40, :40].min() >= 45 and near.min() >= 15
    with pytest.raises(ValueError, match="-1 colours"):
        default_colours(-1)


def corner(picture: Image.Image, panel: int, step: int) -> tuple[int, ...]:
    return picture.getpixel((10 + panel * step + 1, 36 + 1))


def test_a_quicklook_shows_classes_in_their_colours(tmp_path):
    classes = np.array([[0, 255], [1, 2]])
    image = np.stack([np.array([[0.0, np.nan], [5.0, 10.0]])] * 4)
    confidence = np.array([[1.0, np.nan], [0.0, 0.5]])
    path = tmp_path / "new" / "q.png"
    quicklook(image, classes, COLOURS, path, class_names=NAMES, confidence=confidence)
    with Image.open(path) as picture:
        step = 2 * 128 + 10
        assert [corner(picture, panel, step) for panel in range(3)] == [(0, 0, 0), COLOURS[0], (8, 48, 107)]
        right = [picture.getpixel((10 + panel * step + 200, 37)) for panel in range(3)]
        assert right == [NO_DATA] * 3
        assert picture.getpixel((10 + 2 * step + 1, 36 + 200)) == (255, 255, 255)
        drawn = {colour for _, colour in picture.getcolors(10**6)}
        assert {*COLOURS, NO_DATA} <= drawn
    quicklook(image[:1], classes, COLOURS, tmp_path / "grey.png", class_names=NAMES)
    with Image.open(tmp_path / "grey.png") as picture:
        assert picture.width == 2 * step + 10


def test_a_large_scene_is_read_at_the_size_at_which_it_is_shown(tmp_path, monkeypatch):
    written(tmp_path / "map.tif")
    shapes = []
    reading = rasterio.io.DatasetReader.read

    class Watched(rasterio.io.DatasetReader):
        def read(self, *args, **kwargs):
            values = reading(self, *args, **kwargs)
            shapes.append(values.shape)
            return values

    monkeypatch.setattr(rasterio, "DatasetReader", Watched)
    with rasterio.open(
        tmp_path / "image.tif",
        "w",
        driver="GTiff",
        height=300,
        width=520,
        count=3,
        dtype="uint16",
        crs=UTM.crs,
        transform=Affine(*UTM.transform),
        nodata=0,
    ) as file:
        file.write(np.arange(3 * 300 * 520, dtype=np.uint16).reshape(3, 300, 520))
    files = tmp_path / "image.tif", tmp_path / "map.tif", COLOURS, tmp_path / "q.png"
    quicklook(*files, class_names=NAMES, confidence=confidence_path(tmp_path / "map.tif"), longest=52)
    assert shapes and {shape[1:] for shape in shapes} == {(30, 52)}


@pytest.mark.parametrize(
    ("image", "classes", "names", "bands", "reason"),
    [
        (np.zeros((3, 4, 5)), np.zeros((4, 6), int), NAMES, (0, 1, 2), "image has 4 x 5 pixels, its map 4 x 6"),
        (np.zeros((3, 4, 5)), np.full((4, 5), 3), NAMES, (0, 1, 2), r"map holds 3: 3 colours are for 0\.\.2"),
        (np.zeros((3, 4, 5)), np.zeros((4, 5), int), NAMES[:2], (0, 1, 2), "2 class names for 3 colours"),
        (np.zeros((3, 4, 5)), np.zeros((4, 5), int), NAMES, (0, 1, 3), r"bands = \(0, 1, 3\) of an image of 3 bands"),
    ],
)
def test_a_quicklook_that_cannot_be(tmp_path, image, classes, names, bands, reason):
    with pytest.raises(ValueError, match=reason):
        quicklook(image, classes, COLOURS, tmp_path / "q.png", class_names=names, bands=bands)


def test_no_warning_of_a_missing_georeference(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written(tmp_path / "map.tif", Grid(30, 40))
        quicklook(tmp_path / "map.tif", tmp_path / "map.tif", COLOURS, tmp_path / "q.png", class_names=NAMES)
        read_annotations(tmp_path / "map.tif", Grid(30, 40))
