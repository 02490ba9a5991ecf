"""Where the pixels of a raster lie on the ground."""

from __future__ import annotations

from dataclasses import dataclass


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
