"""A scene and its labels read, a map of it written and read back."""

import json
import tempfile
from pathlib import Path

import numpy as np
import rasterio

from miseg.data.labels.annotations import read_annotations
from miseg.data.raster.grid import Grid
from miseg.data.raster.maps import MapWriter
from miseg.data.raster.quicklook import quicklook
from miseg.data.raster.raster_files import category_names
from miseg.data.raster.scene_files import SceneOptions, open_scene

grid = Grid(20, 30, "EPSG:32631", (10.0, 0.0, 574680.0, 0.0, -10.0, 5622440.0))
classes = np.repeat(np.arange(20) // 10, 30).reshape(20, 30)
pixels = np.random.default_rng(0).integers(1, 9000, (3, 20, 30)).astype(np.uint16)


def polygon(name: str, top: int) -> dict[str, object]:
    """A square of 4 x 4 pixels at column 2."""
    ring = [[column, row] for column, row in ((2, top), (6, top), (6, top + 4), (2, top + 4), (2, top))]
    on_the_ground = [[574680 + 10 * column, 5622440 - 10 * row] for column, row in ring]
    geometry = {"type": "Polygon", "coordinates": [on_the_ground]}
    return {"type": "Feature", "properties": {"class": name}, "geometry": geometry}


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    layout = {"height": 20, "width": 30, "count": 3, "dtype": "uint16", "crs": grid.crs}
    transform = rasterio.Affine(*grid.transform)
    with rasterio.open(folder / "scene.tif", "w", driver="GTiff", transform=transform, **layout) as file:
        file.write(pixels)
    scene = open_scene(folder / "scene.tif", SceneOptions(bands=("B04", "B03", "B02")))
    assert scene.grid == grid

    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    features = [polygon("water", 2), polygon("wood", 12)]
    (folder / "labels.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    labels, problems = read_annotations(folder / "labels.geojson", scene.grid)
    assert labels.counts() == {"water": 16, "wood": 16} and not problems
    assert (classes[labels.rows, labels.columns] == labels.labels).all()

    with MapWriter(folder / "map.tif", scene.grid, labels.classes) as writer:
        writer.write((0, 0, 20, 30), classes, np.full(classes.shape, 0.5))
        colours = writer.colours
    with rasterio.open(folder / "map.tif") as file:
        assert (file.read(1) == classes).all() and category_names(file) == ["water", "wood"]
    quicklook(folder / "scene.tif", folder / "map.tif", colours, folder / "map.png", class_names=labels.classes)
    assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")
