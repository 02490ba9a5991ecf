"""Scenes from the layouts in which they are published."""

import shutil

import numpy as np
import pytest

from miseg.data.raster import sentinel2
from miseg.data.raster.scene_files import SceneOptions, open_scene, open_series
from tests.support.scene_layouts import BANDS_10M, SafeTree, offsets, place, raster, reflectances


@pytest.fixture
def safe(tmp_path):
    return SafeTree(tmp_path / "products")


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("2019-07-20", "2019-07-20"),
        ("20190720", "2019-07-20"),
        ("T31UES_20190720T105031_B02_10m", "2019-07-20"),
        ("S2A_MSIL2A_20190720T105031_N0213_R051_T31UES_20190801T135643.SAFE", "2019-07-20"),
        ("m_4709963_se_14_1_20090818", "2009-08-18"),
        ("aerial_2019_07_20_rgb", "2019-07-20"),
        ("4709963", None),
        ("20191320", None),
        ("201907201", None),
        ("2019-0720", None),
        ("patch_0_RGBIR", None),
    ],
)
def test_dates_in_names(name, date):
    assert sentinel2.date_in(name) == date


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_safe_products(safe, level):
    pixels = reflectances(1)
    product = safe.add(level=level, pixels=pixels)
    scene = open_scene(product)
    assert scene.date == "2019-07-20" and scene.name == product.name
    assert [band.name for band in scene.bands] == list(BANDS_10M) and scene.full_scale == 10_000
    values, valid = scene.read()
    np.testing.assert_array_equal(values, pixels.astype(np.float32) / np.float32(10_000))
    assert valid.all() and (scene.mask is not None) == (level == "L2A")
    two = open_scene(product, SceneOptions(bands=("B08", "B02"))).read((2, 3, 5, 7))[0]
    np.testing.assert_array_equal(two, values[2:7, 3:10][..., [3, 0]])


def test_clouds_of_a_safe_product(safe):
    classes = np.full((12, 15), 4, np.uint8)
    classes[3, 4], classes[5, 6] = 9, 1
    valid = open_scene(safe.add(classes=classes)).read()[1]
    assert not valid[6:8, 8:10].any() and not valid[10:12, 12:14].any() and (~valid).sum() == 8


@pytest.mark.parametrize(
    ("level", "day", "baseline", "metadata", "offset"),
    [
        ("L2A", "20220720", "0400", offsets("BOA_ADD_OFFSET"), -1000),
        ("L1C", "20220720", "0400", offsets("RADIO_ADD_OFFSET"), -1000),
        ("L2A", "20190720", "0500", offsets("BOA_ADD_OFFSET"), -1000),  # reprocessed
        ("L2A", "20220720", "0400", offsets("BOA_ADD_OFFSET", -900), -900),
        ("L2A", "20220720", "0509", "", -1000),  # metadata without a list: the baseline
        ("L2A", "20220720", "0510", None, -1000),  # no metadata: the baseline in the name
        ("L2A", "20220120", "0301", "", 0),
        ("L1C", "20190720", "0208", None, 0),
    ],
)
def test_the_offset_of_2022(safe, level, day, baseline, metadata, offset):
    pixels = reflectances(2)
    pixels[4, 5] = 0
    values, valid = open_scene(safe.add(day, level, baseline, pixels, metadata=metadata)).read()
    expected = (pixels.astype(np.float32) + offset) / np.float32(10_000)
    expected[4, 5] = 0
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert (~valid).sum() == 1 and not valid[4, 5]


def test_metadata_give_the_quantification_and_the_date(safe):
    metadata = offsets("BOA_ADD_OFFSET").replace(">10000<", ">20000<")
    product = safe.add("20220720", baseline="0400", metadata=metadata)
    assert open_scene(product).full_scale == 20_000
    renamed = product.rename(product.parent / "scene")
    for path in sorted(renamed.rglob("*.jp2")):
        path.rename(path.with_name(path.name.replace("20220720T105031_", "")))
    assert open_scene(renamed).date == "2022-07-20"


def test_single_bands_of_2022_without_metadata_ask_for_the_offset(tmp_path):
    folder, pixels = tmp_path / "2022-07-20", reflectances(3)
    for band, values in zip(BANDS_10M, np.moveaxis(pixels, -1, 0), strict=True):
        raster(folder / f"{band}.tif", values)
    with pytest.raises(ValueError, match=r"B02\.tif: of 2022-07-20.*offset=-1000, or offset=0"):
        open_scene(folder)
    for offset in (-1000, 0):
        values = open_scene(folder, SceneOptions(offset=offset)).read()[0]
        np.testing.assert_allclose(values, (pixels.astype(np.float32) + offset) / 10_000, rtol=1e-6)


@pytest.mark.parametrize("ending", ["jp2", "tif"])
def test_single_band_files_side_by_side(tmp_path, ending):
    pixels = {day: reflectances(int(day)) for day in ("20190725", "20190720")}
    for day, values in pixels.items():
        for band, plane in zip(BANDS_10M, np.moveaxis(values, -1, 0), strict=True):
            raster(tmp_path / f"T31UES_{day}T105031_{band}_10m.{ending}", plane)
    raster(tmp_path / f"T31UES_20190720T105031_SCL_20m.{ending}", np.full((12, 15), 8, np.uint8), place(20))
    series = open_series(tmp_path, name="field")
    assert series.name == "field" and series.dates == ("2019-07-20", "2019-07-25")
    assert [scene.read()[1].mean() for scene in series] == [0, 1]
    np.testing.assert_array_equal(np.rint(series.at("2019-07-25").read()[0] * 10_000), pixels["20190725"])


