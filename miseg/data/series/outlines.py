"""Outlines with classes from a vector file (GeoPackage, GeoJSON, Shapefile), drawn onto a grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform

from miseg.data.listing import quantity
from miseg.data.raster.grid import Grid
from miseg.data.raster.raster_files import known_crs
from miseg.data.series.files import listed

_MARKS = (b"SQLite format 3\0", b"\0\0\x27\x0a", b"fgb")
"""First bytes of GeoPackage, Shapefile and FlatGeobuf; GeoJSON is text that begins with a brace."""


@dataclass(frozen=True)
class Outlines:
    """Outlines in a grid's CRS.

    Attributes:
        shapes: N geometries of shapely.
        numbers: the class of each, from 1, int [N].
        classes: the classes, as whole numbers or text, in order; number 1 is the first.
        sentences: what was understood without being told.
    """

    shapes: np.ndarray
    numbers: np.ndarray
    classes: tuple[int, ...] | tuple[str, ...]
    sentences: tuple[str, ...]

    def draw(self, area: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Class numbers on an area, int64 [h, w], of the outlines over the middles of pixels, 0 where there is none.

        Second, where outlines of different classes lie over a pixel, bool [h, w].
        """
        corners = [(0, 0), (area.width, 0), (area.width, area.height), (0, area.height)]
        a, b, c, d, e, f = area.transform
        frame = shapely.Polygon([(a * x + b * y + c, d * x + e * y + f) for x, y in corners])
        near = np.flatnonzero(shapely.intersects(self.shapes, frame))
        pairs = [(self.shapes[index], int(self.numbers[index])) for index in near]
        first, last = (_drawn(ordered, area) for ordered in (pairs[::-1], pairs))
        return last, first != last


def read_outlines(file: Path, grid: Grid, label_field: str | None) -> Outlines:
    """The outlines of a vector file.

    Args:
        file: GeoPackage, GeoJSON, Shapefile or FlatGeobuf; of one layer.
        grid: where they are to be drawn.
        label_field: the field that holds the class, text or whole numbers; None takes the only one.

    Raises:
        ValueError: a file that cannot be read, several layers, no outline, no CRS, none within the grid, or no such
            field.
    """
    # Not at the top: it brings a GDAL of its own, which rasters need not wait for.
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, GeometryError

    _check_format(file)
    try:
        layers = pyogrio.list_layers(file)[:, 0].tolist()
        if len(layers) > 1:
            raise ValueError(f"{file}: several layers ({listed(layers)}): export the one of the labels")
        fields = pyogrio.read_info(file)["fields"].tolist()
        chosen = _field(file, fields, label_field)
        meta, _, shapes, columns = pyogrio.raw.read(file, columns=[chosen])
    except (DataSourceError, DataLayerError, GeometryError, IndexError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"{file}: no vector file that can be read ({reason}): export it again") from None
    if grid.crs is None or meta["crs"] is None:
        what = "the scenes have" if grid.crs is None else f"{file} has"
        raise ValueError(f"{file}: {what} no CRS, and outlines need one to lie on the scenes: georeference them")
    numbers, classes, unnamed = _classes(file, columns[0], chosen)
    geometries = shapely.from_wkb(shapes)
    usable = (numbers > 0) & ~shapely.is_missing(geometries) & ~shapely.is_empty(geometries)
    own, target = known_crs(meta["crs"], str(file)), known_crs(grid.crs, "the scenes")
    sentences = [] if label_field is not None else [f"classes by the field {chosen} of {file.name}"]
    if own != target:
        sentences.append(f"outlines brought from {meta['crs']} to {grid.crs}")
        geometries = shapely.transform(geometries, lambda points: _moved(points, own, target))
    if unnamed:
        sentences.append(f"{quantity(unnamed, 'outline')} without a {chosen} left out")
    sentences.append(
        f"{quantity(int(usable.sum()), 'outline')} of {len(classes)} classes; what none covers is unlabelled"
    )
    return Outlines(geometries[usable], numbers[usable], classes, tuple(sentences))


def _check_format(file: Path) -> None:
    """Raise ValueError where a file is of another format, whatever its name: GDAL knows some that name other files."""
    try:
        with file.open("rb") as opened:
            start = opened.read(1024)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}): check the file and its permissions") from None
    if not start.startswith(_MARKS) and not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        raise ValueError(
            f"{file}: no vector file that can be read (no GeoPackage, GeoJSON, Shapefile or FlatGeobuf): export it "
            "again"
        )


def _field(file: Path, fields: list[str], asked: str | None) -> str:
    if asked is not None:
        if asked not in fields:
            raise ValueError(f"--label-field {asked}: {file} has no such field; it has {', '.join(fields) or 'none'}")
        return asked
    if len(fields) != 1:
        raise ValueError(
            f"{file}: which field holds the class? It has {', '.join(fields) or 'none'}: name it with --label-field"
        )
    return fields[0]


def _classes(file: Path, column: np.ndarray, name: str) -> tuple[np.ndarray, tuple[Any, ...], int]:
    """Class numbers from 1, 0 for outlines without one; the classes; and how many have none."""
    values = column.tolist()
    missing = [value is None or value != value or value == "" for value in values]
    named = [value for value, none in zip(values, missing, strict=True) if not none]
    if not named:
        raise ValueError(f"{file}: no outline has a {name}: name the field of the class with --label-field")
    if all(isinstance(value, int | float) for value in named):
        if wrong := [value for value in named if value != int(value)]:
            raise ValueError(
                f"{file}: {name} holds {wrong[0]}, which is no class: name the class's field, --label-field"
            )
        classes: tuple[Any, ...] = tuple(sorted({int(value) for value in named}))
    else:
        classes = tuple(sorted({str(value) for value in named}))
    kind = type(classes[0])
    number_of = {value: number for number, value in enumerate(classes, 1)}
    numbers = [0 if none else number_of[kind(value)] for value, none in zip(values, missing, strict=True)]
    return np.array(numbers), classes, sum(missing)


def _moved(points: np.ndarray, own: Any, target: Any) -> np.ndarray:
    return np.column_stack(transform(own, target, points[:, 0], points[:, 1]))


def _drawn(pairs: list[tuple[Any, int]], area: Grid) -> np.ndarray:
    if not pairs:
        return np.zeros((area.height, area.width), np.int64)
    drawn = rasterize(
        pairs, out_shape=(area.height, area.width), transform=Affine(*area.transform), fill=0, dtype="int32"
    )
    return drawn.astype(np.int64)
