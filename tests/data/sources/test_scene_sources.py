"""The real scenes under MISEG_DATA, packed; and Potsdam in a tree of its layout."""

import io
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from miseg.data.raster.grid import Grid
from miseg.data.raster.scene_files import SceneOptions, open_series
from miseg.data.samples import Rejection
from miseg.data.sources import potsdam
from miseg.data.sources.potsdam import LABELLED, UNLABELLED, Potsdam
from miseg.data.sources.registry import open_source
from miseg.data.sources.scenes import AERIAL, NaipLandcover, NaipSeries, Sentinel2Flanders
from tests.support.real_data import real_data
from tests.support.scene_layouts import place, raster, smooth


@pytest.fixture(scope="session")
def real() -> Path:
    return real_data()


def packed(source, folder, *splits):
    return PackedDataset.open(pack(source, folder, splits or source.available(), max_rejected=0).path)


def test_26_of_72_dates_are_clear(real):
    series = open_series(real / "sentinel2_flanders")
    assert len(series) == 72 and series.dates[0] == "2018-08-04"
    clear = [scene.read()[1].mean() > 0.97 for scene in series]
    assert sum(clear) == 26


def test_flanders(real, tmp_path):
    dataset = packed(Sentinel2Flanders(real / "sentinel2_flanders"), tmp_path / "out")
    assert dataset.info.classes == ("winter wheat", "maize", "winter barley", "sugar beet", "permanent grass")
    assert len(set(dataset.info.colours)) == 5 and (dataset.info.full_scale, dataset.info.nodata) == (10_000, 0)
    index = dataset.index("train")
    assert len(index) == len(dataset.info.dates["sentinel2-flanders"]) == 54 and len({row[1] for row in index}) == 1
    truth = rasterio.open(real / "sentinel2_flanders" / "labels_CT.tif").read(1)
    codes = np.array([1110, 1200, 1510, 8100, 9120])
    for number in range(0, 54, 9):
        row = dataset.read("train", number)
        with rasterio.open(real / "sentinel2_flanders" / f"{row.date}.tif") as file:
            stored, transform = file.read().transpose(1, 2, 0), file.transform
        image, mask = decode(row)
        seen = image.any(2)
        np.testing.assert_array_equal(image[seen], stored[seen])
        known = mask != 255
        np.testing.assert_array_equal(codes[mask[known]], truth[known])
        np.testing.assert_array_equal(known, seen & np.isin(truth, codes))
        grid = Grid.from_json(row.georeference)
        assert (
            grid.crs == "EPSG:32631"
            and grid.transform == tuple(transform)[:6]
            and (grid.height, grid.width) == (64, 64)
        )


@pytest.mark.slow
def test_flanders_in_two_halves(real, tmp_path):
    dataset = packed(Sentinel2Flanders(real / "sentinel2_flanders", halves=True), tmp_path / "out")
    assert set(dataset.info.dates) == {"sentinel2-flanders-west", "sentinel2-flanders-east"}
    west, east = (Grid.from_json(dataset.read(split, 0).georeference) for split in ("train", "val"))
    assert west.width == east.width == 32 and east.transform[2] == west.transform[2] + 320
    assert not {series for _, series, _ in dataset.index("train")} & {series for _, series, _ in dataset.index("val")}


@pytest.mark.slow
def test_naip_series_lies_on_one_grid(real, tmp_path):
    """The same place a fraction of a pixel apart: dates agree better once aligned than as they are stored."""
    dataset = packed(NaipSeries(real / "naip_series"), tmp_path / "out")
    places: dict[str, set] = {}
    for number, (name, series, date) in enumerate(dataset.index("train")):
        row = dataset.read("train", number)
        places.setdefault(series, set()).add((row.height, row.width, row.georeference))
        assert row.mask is None and name == f"train/{series}/{date}"
    assert dataset.size("train") == 120 and len(places) == 12 and all(len(found) == 1 for found in places.values())
    assert dataset.info.classes == () and len(dataset.info.dates["naip-series"]) == 10
    series = open_series(real / "naip_series", SceneOptions(bands=AERIAL))
    window = (200, 300, 256, 256)
    apart = series.at("2018-07-16")
    native = apart.on(Grid(724, 934, apart.grid.crs, (5.0, 0.0, 485902.0, 0.0, -5.0, 5209248.0)))
    reference = series.at("2010-06-29").read(window)[0][..., 3]
    aligned, stored = (scene.read(window)[0][..., 3] for scene in (apart, native))
    assert np.corrcoef(reference.ravel(), aligned.ravel())[0, 1] > np.corrcoef(reference.ravel(), stored.ravel())[0, 1]


