"""Sparse labels: points, lines, polygons and rasters, read, drawn and stored."""
