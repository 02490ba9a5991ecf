"""Images by window: the pixels that packing would store, also where they do not fit into memory, and resized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rasterio.enums import ColorInterp

from miseg.data.configs import Augmentation
from miseg.data.loading.augmentation import prepare
from miseg.data.raster import pictures
from miseg.data.raster.pictures import Resized, open_picture
from tests.support.scene_layouts import UTM, raster

SIZE = (45, 70)
WINDOWS = [(0, 0, 45, 70), (20, 30, 25, 40), (3, 0, 1, 7)]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def read(path: Path, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    with open_picture(path, channels) as picture:
        whole, valid = picture.read((0, 0, picture.grid.height, picture.grid.width))
        for row, column, height, width in WINDOWS:
            part, known = picture.read((row, column, height, width))
            place = slice(row, row + height), slice(column, column + width)
            assert np.array_equal(part, whole[place]) and np.array_equal(known, valid[place])
    assert whole.dtype == np.uint8 and valid.dtype == bool
    return whole, valid


@pytest.fixture(params=["whole", "by window"])
def either(request, monkeypatch) -> str:
    if request.param == "by window":
        monkeypatch.setattr(pictures, "SMALL", 0)
    return request.param


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_colours_are_what_is_stored(tmp_path, pixels, either, ending):
    path = tmp_path / f"image.{ending}"
    Image.fromarray(pixels[:9, :14]).resize((350, 225), Image.Resampling.BICUBIC).save(path)
    found, valid = read(path)
    difference = np.abs(found.astype(int) - np.asarray(Image.open(path)).astype(int))
    # Between GDAL's JPEG and PIL's lies how colours at half the resolution are enlarged.
    assert difference.mean() <= (1 if ending == "jpg" and either == "by window" else 0) and valid.all()


def test_grey_becomes_three_equal_channels(tmp_path, pixels, either):
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read(tmp_path / "grey.png")[0], np.repeat(pixels[..., :1], 3, 2))


def test_a_scene_says_where_it_has_data(tmp_path, pixels):
    pixels[:10, :20] = 0
    path = raster(tmp_path / "scene.tif", pixels, nodata=0)
    found, valid = read(path)
    assert np.array_equal(found, pixels) and np.array_equal(valid, pixels.any(2)) and not valid[:10, :20].any()
    with open_picture(path, 3) as picture:
        assert picture.grid.crs == UTM
    alpha = np.full((*SIZE, 1), 255, np.uint8)
    alpha[30:] = 0
    rgba = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    path = raster(tmp_path / "ortho.tif", np.concatenate([pixels, alpha], 2), colorinterp=rgba)
    found, valid = read(path)
    assert np.array_equal(found, pixels) and np.array_equal(valid, alpha[..., 0] > 0)
    # The same file for a model of four channels: the fourth may be the near infrared, whatever it is marked as.
    found, valid = read(path, channels=4)
    assert found.shape == (*SIZE, 4) and valid.all()


def test_what_is_no_such_image_is_named_with_the_mend(tmp_path, pixels, either):
    raster(tmp_path / "deep.tif", pixels.astype(np.uint16))
    raster(tmp_path / "two.tif", pixels[..., :2])
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_bytes(b"no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, said in {
        "deep.tif": r"deep\.tif: pixels of type uint16: the model was trained on 8 bits",
        "two.tif": r"two\.tif: 2 channels, the model takes 3",
        "cut.png": r"cut\.png: .*truncated or damaged",
        "text.png": r"text\.png: no raster",
        "empty.png": r"empty\.png: no raster",
        "none.png": r"none\.png: no such file",
    }.items():
        with pytest.raises(ValueError, match=said):
            read(tmp_path / name)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(20, 31), (45, 35), (90, 200), (45, 70)])
def test_windows_of_a_resized_picture_are_those_of_the_whole_resized(tmp_path, size, channels, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 256, (*SIZE, channels), dtype=np.uint8)
    path = raster(tmp_path / "image.tif", pixels)
    expected, _ = prepare(pixels, None, Augmentation(resize=size))
    monkeypatch.setattr(pictures, "SMALL", 500)
    with open_picture(path, channels) as picture:
        resized = Resized(picture, size)
        assert (resized.grid.height, resized.grid.width) == size
        for row, column in ((0, 0), (7, 5), (size[0] - 4, size[1] - 9)):
            height, width = min(13, size[0] - row), min(17, size[1] - column)
            found, valid = resized.read((row, column, height, width))
            part = expected[row : row + height, column : column + width]
            # PIL rounds sums of the same weights; where a sum lies between two levels it may be either.
            assert found.shape == part.shape and np.abs(found.astype(int) - part.astype(int)).max() <= 1
            assert (found != part).mean() < 0.02 and valid.shape == part.shape[:2] and valid.all()