def test_naip_landcover(real, tmp_path):
    dataset = packed(NaipLandcover(real / "naip_landcover"), tmp_path / "out")
    assert dataset.size("train") == 3 and dataset.info.channels == 4
    image, mask = decode(dataset.read("train", 0))
    assert np.unique(mask).tolist() == [1, 2, 4]
    np.testing.assert_array_equal(mask + 1, np.asarray(Image.open(real / "naip_landcover" / "patch_0_label.tif")))
    np.testing.assert_array_equal(image, np.asarray(Image.open(real / "naip_landcover" / "patch_0_RGBIR.tif")))


def test_a_damaged_date_is_left_out_and_named(real, tmp_path):
    folder = tmp_path / "sentinel2_flanders"
    folder.mkdir()
    for name in ("2019-07-05.tif", "2018-08-04.tif", "2018-08-04_SCL.tif", "labels_CT.tif"):
        shutil.copy(real / "sentinel2_flanders" / name, folder / name)
    (folder / "2019-07-05.tif").write_bytes((folder / "2019-07-05.tif").read_bytes()[:9000])
    found = list(Sentinel2Flanders(folder).samples("train"))
    (rejection,) = [one for one in found if isinstance(one, Rejection)]
    assert len(found) == 2 and rejection.file.endswith("2019-07-05.tif")
    assert "truncated or damaged" in rejection.reason


@pytest.mark.parametrize("name", ["sentinel2-flanders", "naip-series", "naip-landcover", "potsdam", "potsdam-3"])
def test_what_is_not_there(tmp_path, name):
    for source in (open_source(name, tmp_path / "nowhere"), open_source(name, tmp_path)):
        with pytest.raises(ValueError, match=r"--root.*MISEG_DATA"):
            source.available()


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    """Three labelled tiles and one without labels; most of each is never written, and takes no room."""
    root = tmp_path_factory.mktemp("isprs")
    part = np.random.default_rng(0).integers(0, 256, (400, 400, 4), dtype=np.uint8)
    colours = np.array([*potsdam.COLOURS, (0, 0, 0)], np.uint8)[np.random.default_rng(1).integers(0, 7, (400, 400))]
    for tile in ("2_10", "7_12", "6_7", "2_13"):
        sparse(root / "4_Ortho_RGBIR" / f"top_potsdam_{tile}_RGBIR.tif", 4, part)
        sparse(root / "5_Labels_all" / f"top_potsdam_{tile}_label.tif", 3, colours)
    return root


def sparse(path: Path, bands: int, part: np.ndarray, size: int = 6000) -> None:
    path.parent.mkdir(exist_ok=True)
    options = {"height": size, "width": size, "count": bands, "dtype": "uint8", "crs": "EPSG:32633", "compress": "lzw"}
    tiling = {"tiled": True, "blockxsize": 400, "blockysize": 400, "interleave": "pixel", "SPARSE_OK": True}
    with rasterio.open(path, "w", driver="GTiff", transform=place(0.05), **options, **tiling) as file:
        for column in range(0, size, 400):
            file.write(part.transpose(2, 0, 1), window=rasterio.windows.Window(column, 0, 400, 400))


