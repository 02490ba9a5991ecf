"""Own series, packed: bands in order, dates apart, clouds and no data, grids, types; what is wrong is said."""

import re
import shutil

import numpy as np
import pytest
import rasterio

from miseg.data.raster.grid import Grid
from miseg.data.samples import Rejection
from miseg.data.series.description import SeriesDescription, is_of_series, read_series, write_series
from miseg.data.series.report import report_on_series
from miseg.data.series.source import open_series_source
from tests.data.series.conftest import DAYS, by_date
from tests.support.scene_layouts import SafeTree, place, raster, reflectances, smooth

NAMES = ("B04", "B03", "B02", "B08")


def write_stacks(folder, named=True, kind=np.uint16, **options):
    """A stacked file a day; the pixels by day."""
    pixels = {}
    for number, day in enumerate(DAYS):
        pixels[day] = reflectances(number).astype(kind)
        raster(folder / f"{day}.tif", pixels[day], descriptions=NAMES if named else None, **options)
    return pixels


def test_bands_by_name_are_in_the_order_that_is_asked_for(tmp_path, packed):
    pixels = write_stacks(tmp_path / "scenes")
    # One date has its bands in another order: names count.
    raster(tmp_path / "scenes" / f"{DAYS[1]}.tif", pixels[DAYS[1]][..., ::-1], descriptions=NAMES[::-1])
    dataset = packed(bands=("B08", "B04", "B02"))
    assert dataset.info.bands == ("B08", "B04", "B02") and dataset.info.dtype == "uint16"
    for day, (image, mask) in by_date(dataset).items():
        np.testing.assert_array_equal(image, pixels[day][..., [3, 0, 2]])
        assert mask is None
    assert packed("all").info.bands == NAMES, "without --bands all that files name"


def test_bands_by_number_and_files_without_names(tmp_path, packed, opened):
    pixels = write_stacks(tmp_path / "scenes", named=False)
    for day, (image, _) in by_date(packed(bands=("4", "1"))).items():
        np.testing.assert_array_equal(image, pixels[day][..., [3, 0]])
    source = opened(bands=NAMES)
    assert "in their order: 1 B04, 2 B03, 3 B02, 4 B08" in "\n".join(source.sentences)
    for bands, reason in (
        ((), "does not name its 4 bands: name each"),
        (("B04", "B08"), r"4 bands without descriptions, 2 named .*--bands"),
        (("5",), "no band number 5: it has 4"),
        (("B04", "B04"), "--bands B04 B04: name each once"),
    ):
        with pytest.raises(ValueError, match=reason):
            opened(bands=bands)


def test_numbers_that_mean_other_bands_in_another_file(tmp_path, opened):
    pixels = write_stacks(tmp_path / "scenes")
    raster(tmp_path / "scenes" / f"{DAYS[1]}.tif", pixels[DAYS[1]][..., ::-1], descriptions=NAMES[::-1])
    source = opened(bands=("1", "2"))
    (rejection,) = source.rejections
    assert source.dates == (DAYS[0], DAYS[2]) and "bands B08, B02, those of the other dates are B04" in rejection.reason


@pytest.mark.parametrize("layout", ["flat", "folders"])
def test_files_of_one_band(tmp_path, packed, opened, layout):
    pixels = {day: reflectances(number) for number, day in enumerate(DAYS)}
    for day, values in pixels.items():
        stamp = day.replace("-", "")
        for name, plane in zip(("SR_B4", "SR_B3", "SR_B2", "SR_B5"), np.moveaxis(values, -1, 0), strict=True):
            file = f"LC08_L2SP_198025_{stamp}_20200827_02_T1_{name}.TIF" if layout == "flat" else f"{name}.tif"
            raster(tmp_path / "scenes" / ("" if layout == "flat" else stamp) / file, plane)
    for day, (image, _) in by_date(packed(bands=("B5", "B4"))).items():
        np.testing.assert_array_equal(image, pixels[day][..., [3, 0]])
    with pytest.raises(ValueError, match=r"no file of band B8 at 2019-07-20 \(there: B2, B3, B4, B5\)"):
        opened(bands=("B4", "B8"))
    with pytest.raises(ValueError, match=r"4 files of 2019-07-20: say which bands .*\(--bands\): B2, B3, B4, B5"):
        opened()


