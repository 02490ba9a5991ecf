"""Tiles of a scene with what lies around them, standardised as a method saw its training data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from miseg.data.labels.annotations import Annotations
from miseg.data.packed.moments import SMALLEST_DEVIATION
from miseg.data.raster.grid import Window
from miseg.data.raster.scenes import Scene
from miseg.data.samples import IGNORE_LABEL

TILE = 512
"""Pixels of a tile's side: two rows and columns of the blocks in which maps are stored."""

_MOST_TILES = 64


@dataclass(frozen=True)
class Tile:
    """A window of a scene and its surroundings.

    Attributes:
        images: float32 [1, C, h, w], standardised, 0 where not valid; the window and up to `margin` pixels around it,
            fewer at the scene's border.
        valid: bool [h, w].
        inner: rows and columns of the window in the above.
    """

    images: np.ndarray
    valid: np.ndarray
    inner: tuple[slice, slice]


@dataclass(frozen=True)
class StandardScene:
    """A scene with the statistics of its date. It can be sent to workers that see the same files.

    Attributes:
        scene: what is read.
        mean: C means over valid pixels.
        std: C deviations likewise, above 0.
    """

    scene: Scene
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def measure(cls, scene: Scene) -> StandardScene:
        """With the statistics of its valid pixels; of a scene of many tiles, those of 64 that are spread over it.

        Raises:
            ValueError: no valid pixel, or as `Scene.read`.
        """
        windows = list(scene.grid.windows(TILE))
        chosen = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), _MOST_TILES)).round().astype(int))
        count, total, squares = 0, np.zeros(len(scene.bands)), np.zeros(len(scene.bands))
        for index in chosen:
            values, valid = scene.read(windows[index])
            pixels = values[valid].astype(np.float64)
            count += len(pixels)
            total += pixels.sum(0)
            squares += (pixels**2).sum(0)
        if not count:
            raise ValueError(f"{scene.name}: no valid pixel (all cloud or without data): choose a clearer date")
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        # A constant band would be divided by 0; one stored step is the smallest deviation that it can show. Float has
        # none: of it the sidecar's last digit, as packing takes it.
        std = np.maximum(std, SMALLEST_DEVIATION if scene.full_scale == 1 else 1 / scene.full_scale)
        return cls(scene, tuple(mean.tolist()), tuple(std.tolist()))

    def tile(self, window: Window, margin: int) -> Tile:
        """The window with up to `margin` pixels around it.

        Raises:
            ValueError: as `Scene.read`.
        """
        row, column, height, width = window
        grid = self.scene.grid
        top, left = max(row - margin, 0), max(column - margin, 0)
        bottom, right = min(row + height + margin, grid.height), min(column + width + margin, grid.width)
        values, valid = self.scene.read((top, left, bottom - top, right - left))
        values = (values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        values[~valid] = 0
        images = np.ascontiguousarray(values.transpose(2, 0, 1))[None]
        return Tile(images, valid, (slice(row - top, row - top + height), slice(column - left, column - left + width)))

    def valid_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether pixels are valid, bool [n], for int64 [n] rows and columns inside the scene; reads their tiles."""
        valid = np.zeros(len(rows), bool)
        for (row, column, height, width), inside in self._tiles_of(rows, columns):
            _, clear = self.scene.read((row, column, height, width))
            valid[inside] = clear[rows[inside] - row, columns[inside] - column]
        return valid

    def examples(self, annotations: Annotations, margin: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each tile with a labelled pixel: images [1, C, h, w] and labels uint8 [1, h, w], 255 but there."""
        rows, columns = annotations.rows, annotations.columns
        for window, inside in self._tiles_of(rows, columns):
            tile = self.tile(window, margin)
            labels = np.full(tile.valid.shape, IGNORE_LABEL, np.uint8)
            down, right = (part.start for part in tile.inner)
            pixels = rows[inside] - window[0] + down, columns[inside] - window[1] + right
            labels[pixels] = annotations.labels[inside]
            yield tile.images, labels[None]

    def patches(self, rows: np.ndarray, columns: np.ndarray, side: int) -> np.ndarray:
        """The patches of `side` pixels, odd, around pixels of the scene: float32 [n, C, side, side], standardised.

        Beyond the scene's border they are reflected.

        Raises:
            ValueError: a scene smaller than a patch, or as `Scene.read`.
        """
        grid, border = self.scene.grid, side // 2
        if min(grid.height, grid.width) < side:
            raise ValueError(
                f"{self.scene.name}: {grid.height} x {grid.width} pixels are smaller than a patch of {side} a side"
            )
        patches = np.empty((len(rows), len(self.scene.bands), side, side), np.float32)
        for window, inside in self._tiles_of(rows, columns):
            row, column, height, width = window
            tile = self.tile(window, border)
            _, _, there, across = tile.images.shape
            up, left = border - tile.inner[0].start, border - tile.inner[1].start
            beyond = (up, height + 2 * border - there - up), (left, width + 2 * border - across - left)
            padded = np.pad(tile.images[0], ((0, 0), *beyond), mode="reflect")
            windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
            patches[inside] = windows[:, rows[inside] - row, columns[inside] - column].transpose(1, 0, 2, 3)
        return patches

    def _tiles_of(self, rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[Window, np.ndarray]]:
        for window in self.scene.grid.windows(TILE):
            row, column, height, width = window
            inside = (rows >= row) & (rows < row + height) & (columns >= column) & (columns < column + width)
            if inside.any():
                yield window, inside
