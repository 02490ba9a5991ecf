"""Georeferenced rasters, scenes and maps."""
