"""Exports of a labelling session: labels as GeoJSON, and archives of GeoTIFFs with the names of their classes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from miseg.data.labels import files as label_files
from miseg.data.labels.drawings import Drawings, LabelClass
from miseg.data.raster.grid import Grid
from miseg.data.raster.maps import MapWriter, confidence_path
from miseg.service.labelling.maps import LabelMap


def stem(scene: str) -> str:
    """A scene's name as the start of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in scene)


def geojson(path: Path, drawings: Drawings, grid: Grid, scene: str | None) -> tuple[str, bytes]:
    """Write the labels of a scene, or, with None, of all; the file's name and content.

    Raises:
        ValueError: there are none.
        OSError: the file cannot be written.
    """
    text = label_files.geojson(drawings, grid, scene)
    path.write_text(text, encoding="utf-8")
    return path.name, text.encode()


def map_files(path: Path, label_map: LabelMap, grid: Grid, classes: Sequence[LabelClass]) -> tuple[str, bytes]:
    """Write a map and its confidence as GeoTIFFs; the name and content of an archive of both.

    Raises:
        OSError: a file cannot be written.
    """
    with MapWriter(
        path, grid, [label_class.name for label_class in classes], [label_class.rgb for label_class in classes]
    ) as writer:
        writer.write((0, 0, *label_map.classes.shape), label_map.classes, label_map.confidence)
    return archive(path, confidence_path(path))


def archive(*paths: Path) -> tuple[str, bytes]:
    """The name and content of a .zip of rasters and their sidecars, named as the first."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in paths:
            for part in (path, path.with_name(f"{path.name}.aux.xml")):
                if part.exists():
                    zipped.write(part, part.name)
    return f"{paths[0].stem}.zip", file.getvalue()
