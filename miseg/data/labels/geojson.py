"""Labels that people drew: GeoJSON points, lines and polygons, read as positions in an image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform

from miseg.data.labels.coverage import Feature, Part, mark_of
from miseg.data.labels.marks import Mark, Problem, class_name
from miseg.data.raster.grid import Grid
from miseg.data.raster.raster_files import known_crs, mapped
from miseg.files import read_text
from miseg.json_values import parse

_LONGITUDE_LATITUDE = CRS.from_user_input("OGC:CRS84")
_DEGREES = (_LONGITUDE_LATITUDE, CRS.from_epsg(4326))
_SHAPES = {"Point": "point", "LineString": "line", "Polygon": "polygon"}


def read_geojson(path: Path, grid: Grid, class_property: str = "class") -> tuple[list[Mark], list[Problem]]:
    """One mark a feature, and the features that have no class or no geometry, or leave the image.

    A point gives the pixel that it lies in, a line all pixels that it touches, a polygon those whose centre lies
    inside, or the one at its centroid where it holds no centre. Features count from 1.

    Args:
        path: an RFC 7946 file. Coordinates are longitude and latitude unless a `crs` member, as of GeoJSON 2008, says
            otherwise. Where the image has no CRS they are (column, row) from the top left corner, in pixels.
        grid: the image's.
        class_property: property of a feature that holds its class, a text or a number.

    Raises:
        ValueError: as `read_features`.
    """
    features, problems = read_features(path, grid, class_property)
    marks = []
    for feature in features:
        mark, problem = mark_of(feature, grid)
        marks += [mark] if mark.rows.size else []
        problems += [problem] if problem else []
    return marks, problems


def read_features(path: Path, grid: Grid, class_property: str = "class") -> tuple[list[Feature], list[Problem]]:
    """The features with positions as (column, row) in pixels, and those that have no class or no geometry.

    Arguments and rules are those of `read_geojson`. Positions are infinite where the image's CRS has no place for them.

    Raises:
        ValueError: no GeoJSON, a broken geometry, an unknown CRS, coordinates that cannot be what the file says.
    """
    document = _parsed(path)
    features: list[Feature] = []
    problems: list[Problem] = []
    for number, feature in enumerate(_features(document, path), 1):
        where = f"{path}, feature {number}"
        source = f"{path.name}, feature {number}"
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise ValueError(f"{where}: no object of type Feature: export the layer as GeoJSON again")
        parts = list(parts_of(feature.get("geometry"), where))
        properties = feature.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        name = class_name(properties.get(class_property))
        if not parts:
            problems.append(Problem(source, "no geometry"))
        elif name is None:
            instead = repr(properties[class_property]) if class_property in properties else f"among {list(properties)}"
            problems.append(Problem(source, f"no class: property {class_property!r} is no text or number ({instead})"))
        else:
            features.append(Feature(source, name, parts, properties))
    return list(_in_pixels(features, _declared_crs(document, grid, path), grid, path)), problems


def _parsed(path: Path) -> dict[str, Any]:
    try:
        document = parse(read_text(path, "export it as GeoJSON again"), finite=False)  # told of each feature
    except ValueError as error:
        raise ValueError(f"{path}: broken JSON ({error}): export it as GeoJSON again") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path}: no GeoJSON object but a {type(document).__name__}: export it as GeoJSON again")
    return document


def _features(document: dict[str, Any], path: Path) -> list[Any]:
    if document.get("type") == "Feature":
        return [document]
    if document.get("type") != "FeatureCollection" or not isinstance(document.get("features"), list):
        raise ValueError(
            f"{path}: type {document.get('type')!r} is no FeatureCollection with a list of features: "
            "export the layer as GeoJSON"
        )
    return document["features"]


def parts_of(geometry: Any, where: str) -> Iterator[Part]:
    """The parts of a GeoJSON geometry, in its own coordinates.

    Raises:
        ValueError: no geometry of GeoJSON, or a broken one; the message starts with `where`.
    """
    if geometry is None:
        return
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        for member in geometry["geometries"]:
            yield from parts_of(member, where)
        return
    shape = _SHAPES.get(str(kind).removeprefix("Multi"))
    if shape is None:
        raise ValueError(f"{where}: no geometry of type {kind!r} in GeoJSON: draw points, lines or polygons")
    coordinates = geometry.get("coordinates")
    try:
        # RFC 7946: readers may take an empty array for a geometry that is not there.
        members = coordinates if str(kind).startswith("Multi") else [coordinates] if coordinates != [] else []
        for member in members:
            rings = member if shape == "polygon" else [member] if shape == "line" else [[member]]
            yield Part(shape, [_ring(ring, shape) for ring in rings or [[]]])  # type: ignore[arg-type]
    except (TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{where}: broken coordinates of a {kind} ({error}): draw it again or remove it") from None


def _ring(positions: list[list[float]], shape: str) -> np.ndarray:
    points = np.array([_position(position) for position in positions])
    if shape == "polygon" and (points[0] != points[-1]).any():
        points = np.concatenate([points, points[:1]])
    least = {"point": 1, "line": 2, "polygon": 4}[shape]
    if len(points) < least:
        raise ValueError(f"{len(points)} positions, at least {least}")
    return points


def _position(position: Any) -> tuple[float, float]:
    if not isinstance(position, list) or len(position) < 2:
        raise TypeError(f"{position!r} is no position")
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in position[:2]):
        raise TypeError(f"{position!r} are no finite numbers")
    return float(position[0]), float(position[1])


def _declared_crs(document: dict[str, Any], grid: Grid, path: Path) -> CRS | None:
    """The CRS of the file's coordinates; None where they are pixels."""
    where = f"{path}, member crs"
    member = document.get("crs")
    if "crs" not in document or (member is None and grid.crs is None):
        return None if grid.crs is None else _LONGITUDE_LATITUDE
    try:
        properties = member["properties"]  # type: ignore[index]
        name = properties["name"] if "name" in properties else f"EPSG:{properties['code']}"
    except (TypeError, KeyError):
        raise ValueError(
            f"{where}: {json.dumps(member)} names no CRS: export in EPSG:4326 without the member, or name one"
        ) from None
    if grid.crs is None:
        raise ValueError(
            f"{path}: coordinates in {name}, but the image has no CRS: georeference the image, or give (column, row) "
            "in pixels without a crs member"
        )
    return known_crs(str(name), where)


