"""Drawn labels to and from files: GeoJSON, and GeoTIFF with its sidecar of class names in an archive."""

from __future__ import annotations

import json
import uuid
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rasterio.transform import Affine
from rasterio.warp import transform

from miseg.data.labels.annotations import Valid, usable_pixels
from miseg.data.labels.coverage import Part
from miseg.data.labels.drawings import Drawing, Drawings, LabelClass, checked_geometry, mark_of_drawing
from miseg.data.labels.geojson import parts_of, read_features
from miseg.data.labels.marks import Mark, Problem, class_order
from miseg.data.labels.raster import read_label_raster
from miseg.data.labels.table import read_label_table
from miseg.data.raster.grid import Grid
from miseg.data.raster.maps import write_raster
from miseg.data.raster.raster_files import known_crs, mapped
from miseg.data.samples import IGNORE_LABEL

MOST_BYTES = 2**24
"""Of a file of labels, unpacked too."""

MOST_PIXELS = 20_000
"""Labelled pixels of a raster or table: more is a map and nobody's labels."""

_WGS84 = "OGC:CRS84"


class Loaded(NamedTuple):
    """Labels of a file.

    Attributes:
        drawings: (class name, colour or None, scene, geometry as `checked_geometry` gives it).
        problems: what is left out.
    """

    drawings: list[tuple[str, str | None, str, str]]
    problems: list[Problem]


def geojson(drawings: Drawings, grid: Grid, scene: str | None = None) -> str:
    """The drawings, or those of one scene, as GeoJSON that `read_geojson` and other programs read.

    Coordinates are longitude and latitude, or (column, row) in pixels where the image has no CRS. A feature's
    properties are `class`, `colour` and `scene`.
    """
    classes = {label_class.id: label_class for label_class in drawings.classes}
    features = [
        {
            "type": "Feature",
            "id": drawing.id,
            "properties": {
                "class": classes[drawing.class_id].name,
                "colour": classes[drawing.class_id].colour,
                "scene": drawing.scene,
            },
            "geometry": _on_the_ground(json.loads(drawing.geometry), grid),
        }
        for drawing in drawings.drawings
        if scene in (None, drawing.scene)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1)


def write_label_raster(path: Path, drawings: Drawings, grid: Grid, scene: str, valid: Valid | None = None) -> None:
    """Writes the usable labelled pixels of one scene as a GeoTIFF with colours, and class names in `<path>.aux.xml`.

    255 is unlabelled. Classes are in the order of `read_annotations`.

    Raises:
        ValueError: no usable label there.
    """
    marks, classes = marks_of(drawings, grid, scene)
    used = sorted({mark.name for mark in marks}, key=class_order)
    pixels, _ = usable_pixels(marks, used, grid, valid)
    if not len(pixels.labels):
        raise ValueError(f"no usable label on {scene}: draw some first, or choose another date")
    labels = np.full((grid.height, grid.width), IGNORE_LABEL, np.uint8)
    labels[pixels.rows, pixels.columns] = pixels.labels
    write_raster(path, grid, labels, used, [classes[name].rgb for name in used])


def marks_of(drawings: Drawings, grid: Grid, scene: str) -> tuple[list[Mark], dict[str, LabelClass]]:
    """The pixels of one scene's drawings, in their order, and the classes by name."""
    by_id = {label_class.id: label_class for label_class in drawings.classes}
    marks = [
        mark_of_drawing(drawing, by_id[drawing.class_id].name, grid)[0]
        for drawing in drawings.drawings
        if drawing.scene == scene
    ]
    return marks, {label_class.name: label_class for label_class in drawings.classes}


def load(path: Path, grid: Grid, scene: str, scenes: Sequence[str], class_property: str = "class") -> Loaded:
    """The labels in a file: GeoJSON, CSV, a label raster, or a .zip with a raster and its sidecar.

    Labels are on the scene that a GeoJSON feature names in its property `scene`, else on `scene`.

    Raises:
        ValueError: the file cannot be read as it is; the message names it, and the feature where it is one.
    """
    if path.suffix.lower() == ".zip":
        path = _unpacked(path)
    if path.suffix.lower() in (".geojson", ".json"):
        return _of_features(path, grid, scene, scenes, class_property)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        marks, problems = read_label_table(path, class_property)
        colours: dict[str, tuple[int, int, int]] = {}
    else:
        (marks, colours), problems = read_label_raster(path, grid), []
    by_class: defaultdict[str, list[list[float]]] = defaultdict(list)
    for mark in marks:
        inside = (mark.rows >= 0) & (mark.rows < grid.height) & (mark.columns >= 0) & (mark.columns < grid.width)
        if not inside.all():
            problems.append(Problem(mark.source, f"{mark.name!r}: {np.sum(~inside)} pixels lie outside the image"))
        middles = np.stack([mark.columns[inside] + 0.5, mark.rows[inside] + 0.5], 1)
        by_class[mark.name] += middles.tolist()
    if (total := sum(map(len, by_class.values()))) > MOST_PIXELS:
        raise ValueError(f"{path}: {total} labelled pixels: that is a map, and labels are {MOST_PIXELS} at most")
    drawings = []
    for name, points in by_class.items():
        for first in range(0, len(points), 1000):
            several = {"type": "MultiPoint", "coordinates": points[first : first + 1000]}
            drawings.append((name, _hexadecimal(colours.get(name)), scene, checked_geometry(several)))
    return Loaded(drawings, problems)


