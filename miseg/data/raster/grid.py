"""Grids: the size, the transform and the CRS of a raster's pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from miseg.json_values import parse

Window = tuple[int, int, int, int]
"""(row, column, height, width) in pixels of a part of a raster; rows and columns count from the upper left, from 0."""


@dataclass(frozen=True)
class Grid:
    """A raster's size and georeference.

    Attributes:
        height: rows H of pixels, at least 1.
        width: columns W of pixels, at least 1.
        crs: coordinate reference system as rasterio reads it ("EPSG:32631", WKT); None for a raster without one.
        transform: (a, b, c, d, e, f) of the affine map from (column, row) of a pixel's corner to (x, y) in the CRS:
            x = a · column + b · row + c, y = d · column + e · row + f. Without a CRS it is (1, 0, 0, 0, 1, 0).
    """

    height: int
    width: int
    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"a grid of {self.height} x {self.width} pixels: it has at least 1 x 1")
        a, b, _, d, e, _ = self.transform
        if a * e == b * d:
            raise ValueError(f"transform = {self.transform}: its pixels have no area")

    def part(self, window: Window) -> Grid:
        """The grid of a window, which lies inside this one.

        Raises:
            ValueError: the window is empty or reaches beyond the grid.
        """
        row, column, height, width = window
        if min(height, width) < 1 or not (0 <= row <= self.height - height and 0 <= column <= self.width - width):
            raise ValueError(
                f"window = {window} (row, column, height, width): it lies inside {self.height} x {self.width} pixels"
            )
        a, b, c, d, e, f = self.transform
        origin = (a * column + b * row + c, d * column + e * row + f)
        return Grid(height, width, self.crs, (a, b, origin[0], d, e, origin[1]))

    def windows(self, size: int) -> Iterator[Window]:
        """Windows of `size` x `size` pixels that cover the grid once, row by row; those at the far sides are smaller.

        Raises:
            ValueError: `size` below 1.
        """
        if size < 1:
            raise ValueError(f"windows of {size} pixels: use 1 or more")
        for row in range(0, self.height, size):
            for column in range(0, self.width, size):
                yield row, column, min(size, self.height - row), min(size, self.width - column)

    def to_json(self) -> str:
        """The grid as JSON text, as packed rows have it in `georeference`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Grid:
        """The grid that `to_json` wrote.

        Raises:
            ValueError: the text is not such JSON.
        """
        try:
            fields = parse(text)
            a, b, c, d, e, f = map(float, fields["transform"])
            return cls(int(fields["height"]), int(fields["width"]), fields["crs"], (a, b, c, d, e, f))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"georeference {text!r} is malformed ({error!r}): pack the data set again") from None