def _in_pixels(features: list[Feature], crs: CRS | None, grid: Grid, path: Path) -> Iterator[Feature]:
    for feature in features:
        for part in feature.parts:
            _check_range(feature, np.concatenate(part.rings), crs, grid, path)
    rings = [ring for feature in features for part in feature.parts for ring in part.rings]
    if crs is not None and rings:
        target = known_crs(grid.crs or "", "the image")
        to_pixels = ~Affine(*grid.transform)
        try:
            moved = _moved(np.concatenate(rings), crs, target, to_pixels)
            rings = np.split(moved, np.cumsum([len(ring) for ring in rings])[:-1])
        except CPLE_BaseError:
            # One position beyond the projection fails them all: find which.
            rings = [_moved_if_possible(ring, crs, target, to_pixels) for ring in rings]
    following = iter(rings)
    for feature in features:
        parts = [part._replace(rings=[next(following) for _ in part.rings]) for part in feature.parts]
        yield feature._replace(parts=parts)


def _check_range(feature: Feature, points: np.ndarray, crs: CRS | None, grid: Grid, path: Path) -> None:
    where = f"{path}, {feature.source.removeprefix(f'{path.name}, ')}"
    if crs is None:
        outside = ((points < 0) | (points > (grid.width, grid.height))).any(1)
        if outside.any():
            raise ValueError(
                f"{where}: ({points[outside][0, 0]:g}, {points[outside][0, 1]:g}) does not lie in the image of "
                f"{grid.height} x {grid.width} pixels, which has no CRS: georeference the image, or give (column, row) "
                "in pixels, rows counted downwards from 0"
            )
    elif crs in _DEGREES:
        outside = (np.abs(points) > (180, 90)).any(1)
        if outside.any():
            raise ValueError(
                f"{where}: ({points[outside][0, 0]:g}, {points[outside][0, 1]:g}) is no longitude and latitude: "
                "export in EPSG:4326, or with a crs member that names the CRS of the coordinates"
            )


def _moved(points: np.ndarray, crs: CRS, target: CRS, to_pixels: Affine) -> np.ndarray:
    with rasterio.Env():
        x, y = (np.asarray(values) for values in transform(crs, target, *points.T))
    return np.column_stack(mapped(to_pixels, x, y))


def _moved_if_possible(points: np.ndarray, crs: CRS, target: CRS, to_pixels: Affine) -> np.ndarray:
    try:
        return _moved(points, crs, target, to_pixels)
    except CPLE_BaseError:
        return np.full_like(points, np.inf)
