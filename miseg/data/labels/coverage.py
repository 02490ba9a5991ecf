"""The pixels of an image that points, lines and polygons cover."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import shapely
from rasterio.features import rasterize
from rasterio.transform import Affine

from miseg.data.labels.marks import Mark, Problem
from miseg.data.raster.grid import Grid

_PIXELS_AT_ONCE = 2**22
_FARTHEST = 2.0**53
_CROSSING = re.compile(r"Self-intersection\[(\S+) (\S+)\]")


class Part(NamedTuple):
    """A point, a line or a polygon: its positions [n, 2], x and y; of a polygon one array a ring, the outer first."""

    shape: Literal["point", "line", "polygon"]
    rings: list[np.ndarray]


class Feature(NamedTuple):
    """A feature with a class and at least one part; `source` is as in `Problem`."""

    source: str
    name: str
    parts: list[Part]
    properties: dict[str, Any]


def mark_of(feature: Feature, grid: Grid) -> tuple[Mark, Problem | None]:
    """The feature's pixels, and what of it is left out; points outside the image are among the pixels."""
    rows, columns = [], []
    leaves = False
    for part in feature.parts:
        points = np.concatenate(part.rings)
        if part.shape == "point":
            x, y = np.floor(np.clip(points, -_FARTHEST, _FARTHEST)).astype(np.int64).T
            rows.append(y)
            columns.append(x)
            continue
        leaves |= bool(((points < 0) | (points > (grid.width, grid.height))).any())
        for part_rows, part_columns in _covered(part, grid) if np.isfinite(points).all() else ():
            rows.append(part_rows)
            columns.append(part_columns)
    empty = np.empty(0, np.int64)
    mark = Mark(feature.source, feature.name, np.concatenate([empty, *rows]), np.concatenate([empty, *columns]))
    image = f"the image of {grid.height} x {grid.width} pixels"
    inside = mark.rows.size
    reason = f"leaves {image}: the {inside} pixels inside are used" if inside else f"lies outside {image}"
    reasons = [reason] * leaves + [crossing for part in feature.parts if (crossing := _crossing(part))]
    return mark, Problem(feature.source, "; ".join(reasons)) if reasons else None


def _crossing(part: Part) -> str:
    """Place where a polygon crosses itself, which it hardly was meant to; empty where it does not."""
    points = np.concatenate(part.rings)
    if part.shape != "polygon" or not np.isfinite(points).all() or not shapely.MultiPoint(points).convex_hull.area:
        return ""  # drawn as a line or a point, it stands for one
    crossing = _CROSSING.match(shapely.is_valid_reason(shapely.Polygon(part.rings[0], part.rings[1:])))
    if not crossing:
        return ""
    column, row = map(float, crossing.groups())
    return f"crosses itself at column {column:.4g}, row {row:.4g}: pixels that it covers twice are left out"


def _covered(part: Part, grid: Grid) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the image's pixels on a line or in a polygon, strip by strip."""
    points = np.concatenate(part.rings)
    left, top = np.clip(np.floor(points.min(0)), 0, (grid.width, grid.height)).astype(int)
    right, bottom = np.clip(np.floor(points.max(0)) + 1, 0, (grid.width, grid.height)).astype(int)
    if right <= left or bottom <= top:
        return
    geometry = shapely.LineString(points) if part.shape == "line" else shapely.Polygon(part.rings[0], part.rings[1:])
    step = max(1, _PIXELS_AT_ONCE // int(right - left))
    any_pixel = False
    for first in range(top, bottom, step):
        burnt = rasterize(
            [(geometry, 1)],
            out_shape=(min(step, bottom - first), right - left),
            transform=Affine.translation(left, first),
            all_touched=part.shape == "line",
            dtype="uint8",
        )
        rows, columns = np.nonzero(burnt)
        if rows.size:
            any_pixel = True
            yield rows + first, columns + left
    if any_pixel or (part.shape == "line" and np.ptp(points, axis=0).any()):
        return
    cut = ((points < 0) | (points > (grid.width, grid.height))).any()
    # Holes count for nothing: a polygon may be all hole.
    centroid = (geometry if part.shape == "line" else shapely.Polygon(part.rings[0])).centroid
    column, row = math.floor(centroid.x), math.floor(centroid.y)
    # A large polygon that leaves the image may have all its pixels outside.
    if left <= column < right and top <= row < bottom and not (cut and (np.ptp(points, axis=0) > 1).any()):
        yield np.array([row]), np.array([column])
