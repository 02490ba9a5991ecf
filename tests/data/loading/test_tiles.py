"""Tiles of scenes: standardised windows with what lies around them, and the labelled pixels in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miseg.data.labels.annotations import Annotations
from miseg.data.loading import tiles
from miseg.data.loading.tiles import StandardScene
from miseg.data.raster.scene_files import SceneOptions, open_scene
from tests.support.scene_layouts import raster, reflectances

SIZE = (24, 30)
OPTIONS = SceneOptions(bands=("B04", "B03", "B02", "B08"))


@pytest.fixture
def stored() -> np.ndarray:
    pixels = reflectances(0, SIZE)
    pixels[5:8, 10:14] = 0
    return pixels


@pytest.fixture
def scene(tmp_path: Path, stored: np.ndarray) -> StandardScene:
    path = raster(tmp_path / "2019-07-20.tif", stored)
    classes = np.full(SIZE, 4, np.uint8)
    classes[20:, 25:] = 9
    raster(tmp_path / "2019-07-20_SCL.tif", classes)
    return StandardScene.measure(open_scene(path, OPTIONS))


def clear(stored: np.ndarray) -> np.ndarray:
    valid = stored.any(2)
    valid[20:, 25:] = False
    return valid


def test_statistics_are_of_the_valid_pixels(scene, stored):
    pixels = stored[clear(stored)] / 1e4
    np.testing.assert_allclose(scene.mean, pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scene.std, pixels.std(0), rtol=1e-4)


@pytest.mark.parametrize("window", [(0, 0, 24, 30), (4, 8, 6, 5), (0, 25, 3, 5), (20, 0, 4, 2)])
def test_a_tile_is_the_window_with_its_margin(scene, stored, window):
    row, column, height, width = window
    tile = scene.tile(window, margin=4)
    whole = np.where(clear(stored)[..., None], (stored / 1e4 - scene.mean) / scene.std, 0)
    top, left = max(row - 4, 0), max(column - 4, 0)
    around = whole[top : row + height + 4, left : column + width + 4]
    np.testing.assert_allclose(tile.images[0].transpose(1, 2, 0), around, atol=1e-3)
    inner = tile.images[0][:, *tile.inner].transpose(1, 2, 0)
    np.testing.assert_allclose(inner, whole[row : row + height, column : column + width], atol=1e-3)
    assert np.array_equal(tile.valid[tile.inner], clear(stored)[row : row + height, column : column + width])


def test_labelled_pixels_keep_their_place(scene, stored, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 8)
    rows, columns = np.array([0, 7, 8, 23, 12]), np.array([0, 15, 16, 29, 3])
    labels = np.array([0, 1, 2, 0, 1])
    annotations = Annotations(rows, columns, labels, ("a", "b", "c"), ("points.csv",), np.zeros(5, np.int64))
    whole = scene.tile((0, 0, *SIZE), 0).images
    found = []
    for images, sparse in scene.examples(annotations, margin=3):
        for row, column in zip(*np.nonzero(sparse[0] != 255), strict=True):
            found.append((tuple(images[0, :, row, column]), int(sparse[0, row, column])))
    expected = [
        (tuple(whole[0, :, row, column]), int(label)) for row, column, label in zip(rows, columns, labels, strict=True)
    ]
    assert sorted(found) == sorted(expected)
    assert np.array_equal(scene.valid_at(rows, columns), clear(stored)[rows, columns])
    assert not scene.valid_at(np.array([6, 22]), np.array([11, 27])).any()


def test_a_scene_without_a_valid_pixel_is_named(tmp_path):
    path = raster(tmp_path / "2019-07-20.tif", np.zeros((*SIZE, 4), np.uint16))
    with pytest.raises(ValueError, match=r"2019-07-20.*no valid pixel"):
        StandardScene.measure(open_scene(path, OPTIONS))