def test_potsdam_chips(tiles):
    source = Potsdam(tiles)
    assert source.available() == ("train", "test", "unlabelled") and source.info.classes[5] == "clutter"
    image = rasterio.open(tiles / "4_Ortho_RGBIR" / "top_potsdam_2_10_RGBIR.tif").read(window=((0, 400), (0, 400)))
    label = rasterio.open(tiles / "5_Labels_all" / "top_potsdam_2_10_label.tif").read(window=((0, 400), (0, 400)))
    sample = next(islice(source.samples("train"), 1))
    assert sample.id.startswith("train/2_10/00-") and sample.image.shape == (200, 200, 4)
    mean = image.reshape(4, 200, 2, 200, 2).mean((2, 4)).transpose(1, 2, 0)
    assert np.abs(sample.image - mean).max() <= 0.5
    labels = decoded(sample.mask)
    for row, column in ((0, 0), (17, 101), (199, 199)):
        colour = tuple(label[:, 2 * row, 2 * column].tolist())
        assert labels[row, column] == (255 if colour == (0, 0, 0) else potsdam.COLOURS.index(colour))
    merged = decoded(next(islice(Potsdam(tiles, classes=3).samples("train"), 1)).mask)
    np.testing.assert_array_equal(merged, np.array([0, 1, 2, 2, 0, 1, *[255] * 250], np.uint8)[labels])
    grid = Grid.from_json(sample.georeference)
    assert grid.transform[0] == pytest.approx(0.1) and (grid.height, grid.width) == (200, 200)
    hidden = next(islice(source.samples("unlabelled"), 1))
    assert hidden.id.startswith("unlabelled/2_13/") and hidden.mask is None


def decoded(mask: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(mask)))


def test_the_parts_of_potsdam():
    assert len(set(LABELLED)) == 24 and len(set(UNLABELLED)) == 14 and not set(LABELLED) & set(UNLABELLED)
    drawn = potsdam.chips_for_test()
    assert len(drawn) == 855 and {tile for tile, _ in drawn} == set(LABELLED)
    assert {number for _, number in drawn} <= set(range(225))


def test_every_chip_of_potsdam_is_in_one_part(tiles, tmp_path):
    """Only the first row of chips has pictures: the others are black, which a chip of 8 bits may be."""
    for name in ("4_Ortho_RGBIR", "5_Labels_all"):
        (tmp_path / name).mkdir()
        for path in (tiles / name).glob("*_2_10_*"):
            shutil.copy(path, tmp_path / name)
    found = [sample.id for split in ("train", "test") for sample in Potsdam(tmp_path).samples(split)]
    assert len(found) == len(set(found)) == 225
    assert len({name.split("/", 1)[1] for name in found}) == 225


def test_bad_tiles_of_potsdam(tiles, tmp_path):
    root = Path(shutil.copytree(tiles, tmp_path / "bad"))
    (root / "5_Labels_all" / "top_potsdam_2_10_label.tif").unlink()
    wrong = np.full((400, 400, 3), 252, np.uint8)
    (root / "5_Labels_all" / "top_potsdam_6_7_label.tif").unlink()
    sparse(root / "5_Labels_all" / "top_potsdam_6_7_label.tif", 3, wrong)
    small = root / "4_Ortho_RGBIR" / "top_potsdam_7_12_RGBIR.tif"
    raster(small, smooth((20, 20), place()).astype(np.uint8))
    rejected = [one for one in Potsdam(root).samples("test") if isinstance(one, Rejection)]
    assert rejected[0].reason == "no label of tile 2_10: copy it from 5_Labels_all.zip"
    assert all("160000" not in r.reason and "(252, 252, 252)" in r.reason for r in rejected[1:-1])
    assert "(20, 20, 4, 'uint8')" in rejected[-1].reason and rejected[-1].file == str(small)
    with pytest.raises(ValueError, match="no labels in 5_Labels_all_noBoundary"):
        next(Potsdam(tiles, boundaries=False).samples("train"))
    with pytest.raises(ValueError, match="classes = 4"):
        Potsdam(tiles, classes=4)
    with pytest.raises(ValueError, match="split 'val': potsdam has train, test, unlabelled"):
        next(Potsdam(tiles).samples("val"))
