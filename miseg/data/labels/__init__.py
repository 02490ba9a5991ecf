"""Sparse labels: points, lines, polygons and rasters, read, drawn and stored."""

from miseg.extras import require

require("geo", "miseg.data.labels", "PIL", "pyarrow", "rasterio")
