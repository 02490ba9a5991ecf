"""Reading scenes by window: values, validity, alignment."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from miseg.data.raster.grid import Grid
from miseg.data.raster.scene_files import BANDS_10M, SceneOptions, open_scene, open_series
from miseg.data.raster.scenes import Series
from tests.support.scene_layouts import UTM, place, raster, reflectances, smooth

AERIAL = SceneOptions(bands=("red", "green", "blue", "near infrared"))


def stack(path: Path, pixels: np.ndarray, **options) -> Path:
    return raster(path, pixels, options.pop("transform", None), descriptions=BANDS_10M, **options)


def test_a_window_is_that_part_of_the_whole(tmp_path):
    pixels = reflectances(0)
    scene = open_scene(stack(tmp_path / "2019-07-20.tif", pixels))
    values, valid = scene.read()
    assert values.dtype == np.float32 and valid.dtype == bool and valid.all() and values.flags.c_contiguous
    np.testing.assert_array_equal(values, pixels.astype(np.float32) / np.float32(10_000))
    part, _ = scene.read((3, 5, 7, 11))
    np.testing.assert_array_equal(part, values[3:10, 5:16])
    assert pickle.loads(pickle.dumps(scene)) == scene and scene.date == "2019-07-20" and scene.grid.crs == UTM


@pytest.mark.parametrize("window", [(-1, 0, 4, 4), (0, 28, 4, 4), (21, 0, 4, 4), (0, 0, 0, 4)])
def test_windows_beyond_the_scene(tmp_path, window):
    scene = open_scene(stack(tmp_path / "2019-07-20.tif", reflectances(0)))
    with pytest.raises(ValueError, match=r"window = .*it lies inside 24 x 30 pixels"):
        scene.read(window)


def test_what_is_not_valid(tmp_path):
    pixels = reflectances(1)
    pixels[2, 3] = 0  # nodata
    pixels[4, 5, 1] = 0  # dark in one band alone
    pixels[6, 7, 2] = 65_535  # saturated
    classes = np.full((24, 30), 4, np.uint8)
    classes[10, :13] = range(13)
    stack(tmp_path / "2019-07-20.tif", pixels)
    raster(tmp_path / "2019-07-20_SCL.tif", classes)
    values, valid = open_scene(tmp_path / "2019-07-20.tif").read()
    expected = np.ones((24, 30), bool)
    expected[2, 3] = expected[6, 7] = False
    expected[10, [0, 1, 2, 3, 8, 9, 10]] = False
    np.testing.assert_array_equal(valid, expected)
    assert not values[2, 3].any() and values[4, 5, 1] == 0 and values[10, 8].all()
    some = open_scene(tmp_path / "2019-07-20.tif", SceneOptions(masked=(9,)))
    assert (~some.read()[1]).sum() == 3


def test_nan_and_a_nodata_value_of_its_own(tmp_path):
    pixels = reflectances(2).astype(np.float32) / 10_000
    pixels[1, 2, 3] = np.nan
    pixels[5, 6] = -9999
    values, valid = open_scene(stack(tmp_path / "2019-07-20.tif", pixels, nodata=-9999)).read()
    assert (~valid).sum() == 2 and not valid[1, 2] and not valid[5, 6] and not values[~valid].any()
    np.testing.assert_array_equal(values[valid], pixels[valid])


def test_eight_bits_are_0_to_1(tmp_path):
    pixels = np.random.default_rng(3).integers(1, 256, (8, 9, 4), dtype=np.uint8)
    path = raster(tmp_path / "aerial.tif", pixels, crs=None)
    scene = open_scene(path, AERIAL)
    np.testing.assert_allclose(scene.read()[0], pixels / 255, rtol=1e-6)
    assert scene.date is None and scene.grid == Grid(8, 9)


@pytest.mark.parametrize(("right", "down"), [(3.0, -4.0), (-7.3, 2.1), (10.0, 20.0), (0.0, 0.0)])
def test_files_that_lie_a_little_apart_are_aligned(tmp_path, right, down):
    """Values that are linear on the ground are read the same whatever the origin and size of their file."""
    sizes, places = ((40, 50), (39, 51)), (place(), place(10, right, down))
    for day, size, transform in zip(("2019-07-20", "2019-07-25"), sizes, places, strict=True):
        stack(tmp_path / f"{day}.tif", smooth(size, transform).astype(np.float32), transform=transform)
    series = open_series(tmp_path)
    assert series.grid == Grid(40, 50, UTM, tuple(place())[:6]) and len(series) == 2
    (first, everywhere), (second, valid) = (scene.read() for scene in series)
    assert everywhere.all() and valid[3:-3, 3:-3].all()
    np.testing.assert_allclose(second[3:-3, 3:-3], first[3:-3, 3:-3], rtol=1e-5)
    assert not valid.all()
    part, part_valid = series.at("2019-07-25").read((5, 6, 20, 30))
    np.testing.assert_array_equal(part, second[5:25, 6:36])
    np.testing.assert_array_equal(part_valid, valid[5:25, 6:36])


def test_nodata_does_not_bleed_into_its_neighbours(tmp_path):
    transform = place(10, 3, 3)
    pixels = smooth((30, 30), transform).astype(np.uint16)
    pixels[10, 10] = 0
    stack(tmp_path / "2019-07-20.tif", smooth((30, 30), place()).astype(np.uint16))
    stack(tmp_path / "2019-07-25.tif", pixels, transform=transform)
    first, second = (scene.read() for scene in open_series(tmp_path))
    assert (~second[1][5:20, 5:20]).sum() == 1 and not second[1][10, 10]
    assert np.abs(second[0] - first[0])[5:20, 5:20][second[1][5:20, 5:20]].max() < 0.005


def test_a_fourth_band_marked_as_alpha_is_a_band(tmp_path):
    """GDAL would take it for the mask of the others; near infrared is 0 over water."""
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    for day, transform in (("20190720", place()), ("20200720", place(10, 3, 3))):
        pixels = (smooth((20, 20), transform) / 20).astype(np.uint8)
        pixels[..., 3] = 0
        raster(tmp_path / f"aerial_{day}.tif", pixels, transform, colorinterp=colours, photometric="RGB")
    (first, _), (second, valid) = (scene.read() for scene in open_series(tmp_path, AERIAL))
    assert valid[1:-1, 1:-1].all() and not second[..., 3].any()
    np.testing.assert_allclose(second[2:-2, 2:-2, 0], first[2:-2, 2:-2, 0], atol=1.1 / 255)


def test_masks_and_labels_keep_their_classes(tmp_path):
    """A classification at 20 m, a fraction of a pixel beside the bands, is read by nearest neighbour."""
    classes = np.full((12, 15), 4, np.uint8)
    classes[4:6, 4:6] = 9
    stack(tmp_path / "2019-07-20.tif", reflectances(4))
    raster(tmp_path / "2019-07-20_SCL.tif", classes, place(20, 4, -4))
    valid = open_scene(tmp_path / "2019-07-20.tif").read()[1]
    assert (~valid[6:14, 6:14]).sum() == 16 and not valid[8:12, 8:12].any()


def test_only_the_window_is_read(tmp_path):
    """A window costs the tiles that it touches, 2 MiB of a file of 39."""
    path = raster_of_tiles(tmp_path / "2019-07-20.tif", 10_000)
    scene = open_scene(path)
    before = bytes_read()
    values, valid = scene.read((5_000, 5_000, 256, 256))
    assert bytes_read() - before < 3 * 2**20 < 20 * 2**20 < path.stat().st_size
    assert valid.all() and values.shape == (256, 256, 4)


def raster_of_tiles(path: Path, size: int) -> Path:
    tile = reflectances(5, (256, 256)).transpose(2, 0, 1)
    options = {"height": size, "width": size, "count": 4, "dtype": "uint16", "crs": UTM, "transform": place()}
    tiling = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel", "SPARSE_OK": True}
    with rasterio.open(path, "w", driver="GTiff", **options, **tiling) as file:
        file.descriptions = BANDS_10M
        for row in range(4_864, 5_376, 256):
            for column in range(0, 9_984, 256):
                file.write(tile, window=Window(column, row, 256, 256))
    return path


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_another_crs_is_named(tmp_path):
    stack(tmp_path / "2019-07-20.tif", reflectances(0))
    stack(tmp_path / "2019-07-25.tif", reflectances(0), crs="EPSG:32632")
    with pytest.raises(ValueError, match=r"2019-07-25\.tif: its CRS is EPSG:32632.* EPSG:32631.*gdalwarp"):
        open_series(tmp_path)


def test_no_overlap_is_named(tmp_path):
    stack(tmp_path / "2019-07-20.tif", reflectances(0))
    stack(tmp_path / "2019-07-25.tif", reflectances(0), transform=place(10, 300, 0))
    with pytest.raises(ValueError, match=r"2019-07-25\.tif: it does not overlap"):
        open_series(tmp_path)


def test_another_resolution_is_named_and_resampled_on_demand(tmp_path):
    stack(tmp_path / "2019-07-20.tif", smooth((40, 40), place()).astype(np.float32))
    stack(tmp_path / "2019-07-25.tif", smooth((20, 20), place(20)).astype(np.float32), transform=place(20))
    with pytest.raises(ValueError, match=r"2019-07-25\.tif: pixels of 20 beside pixels of 10 .*resample=True"):
        open_series(tmp_path)
    first, second = (scene.read()[0] for scene in open_series(tmp_path, SceneOptions(resample=True)))
    np.testing.assert_allclose(second[4:-4, 4:-4], first[4:-4, 4:-4], rtol=1e-5)


def test_without_georeference_only_equal_sizes_go_together(tmp_path):
    for day, size in (("2019-07-20", (24, 30)), ("2019-07-25", (24, 30)), ("2019-07-30", (23, 30))):
        stack(tmp_path / f"{day}.tif", reflectances(0, size), crs=None)
    with pytest.raises(ValueError, match=r"2019-07-30\.tif: 23 x 30 pixels.* 24 x 30.*cannot be aligned"):
        open_series(tmp_path)
    (tmp_path / "2019-07-30.tif").unlink()
    assert open_series(tmp_path).scenes[1].read()[1].all()


def test_a_series_has_one_scene_a_date_and_one_set_of_bands(tmp_path):
    one = open_scene(stack(tmp_path / "2019-07-20.tif", reflectances(0)))
    again = open_scene(stack(tmp_path / "20190720_again.tif", reflectances(0)))
    with pytest.raises(ValueError, match=r"20190720_again and 2019-07-20 are both of 2019-07-20"):
        Series.align("place", [one, again])
    undated = open_scene(stack(tmp_path / "scene.tif", reflectances(0)))
    with pytest.raises(ValueError, match=r"scene\.tif: no date in its name or metadata"):
        Series.align("place", [undated])
    later = open_scene(stack(tmp_path / "2019-07-25.tif", reflectances(0)), SceneOptions(bands=("B08", "B04")))
    with pytest.raises(ValueError, match=r"2019-07-25: bands B08, B04, 2019-07-20 has B02, B03, B04, B08"):
        Series.align("place", [one, later])
    with pytest.raises(ValueError, match="no scene; give at least one"):
        Series.align("place", [])
    with pytest.raises(ValueError, match="place has no scene of 2020-01-01: use one of 2019-07-20"):
        Series.align("place", [one]).at("2020-01-01")


def test_a_grid_of_ones_own(tmp_path):
    pixels = reflectances(6)
    stack(tmp_path / "2019-07-20.tif", pixels)
    grid = Grid(10, 12, UTM, tuple(place(10, 40, 30))[:6])
    values, valid = open_series(tmp_path, grid=grid).scenes[0].read()
    np.testing.assert_array_equal(values, pixels[3:13, 4:16].astype(np.float32) / np.float32(10_000))
    assert valid.all()


def test_a_grid_as_json():
    grid = Grid(10, 12, UTM, tuple(place(10, 40.5, 30))[:6])
    assert Grid.from_json(grid.to_json()) == grid
    for text in ("", "{}", '{"height": 1, "width": 1, "crs": null, "transform": [1]}'):
        with pytest.raises(ValueError, match="is malformed"):
            Grid.from_json(text)