def test_a_series_of_safe_products_and_one_of_folders(safe, tmp_path):
    for day in ("20190725", "20190720"):
        safe.add(day)
        for band, plane in zip(BANDS_10M, np.moveaxis(reflectances(int(day)), -1, 0), strict=True):
            raster(tmp_path / "folders" / day / f"{band}.tif", plane)
    products, folders = open_series(safe.root), open_series(tmp_path / "folders")
    assert products.dates == folders.dates == ("2019-07-20", "2019-07-25")
    for product, folder in zip(products, folders, strict=True):
        np.testing.assert_array_equal(product.read()[0], folder.read()[0])


def test_stacks_take_their_order_from_their_descriptions(tmp_path):
    pixels = reflectances(4)
    path = raster(tmp_path / "2022-07-20.tif", pixels, descriptions=("B04", "B03", "B02", "B08"))
    np.testing.assert_array_equal(np.rint(open_scene(path).read()[0] * 10_000), pixels[..., [2, 1, 0, 3]])
    shifted = open_scene(path, SceneOptions(offset=-1000, full_scale=5_000)).read()[0]
    np.testing.assert_allclose(shifted, (pixels[..., [2, 1, 0, 3]].astype(np.float32) - 1000) / 5_000, rtol=1e-6)
    with pytest.raises(ValueError, match=r"2022-07-20\.tif: no band B05 \(there: B04, B03, B02, B08\)"):
        open_scene(path, SceneOptions(bands=("B02", "B05")))


def test_stacks_without_descriptions_want_every_band_named(tmp_path):
    path = raster(tmp_path / "scene.tif", reflectances(5), tags={"TIFFTAG_DATETIME": "2019:07:20 10:50:31"})
    with pytest.raises(ValueError, match=r"its 4 bands have no descriptions: .*bands="):
        open_scene(path)
    with pytest.raises(ValueError, match=r"4 bands without descriptions, 3 named \(B02, B03, B04\)"):
        open_scene(path, SceneOptions(bands=("B02", "B03", "B04")))
    scene = open_scene(path, SceneOptions(bands=("B08", "B04", "B03", "B02")))
    assert scene.date == "2019-07-20" and scene.bands[0].name == "B08" and scene.bands[0].number == 1


@pytest.mark.parametrize("bands", [(), ("B02", "B02")])
def test_options_that_make_no_sense(bands):
    with pytest.raises(ValueError, match="name at least one, each once"):
        SceneOptions(bands=bands)


def test_full_scale_is_above_0():
    with pytest.raises(ValueError, match="full_scale = 0"):
        SceneOptions(full_scale=0)


def test_a_missing_band_is_named(safe):
    product = safe.add()
    next(product.rglob("*_B04_10m.jp2")).unlink()
    with pytest.raises(ValueError, match=r"SAFE: no file of band B04 \(there: B02, B03, B05, B08\)"):
        open_scene(product)


def test_a_mixed_resolution_set_is_refused_or_resampled(safe):
    product = safe.add()
    options = SceneOptions(bands=("B02", "B05"))
    with pytest.raises(ValueError, match=r"B05_20m\.jp2: pixels of 20 beside pixels of 10 .*resample=True"):
        open_scene(product, options)
    values, valid = open_scene(product, SceneOptions(bands=("B02", "B05"), resample=True)).read()
    assert values.shape == (24, 30, 2) and valid.all()
    assert open_scene(product, SceneOptions(bands=("B05",))).grid.height == 12


def test_bands_of_another_place_are_named(tmp_path):
    for band, right in zip(BANDS_10M, (0, 0, 0, 1000), strict=True):
        raster(tmp_path / "2019-07-20" / f"{band}.tif", reflectances(0, bands=1), place(10, right))
    with pytest.raises(ValueError, match=r"B08\.tif: it does not overlap"):
        open_scene(tmp_path / "2019-07-20")


@pytest.mark.parametrize("keep", [0.5, 0.9, 20])
@pytest.mark.parametrize("ending", ["jp2", "tif"])
def test_truncated_files_are_named(tmp_path, ending, keep):
    pixels = np.random.default_rng(0).integers(1, 10_000, (300, 300, 1), dtype=np.uint16)
    path = raster(tmp_path / "2019-07-20" / f"B02.{ending}", pixels)
    data = path.read_bytes()
    path.write_bytes(data[: keep if keep > 1 else int(len(data) * keep)])
    with pytest.raises(ValueError, match=rf"B02\.{ending}: no raster, truncated or damaged \(.+\): copy or export"):
        open_scene(path.parent, SceneOptions(bands=("B02",))).read()


def test_several_bands_in_a_file_named_after_one(tmp_path):
    raster(tmp_path / "2019-07-20" / "B02.tif", reflectances(0))
    with pytest.raises(ValueError, match=r"B02\.tif: 4 bands in a file named after one"):
        open_scene(tmp_path / "2019-07-20", SceneOptions(bands=("B02",)))


def test_what_is_not_there(tmp_path, safe):
    with pytest.raises(ValueError, match=r"nowhere\.tif: no such file"):
        open_scene(tmp_path / "nowhere.tif")
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        open_series(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no SAFE folder and no raster with a date"):
        open_series(tmp_path)
    product = safe.add()
    shutil.rmtree(next((product / "GRANULE").iterdir()))
    with pytest.raises(ValueError, match="one granule with IMG_DATA/ is expected, found none"):
        open_scene(product)


@pytest.mark.parametrize("text", ["", "<a>", '<a><BOA_ADD_OFFSET band_id="99">1</BOA_ADD_OFFSET></a>'])
def test_damaged_metadata_are_named(safe, text):
    product = safe.add()
    (product / "MTD_MSIL2A.xml").write_text(text)
    with pytest.raises(ValueError, match=r"MTD_MSIL2A\.xml: no Sentinel-2 metadata, truncated or damaged"):
        open_scene(product)
