"""Labels in a raster: a GeoTIFF or PNG that holds a class number a pixel."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from miseg.data.labels.marks import Mark, class_name
from miseg.data.raster.grid import Grid
from miseg.data.raster.raster_files import Colour, category_names, class_colours, known_crs, mapped
from miseg.data.raster.rasters import open_raster
from miseg.data.samples import IGNORE_LABEL

_PIXELS_AT_ONCE = 2**22
_SAME_GRID = 1e-3  # pixels


def read_label_raster(path: Path, grid: Grid) -> tuple[list[Mark], dict[str, Colour]]:
    """One mark a class, and the classes' colours where the file has a colour table.

    Unlabelled are 0 (unless the file declares another nodata value and names 0 as a class), the nodata value, and 255
    in a raster of 8 bits that does not name it. A raster with a CRS that lies otherwise than the image is aligned with
    it by nearest neighbour; what lies outside the image is left out. It is read in strips.

    Args:
        path: a raster of one band of whole numbers.
        grid: the image's.

    Raises:
        ValueError: no raster, a truncated one, several bands, a negative or broken number, more than 255 classes, a
            size that differs where nothing tells how the two lie, an unknown CRS.
    """
    with open_raster(path) as source:
        if source.count != 1:
            raise ValueError(f"{path}: {source.count} bands: save class numbers as a single band")
        if source.driver == "JPEG":
            raise ValueError(f"{path}: JPEG compression alters labels: save them as PNG or GeoTIFF")
        names = category_names(source)
        unlabelled = _unlabelled(source, names)
        colours = class_colours(source)
        if _same_grid(source, grid, path):
            by_value = _pixels(source, unlabelled, path)
        else:
            fill = min(unlabelled) if source.nodata is None or np.isnan(source.nodata) else source.nodata
            with WarpedVRT(
                source,
                crs=known_crs(grid.crs or "", "the image"),
                transform=Affine(*grid.transform),
                height=grid.height,
                width=grid.width,
                resampling=Resampling.nearest,
                nodata=fill,
            ) as aligned:
                by_value = _pixels(aligned, unlabelled, path)
    marks, colour_of = [], {}
    for value in sorted(by_value):
        name = class_name(names[value] if value < len(names) else "") or str(value)
        rows, columns = (np.concatenate(parts) for parts in zip(*by_value[value], strict=True))
        marks.append(Mark(path.name, name, rows, columns))
        if value in colours:
            colour_of[name] = colours[value]
    return marks, colour_of


def _unlabelled(source: Any, names: list[str]) -> set[float]:
    nodata = source.nodata
    values = set() if nodata is None or np.isnan(nodata) else {nodata}
    if not (values - {0} and names and names[0]):
        values.add(0)
    if source.dtypes[0] == "uint8" and not (len(names) > IGNORE_LABEL and names[IGNORE_LABEL]):
        values.add(IGNORE_LABEL)
    return values


def _same_grid(source: Any, grid: Grid, path: Path) -> bool:
    same_size = (source.height, source.width) == (grid.height, grid.width)
    if source.crs is None or grid.crs is None:
        if not same_size:
            raise ValueError(
                f"{path}: {source.height} x {source.width} pixels without a CRS that it shares with the image of "
                f"{grid.height} x {grid.width}: export it on the image's grid, or georeference both"
            )
        return True
    corners = np.array([0, grid.width, 0]), np.array([0, 0, grid.height])
    image_corners = mapped(~Affine(*grid.transform), *mapped(source.transform, *corners))
    apart = np.abs(np.array(image_corners) - corners).max()
    return bool(same_size and source.crs == known_crs(grid.crs, "the image") and apart < _SAME_GRID)


def _pixels(source: Any, unlabelled: set[float], path: Path) -> dict[int, list[tuple[np.ndarray, np.ndarray]]]:
    """(rows, columns) by class value, in parts."""
    by_value: defaultdict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    step = max(1, _PIXELS_AT_ONCE // source.width)
    # Whole rows of blocks, so that none is unpacked twice.
    step = max(step // source.block_shapes[0][0], 1) * source.block_shapes[0][0]
    for top in range(0, source.height, step):
        values = source.read(1, window=Window(0, top, source.width, min(step, source.height - top)))
        labelled = ~(np.isin(values, list(unlabelled)) | np.isnan(values))
        rows, columns = np.nonzero(labelled)
        numbers = values[labelled]
        wrong = np.flatnonzero((numbers < 0) | (numbers != np.floor(numbers)))
        if wrong.size:
            first = wrong[0]
            raise ValueError(
                f"{path}: {numbers[first]} at row {rows[first] + top}, column {columns[first]} is no class number: "
                "use whole numbers from 1, 0 for unlabelled, or declare the value as nodata"
            )
        present = np.unique(numbers)
        if len(by_value.keys() | set(present.tolist())) > IGNORE_LABEL:
            raise ValueError(f"{path}: more than {IGNORE_LABEL} class numbers: give labels, not an image")
        for value in present:
            chosen = numbers == value
            by_value[int(value)].append((rows[chosen] + top, columns[chosen]))
    return by_value