def test_safe_products_with_their_offset_and_clouds(tmp_path, packed):
    tree = SafeTree(tmp_path / "scenes")
    old, new = reflectances(1), reflectances(2)
    classes = np.full((12, 15), 4, np.uint8)
    classes[0, 0] = 9
    tree.add("20190720", pixels=old)
    tree.add("20220720", baseline="0400", pixels=new, classes=classes)
    images = by_date(packed(bands=("B08", "B04")))
    np.testing.assert_array_equal(images["2019-07-20"][0], old[..., [3, 2]])
    expected = new[..., [3, 2]].astype(int) - 1000
    expected[:2, :2] = 0
    np.testing.assert_array_equal(images["2022-07-20"][0], expected)


def test_masks_take_away_what_their_values_say_and_nothing_else(tmp_path, packed, opened):
    pixels = write_stacks(tmp_path / "scenes")
    codes = np.random.default_rng(0).integers(0, 5, (24, 30)).astype(np.uint8)
    for day in DAYS:
        # 0 is the file's nodata value, and means clear all the same.
        raster(tmp_path / "scenes" / f"{day}_mask.tif", codes, nodata=0)
    with pytest.raises(ValueError, match=r"which values are bad pixels\? .* holds .*%.*--mask-values"):
        opened(mask="{stem}_mask.tif")
    for folder, settings, bad in (
        ("values", {"mask_values": (1, 2)}, np.isin(codes, (1, 2))),
        ("bits", {"mask_bits": (1, 2)}, codes & 0b110 != 0),
    ):
        for day, (image, _) in by_date(packed(folder, mask="{stem}_mask.tif", **settings)).items():
            np.testing.assert_array_equal(image.any(2), ~bad)
            np.testing.assert_array_equal(image[~bad], pixels[day][~bad])
    with pytest.raises(ValueError, match=r"are both of 2019-07-20: .*where one is a mask, name it with --mask"):
        opened()
    (tmp_path / "scenes" / f"{DAYS[1]}_mask.tif").unlink()
    with pytest.raises(ValueError, match="no mask of 2019-07-25"):
        opened(mask="{stem}_mask.tif", mask_values=(1,))


def test_masks_by_date_in_a_folder_of_their_own_and_smaller_than_the_scene(tmp_path, packed):
    write_stacks(tmp_path / "scenes")
    for number, day in enumerate(DAYS):
        codes = np.zeros((24, 20), np.uint8)
        codes[number] = 7
        raster(tmp_path / "masks" / f"clouds_{day}.tif", codes)
    (tmp_path / "packed").mkdir()
    for pattern in ("masks/clouds_{date}.tif", str(tmp_path / "masks" / "*.tif")):
        for number, day in enumerate(DAYS):
            image = by_date(packed(f"{len(pattern)}", mask=pattern, mask_values=(7,)))[day][0]
            expected = np.ones((24, 30), bool)
            expected[number], expected[:, 20:] = False, False
            np.testing.assert_array_equal(image.any(2), expected, err_msg="outside a mask nothing is known to be clear")
    description = SeriesDescription("mine", ("scenes",), mask="masks/clouds_{date}.tif", mask_values=(7,))
    write_series(description, tmp_path / "packed" / "dataset.yaml", tmp_path)
    again = open_series_source(read_series(tmp_path / "packed" / "dataset.yaml"), tmp_path / "packed")
    assert [scene.mask for scene in again.scenes] == [tmp_path / "masks" / f"clouds_{day}.tif" for day in DAYS]


