"""What a TIFF says of its pixels beside their numbers: where is up, which have no data, which are negative."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from miseg.data.checks import BadFileError
from miseg.data.folders.mask_files import read_mask
from miseg.data.folders.pixels import read_image, survey_images
from miseg.data.raster.pictures import StoredPixels, open_picture
from tests.data.folders.test_pixels import pixels_of, values
from tests.support.rasters import write_raster


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bits_are_turned_as_eight_are(orientation: int, tmp_path: Path) -> None:
    stored = values("uint8", 1)[..., 0]
    for name, array in (("8", stored), ("16", stored.astype(np.uint16) * 256)):
        Image.fromarray(array).save(tmp_path / f"{name}.tif", tiffinfo={0x0112: orientation})
    eight, sixteen = (
        pixels_of(read_image(path, survey_images([path])).image) for path in (tmp_path / "8.tif", tmp_path / "16.tif")
    )
    assert np.array_equal(sixteen, eight.astype(np.uint16) * 256)
    assert np.array_equal(eight[..., 0], stored) == (orientation == 1)
    mask = read_mask((tmp_path / "16.tif").read_bytes()).values
    assert np.array_equal(mask, sixteen[..., 0])


def test_no_map_of_a_file_that_is_to_be_turned(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values("uint16", 1)[..., 0]).save(path, tiffinfo={0x0112: 6})
    reason = "a.tif: TIFF orientation 6, and a map has"
    with pytest.raises(ValueError, match=reason), open_picture(path, 1, StoredPixels("uint16")):
        pass


def test_sixteen_bit_colours_with_an_exif_orientation_are_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.png", values("uint16", 3), driver="PNG")
    data = (tmp_path / "a.png").read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = exif.tobytes().removeprefix(b"Exif\0\0")
    whole = struct.pack(">I", len(chunk)) + b"eXIf" + chunk + struct.pack(">I", zlib.crc32(b"eXIf" + chunk))
    (tmp_path / "a.png").write_bytes(data[:33] + whole + data[33:])
    with pytest.raises(ValueError, match="EXIF orientation 6: turn it upright"):
        survey_images([tmp_path / "a.png"])


@pytest.mark.parametrize("bands", [1, 2])
def test_signed_bytes_are_numbers_below_0(bands: int, tmp_path: Path) -> None:
    array = np.arange(-60, 60, dtype=np.int8).reshape(12, 10, 1).repeat(bands, 2)
    path = write_raster(tmp_path / "a.tif", array)
    form = survey_images([path])
    assert (form.channels, form.dtype) == (bands, "float32")
    assert np.array_equal(pixels_of(read_image(path, form).image), array.astype(np.float32))


def test_a_signed_mask_keeps_its_signs(tmp_path: Path) -> None:
    array = np.array([[-1, 0], [1, 2]], np.int8)
    path = write_raster(tmp_path / "a.tif", array[..., None])
    assert np.array_equal(read_mask(path.read_bytes()).values, array)


def test_masks_that_declare_no_data_or_hold_smaller_copies_are_read(tmp_path: Path) -> None:
    for name, array in (("ids", values("uint8", 1, size=(40, 32))), ("colours", values("uint8", 3, size=(40, 32)))):
        path = write_raster(tmp_path / f"{name}.tif", array, nodata=0)
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2])
        assert np.array_equal(read_mask(path.read_bytes()).values, array.squeeze())


def test_a_mask_that_a_mask_of_its_own_leaves_out_in_part_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", values("uint8", 1))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(21 * 16).reshape(21, 16) > 6)
    with pytest.raises(BadFileError, match="leaves 7 pixels out: give these a value and name it with --ignore"):
        read_mask(path.read_bytes())


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_no_data_in_one_band_is_no_data(dtype: str, tmp_path: Path) -> None:
    array = (values("float32", 3) * 10).astype(dtype)
    array[:9, :, 2] = -9999
    path = write_raster(tmp_path / "a.tif", array, nodata=-9999)
    form = survey_images([path])
    assert form.full_scale < 1000 and form.nodata == 0
    read = read_image(path, form)
    assert read.valid is not None and not read.valid[:9].any() and read.valid[9:].all()
    with open_picture(path, 3, StoredPixels("float32", 0)) as picture:
        assert np.array_equal(picture.read((0, 0, *array.shape[:2]))[1], read.valid)


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_no_data_of_unsigned_numbers_is_in_all_bands(dtype: str, bands: int, tmp_path: Path) -> None:
    array = np.maximum(values(dtype, bands), 1)
    array[:9] = 0
    array[9, :, 0] = 0
    path = write_raster(tmp_path / "a.tif", array, nodata=0)
    read = read_image(path, survey_images([path]))
    assert read.valid is not None and not read.valid[:9].any() and read.valid[10:].all()
    assert read.valid[9].all() == (bands > 1), "a colour may hold 0 in one band"


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_file_s_own_mask_and_its_smaller_copies(dtype: str, bands: int, tmp_path: Path) -> None:
    array = np.abs(values(dtype, bands, size=(40, 32)))
    path = write_raster(tmp_path / "a.tif", array)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(path, "r+") as file:
        valid = np.full(array.shape[:2], 255, np.uint8)
        valid[:9] = 0
        file.write_mask(valid)
        file.build_overviews([2])
    form = survey_images([path])
    read = read_image(path, form)
    assert read.valid is not None and not read.valid[:9].any() and read.valid[9:].all()
    assert np.array_equal(pixels_of(read.image).reshape(array.shape)[9:], array[9:])
    with open_picture(path, bands, StoredPixels(dtype)) as picture:
        assert np.array_equal(picture.read((0, 0, *array.shape[:2]))[1], read.valid)