def added(drawings: Drawings, loaded: Loaded) -> Drawings:
    """The drawings with those of a file; classes are the same where their names are, and what is there is not doubled.

    Raises:
        ValueError: too many classes or drawings.
    """
    for name, colour, _, _ in loaded.drawings:
        if drawings.named(name) is None:
            taken = {label_class.colour for label_class in drawings.classes}
            shade = colour if colour and colour not in taken else None
            new = LabelClass(uuid.uuid4().hex, name, shade or drawings.next_colour())
            drawings = replace(drawings, classes=(*drawings.classes, new))
    ids = {label_class.name: label_class.id for label_class in drawings.classes}
    there = {(drawing.class_id, drawing.scene, drawing.geometry) for drawing in drawings.drawings}
    new_ones = [
        Drawing(uuid.uuid4().hex, *key)
        for key in dict.fromkeys((ids[name], scene, geometry) for name, _, scene, geometry in loaded.drawings)
        if key not in there
    ]
    return replace(drawings, drawings=(*drawings.drawings, *new_ones))


def _of_features(path: Path, grid: Grid, scene: str, scenes: Sequence[str], class_property: str) -> Loaded:
    features, problems = read_features(path, grid, class_property)
    drawings = []
    for feature in features:
        corners = np.concatenate([ring for part in feature.parts for ring in part.rings])
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        if not np.isfinite(corners).all() or right < 0 or bottom < 0 or left > grid.width or top > grid.height:
            reason = f"{feature.name!r} lies outside the image of {grid.height} x {grid.width} pixels"
            problems.append(Problem(feature.source, reason))
            continue
        own = feature.properties.get("scene")
        if own is not None and own not in scenes:
            problems.append(Problem(feature.source, f"{feature.name!r} is of {own!r}, which is not shown here"))
            continue
        colour = feature.properties.get("colour")
        try:
            colour = None if colour is None else LabelClass("any", feature.name, colour).colour
        except ValueError:
            colour = None
        for shape in ("point", "line", "polygon"):
            parts = [part for part in feature.parts if part.shape == shape]
            if parts:
                try:
                    drawings.append((feature.name, colour, own or scene, checked_geometry(_geometry(parts))))
                except ValueError as error:
                    problems.append(Problem(feature.source, str(error)))
    return Loaded(drawings, problems)


def _geometry(parts: Sequence[Part]) -> dict[str, Any]:
    kind = {"point": "MultiPoint", "line": "MultiLineString", "polygon": "MultiPolygon"}[parts[0].shape]
    rings = [[ring.tolist() for ring in part.rings] for part in parts]
    members = rings if kind == "MultiPolygon" else [part[0] for part in rings]
    return {"type": kind, "coordinates": [member[0] for member in members] if kind == "MultiPoint" else members}


def _on_the_ground(geometry: dict[str, Any], grid: Grid) -> dict[str, Any]:
    if grid.crs is None:
        return geometry

    def moved(ring: np.ndarray) -> np.ndarray:
        x, y = mapped(Affine(*grid.transform), *ring.T)
        return np.column_stack(transform(known_crs(str(grid.crs), "the image"), known_crs(_WGS84, ""), x, y))

    kind, parts = geometry["type"], list(parts_of(geometry, "the drawing"))
    several = _geometry([part._replace(rings=[moved(ring) for ring in part.rings]) for part in parts])
    return several if kind.startswith("Multi") else {"type": kind, "coordinates": several["coordinates"][0]}


def _unpacked(path: Path) -> Path:
    """The raster of an archive, beside it under a name of ours, with the sidecar of that name."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise ValueError(f"{path}: more than {MOST_BYTES >> 20} MiB unpacked: give a raster of labels alone")
            names = [name for name in archive.namelist() if name.lower().endswith((".tif", ".tiff"))]
            if len(names) != 1:
                raise ValueError(f"{path}: {len(names)} GeoTIFFs in it: give one raster of labels")
            target = path.with_name("unpacked.tif")
            target.write_bytes(archive.read(names[0]))
            sidecar = f"{names[0]}.aux.xml"
            if sidecar in archive.namelist():
                target.with_name("unpacked.tif.aux.xml").write_bytes(archive.read(sidecar))
            return target
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: no archive that can be read ({error}): export it again") from None


def _hexadecimal(colour: tuple[int, int, int] | None) -> str | None:
    return None if colour is None else f"#{bytes(colour).hex()}"