def test_scl_beside_the_scenes(tmp_path, packed, opened):
    write_stacks(tmp_path / "scenes")
    classes = np.full((24, 30), 4, np.uint8)
    classes[2, 3], classes[5, 5] = 8, 3
    raster(tmp_path / "scenes" / f"{DAYS[0]}_SCL.tif", classes, nodata=0)
    assert "2 dates have no SCL" in "\n".join(opened().sentences)
    images = by_date(packed())
    assert np.argwhere(~images[DAYS[0]][0].any(2)).tolist() == [[2, 3], [5, 5]] and images[DAYS[1]][0].any(2).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_types(tmp_path, packed, kind):
    rng = np.random.default_rng(3)
    pixels = {}
    for day in DAYS:
        values = rng.normal(0, 60, (24, 30, 2)) if np.dtype(kind).kind == "f" else rng.integers(-90, 90, (24, 30, 2))
        pixels[day] = (np.abs(values) + 1 if kind == np.uint8 else values).astype(kind)
        pixels[day][0, 0] = 0 if kind == np.uint8 else -9999
        pixels[day][0, 1] = (1, 2) if kind == np.uint8 else (5, -9999)
        pixels[day][3, 3] = 1 if kind == np.uint8 else 0
        raster(tmp_path / "scenes" / f"{day}.tif", pixels[day], nodata=0 if kind == np.uint8 else -9999)
    dataset = packed(bands=("vv", "vh"))
    assert dataset.info.dtype == ("uint8" if kind == np.uint8 else "float32")
    for day, (image, _) in by_date(dataset).items():
        valid = image.any(2)
        assert not valid[0, 0] and valid[3, 3] and (~valid).sum() == (1 if kind == np.uint8 else 2)
        np.testing.assert_allclose(image[valid], pixels[day][valid].astype(np.float32), atol=1e-29)
    moments = np.concatenate([pixels[day][by_date(dataset)[day][0].any(2)] for day in DAYS]).astype(float)
    np.testing.assert_allclose(np.array(dataset.info.mean) * dataset.info.full_scale, moments.mean(0), atol=1e-2)
    np.testing.assert_allclose(np.array(dataset.info.std) * dataset.info.full_scale, moments.std(0), atol=1e-2)


def test_a_files_own_mask_is_no_data(tmp_path, packed):
    write_stacks(tmp_path / "scenes")
    for day in DAYS:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(tmp_path / "scenes" / f"{day}.tif", "r+") as file,
        ):
            clear = np.full((24, 30), True)
            clear[4:6] = False
            file.write_mask(clear)
    for image, _ in by_date(packed()).values():
        np.testing.assert_array_equal(image.any(2), clear)


@pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (20.0, -30.0), (2.5, 4.0)])
def test_other_grids_are_brought_onto_one(tmp_path, opened, packed, right, down):
    """Values are linear in the place on the ground: each pixel says where it is from."""
    raster(tmp_path / "scenes" / f"{DAYS[0]}.tif", np.rint(smooth((24, 30), place())).astype(np.uint16))
    beside = place(10, right, down)
    raster(tmp_path / "scenes" / f"{DAYS[1]}.tif", np.rint(smooth((26, 33), beside)).astype(np.uint16), beside)
    images = by_date(packed(bands=NAMES))
    first, second = images[DAYS[0]][0].astype(int), images[DAYS[1]][0].astype(int)
    both = first.any(2) & second.any(2)
    # The outermost pixels are extrapolated by half a one.
    assert both.sum() > 500 and np.abs(first - second)[both][50:-50].max() <= (1 if right != 2.5 else 6)
    told = "\n".join(opened(bands=NAMES).sentences)
    assert ("interpolated bilinearly" in told) == (right == 2.5)
    grid = Grid.from_json(packed("again", bands=NAMES).read("train", 0).georeference)
    assert (grid.height, grid.width, grid.transform[2]) == (24, 30, place().c)


def test_a_date_that_reaches_beyond_the_first_is_told_and_can_be_the_grid(tmp_path, opened):
    raster(tmp_path / "scenes" / f"{DAYS[0]}.tif", reflectances(0, (12, 10)))
    raster(tmp_path / "scenes" / f"{DAYS[1]}.tif", reflectances(1, (12, 30)))
    assert f"1 date reaches beyond these pixels ({DAYS[1]} with 67% of its own)" in "\n".join(
        opened(bands=NAMES).sentences
    )
    assert opened(bands=NAMES, grid=DAYS[1]).scenes[0].grid.width == 30
    with pytest.raises(ValueError, match="--grid 2020-01-01: no date that can be used; there are 2019-07-20"):
        opened(bands=NAMES, grid="2020-01-01")


