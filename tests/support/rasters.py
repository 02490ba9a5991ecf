"""Raster files of arrays."""

from pathlib import Path

import numpy as np


def write_raster(path: Path, values: np.ndarray, **options: object) -> Path:
    """A GeoTIFF of values [H, W] or [H, W, C]; `options` are rasterio's."""
    # Not at the top: most tests need no rasters.
    import rasterio
    from rasterio.transform import Affine

    bands = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name}
    # Without a transform of its own every reader would warn.
    place = Affine(1, 0, 0, 0, -1, bands.shape[1])
    with rasterio.open(path, "w", **{"driver": "GTiff", "transform": place, **shape, **options}) as file:
        file.write(bands)
    return path