def test_odd_dates_are_left_out_and_named(tmp_path, opened):
    write_stacks(tmp_path / "scenes")
    folder = tmp_path / "scenes"
    raster(folder / "2019-06-01.tif", reflectances(9), place(20), descriptions=NAMES)
    raster(folder / "2019-06-02.tif", reflectances(9), descriptions=NAMES, crs="EPSG:32632")
    raster(folder / "2019-06-03.tif", reflectances(9), place(10, 9000), descriptions=NAMES)
    raster(folder / "2019-06-04.tif", reflectances(9).astype(np.float32) / 10_000, descriptions=NAMES)
    raster(folder / "2019-06-05.tif", reflectances(9)[..., :3], descriptions=NAMES[:3])
    (folder / "2019-06-06.tif").write_bytes((folder / f"{DAYS[0]}.tif").read_bytes()[:500])
    raster(folder / "labels.tif", reflectances(9, bands=1))
    source = opened(bands=NAMES)
    assert source.dates == DAYS and "no date in their names: labels.tif" in "\n".join(source.sentences)
    reasons = {rejection.file[-14:-4]: rejection.reason for rejection in source.rejections}
    for day, reason in {
        "2019-06-01": "pixels of 20 beside pixels of 10",
        "2019-06-02": "its CRS is EPSG:32632",
        "2019-06-03": "does not overlap",
        "2019-06-04": "pixels of float32, those of the other dates are uint16",
        "2019-06-05": "no band B08 (there: B04, B03, B02): ask for others (--bands)",
        "2019-06-06": "truncated or damaged",
    }.items():
        assert reason in reasons.pop(day)
    assert not reasons and sum(isinstance(sample, Rejection) for sample in source.samples("train")) == 6


def test_a_date_that_is_damaged_in_its_midst(tmp_path, opened):
    write_stacks(tmp_path / "scenes", compress="deflate")
    path = tmp_path / "scenes" / f"{DAYS[1]}.tif"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 900] = b"\xaa" * 900
    path.write_bytes(data)
    samples = list(opened().samples("train"))
    assert [type(sample) is Rejection for sample in samples].count(True) == 1 and len(samples) == 3


def test_a_description_packs_the_same_bytes(tmp_path, packed):
    for number, day in enumerate(DAYS):
        raster(tmp_path / "scenes" / f"{day}.tif", reflectances(number, (24, 40)), descriptions=NAMES)
    settings = {"bands": ("B08", "B04"), "grid": DAYS[1], "seed": 3, "split": (0.4, 0.6)}
    first = packed(**settings)
    path = tmp_path / "elsewhere" / "dataset.yaml"
    path.parent.mkdir()
    write_series(SeriesDescription("mine", ("scenes",), **settings), path, tmp_path)
    assert is_of_series(path) and read_series(path).series == (str(tmp_path / "scenes"),)
    again = open_series_source(read_series(path), path.parent)
    rows = [sample for split in first.splits for sample in again.samples(split)]
    for split in first.splits:
        images = [sample.image for sample in rows if sample.split == split]
        for index, (_, _, day) in enumerate(first.index(split)):
            np.testing.assert_array_equal(images[index], by_date(first, split)[day][0])
    path.write_text("series: a\nbandz: [1]\n")
    with pytest.raises(ValueError, match="key 'bandz' is unknown: did you mean bands"):
        read_series(path)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"series": ("nowhere",)}, "--series nowhere: no such file or folder; .* holds "),
        ({"series": ("scenes/*.jp2",)}, r"--series scenes/\*\.jp2: matches nothing"),
        ({"series": ("undated",)}, "no date in the names a.tif, b.tif: rename them"),
        ({"series": ("empty",)}, "no GeoTIFF, no JPEG 2000 and no SAFE product there"),
        ({"series": ("netcdf",)}, "holds cube.nc, and GeoTIFF and JPEG 2000 are read"),
        ({"date_format": "%d-%m-%Y"}, "--date-format %d-%m-%Y: finds no date in"),
        ({"bands": ("B04", "B11")}, r"no band B11 \(there: B04, B03, B02, B08\): ask for others \(--bands\)"),
        ({"series": ("far",), "bands": NAMES}, None),
        ({"labels": "nowhere.tif"}, "--labels nowhere.tif: no such file"),
        ({"classes": ("a",)}, "--classes is of labels"),
        ({"mask_values": (1,)}, "are of masks: name those with --mask"),
        ({"split": (0.7, 0.7)}, "--split 0.7 0.7: give the shares"),
        ({"seed": -1}, "--seed -1: use 0 or more"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, opened, settings, reason):
    write_stacks(tmp_path / "scenes")
    raster(tmp_path / "undated" / "a.tif", reflectances(0))
    shutil.copy(tmp_path / "undated" / "a.tif", tmp_path / "undated" / "b.tif")
    for name in ("empty", "netcdf"):
        (tmp_path / name).mkdir()
    (tmp_path / "netcdf" / "cube.nc").write_bytes(b"CDF")
    if "labels" in settings:
        settings = {"labels": tmp_path.__class__(settings["labels"])}
    raster(tmp_path / "far" / "20190720.tif", reflectances(0))
    raster(tmp_path / "far" / "20190721.tif", reflectances(0), place(10, 9000))
    if reason is None:
        assert "does not overlap" in opened(**settings).rejections[0].reason
        return
    with pytest.raises(ValueError, match=reason) as raised:
        opened(**settings)
    assert "\n" not in str(raised.value)


def report(dataset, source):
    return "\n".join(report_on_series(__import__("pathlib").Path(dataset.uri), source))


def test_the_report_says_what_looks_wrong(tmp_path, packed, opened):
    pixels = write_stacks(tmp_path / "scenes")
    text = report(packed(), opened())
    assert "look at this" not in text and "3 of 3 dates have at least 50% usable pixels" in text
    for day in DAYS:
        mean = f"{pixels[day][..., 3].mean():.0f}"
        assert re.search(rf"{day}\s+100\.0 %.*\s{mean}$", text, re.MULTILINE)
    raster(tmp_path / "scenes" / "2019-09-01.tif", pixels[DAYS[0]], descriptions=NAMES)
    raster(tmp_path / "scenes" / "2019-09-02.tif", pixels[DAYS[0]] // 100, descriptions=NAMES)
    for day in ("2022-03-01", "2022-03-06", "2022-03-11"):
        raster(tmp_path / "scenes" / f"{day}.tif", pixels[DAYS[1]] + 1000 + int(day[-2:]), descriptions=NAMES)
    text = report(packed("wrong"), opened())
    assert "2019-07-20 and 2019-09-01 hold the same pixels" in text
    assert re.search(r"2019-09-02: every band's mean is 0\.0\d+ times", text)
    assert "processing baseline 04.00 adds 1000" in text


def test_masks_the_wrong_way_round_are_told(tmp_path, packed, opened):
    write_stacks(tmp_path / "scenes")
    codes = np.zeros((24, 30), np.uint8)
    codes[:1] = 1
    for day in DAYS:
        raster(tmp_path / "scenes" / f"{day}_mask.tif", codes)
    settings = {"mask": "{stem}_mask.tif", "mask_values": (0,)}
    text = report(packed(**settings), opened(**settings))
    assert "no date has 5% usable pixels: see that masks name the bad pixels" in text


def test_values_that_mean_no_data_but_are_not_declared(tmp_path, packed, opened):
    for day in DAYS:
        values = np.random.default_rng(1).normal(0, 1, (24, 30, 1)).astype(np.float32)
        values[0] = -9999
        raster(tmp_path / "scenes" / f"{day}.tif", values)
    assert "90 pixels hold -9999, which looks like no data" in report(packed(), opened())
