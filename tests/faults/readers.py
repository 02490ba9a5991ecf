"""What fuzz.py reads: for each kind of file a valid one, and the code that users' files of that kind meet."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from miseg.data import checks
from miseg.data.labels import annotations
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR, pack
from miseg.data.raster import scene_files
from miseg.data.raster.grid import Grid
from miseg.data.samples import DataSetInfo
from miseg.data.sources.registry import Embedded
from tests.faults.fuzz import Reader
from tests.support.scene_layouts import SafeTree, raster, reflectances

GRID = Grid(24, 30, "EPSG:32631", (10.0, 0.0, 574_680.0, 0.0, -10.0, 5_622_440.0))
INFO = DataSetInfo("fuzz", ("a", "b", "c"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


def _picture(kind: str, mode: str = "RGB"):
    def make(folder: Path) -> None:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 3, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels if mode == "RGB" else pixels[..., 0]).save(folder / "picture", kind)

    return make


def _image(folder: Path) -> None:
    checks.check_image(checks.read_bytes(folder / "picture"))


def _mask(folder: Path) -> None:
    checks.check_mask(checks.read_bytes(folder / "picture"), INFO)


def _scene(folder: Path) -> None:
    raster(
        folder / "2019-07-20.tif",
        reflectances(0),
        descriptions=("B02", "B03", "B04", "B08"),
        tags={"TIFFTAG_DATETIME": "2019:07:20 10:00:00"},
        compress="deflate",
    )


def _read_scene(folder: Path) -> None:
    scene = scene_files.open_scene(folder / "2019-07-20.tif")
    scene.read()


def _safe(folder: Path) -> None:
    SafeTree(folder).add()
    (metadata,) = folder.rglob("MTD_MSIL*.xml")
    metadata.rename(folder / "metadata.xml")


def _read_safe(folder: Path) -> None:
    (product,) = (path for path in folder.iterdir() if path.suffix == ".SAFE")
    (product / "MTD_MSIL2A.xml").write_bytes((folder / "metadata.xml").read_bytes())
    scene_files.open_scene(product).read()


def _label_raster(folder: Path) -> None:
    raster(folder / "labels.tif", np.random.default_rng(0).integers(0, 4, (24, 30), dtype=np.uint8))


def _labels(name: str):
    def read(folder: Path) -> None:
        annotations.read_annotations(folder / name, GRID)

    return read


def _geojson(folder: Path) -> None:
    def feature(kind: str, coordinates: list, name: object) -> dict:
        return {
            "type": "Feature",
            "properties": {"class": name, "note": "ü"},
            "geometry": {"type": kind, "coordinates": coordinates},
        }

    from rasterio import warp

    (longitude,), (latitude,) = warp.transform(GRID.crs, "EPSG:4326", [GRID.transform[2]], [GRID.transform[5]])
    at = [longitude, latitude]
    ring = [[at[0] + x / 1e3, at[1] - y / 1e3] for x, y in ((0.5, 0.2), (3, 0.2), (3, 1.5), (0.5, 0.2))]
    features = [
        feature("Point", [at[0] + 5e-4, at[1] - 5e-4], "water"),
        feature("MultiPoint", ring, 3),
        feature("LineString", ring[:3], "road"),
        feature("Polygon", [ring], "field"),
        feature("MultiPolygon", [[ring]], "field"),
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    document = {"type": "FeatureCollection", "crs": crs, "features": features}
    (folder / "points.geojson").write_text(json.dumps(document))


def _table(folder: Path) -> None:
    lines = ["row,column,class", *(f"{n},{2 * n},{'water' if n % 2 else 'field'}" for n in range(12))]
    (folder / "points.csv").write_text("\n".join(lines) + "\n")


def _packed(folder: Path) -> None:
    source = Embedded({"train": 2, "val": 1, "test": 1}, height=24, width=32)
    pack(source, folder, source.available())


def _read_packed(folder: Path) -> None:
    dataset = PackedDataset.open(folder)
    for split in dataset.splits:
        for index in range(min(dataset.size(split), 4)):
            dataset.pixels(split, index)
        dataset.index(split)


@functools.cache
def _loop():
    from miseg.interface import Task
    from miseg.methods.configs import CrossEntropy
    from miseg.networks.configs import UNet
    from miseg.recipes.experiment import Experiment
    from miseg.service.training.loop import Loop

    return Loop(Experiment(method=CrossEntropy(UNet(2, "group")), data="fuzz"), Task(3, 3, ("a", "b", "c")))


def _checkpoint(folder: Path) -> None:
    from miseg.service.checkpoints import checkpoint

    data = {"mean": [0.5] * 3, "std": [0.5] * 3}
    checkpoint.save(folder / "checkpoint", _loop(), {"step": 0, "score": 0.5}, data)


def _read_checkpoint(folder: Path) -> None:
    """To go on with the training, to predict, and to send it elsewhere."""
    from miseg.service.checkpoints import checkpoint, checkpoint_files

    place = folder / "checkpoint"
    checkpoint.load(place, _loop())
    checkpoint.open_method(place)
    checkpoint_files.files_of(place)


def _seal_checkpoint(folder: Path) -> None:
    from miseg.service.checkpoints import checkpoint_files

    path = folder / "checkpoint" / checkpoint_files.MANIFEST
    try:
        manifest = json.loads(path.read_text())
        for name in manifest["sha256"]:
            if (folder / "checkpoint" / name).is_file():
                manifest["sha256"][name] = checkpoint_files.sha256(folder / "checkpoint" / name)
        path.write_text(json.dumps(manifest))
    except (ValueError, LookupError, TypeError):  # the manifest itself is what is damaged
        pass


READERS = {
    "PNG image": Reader(_picture("PNG"), _image, ("picture",)),
    "JPEG image": Reader(_picture("JPEG"), _image, ("picture",)),
    "TIFF image": Reader(_picture("TIFF"), _image, ("picture",)),
    "PNG mask": Reader(_picture("PNG", "L"), _mask, ("picture",)),
    "GeoTIFF scene": Reader(_scene, _read_scene, ("2019-07-20.tif",)),
    "SAFE metadata": Reader(_safe, _read_safe, ("metadata.xml",)),
    "GeoTIFF labels": Reader(_label_raster, _labels("labels.tif"), ("labels.tif",)),
    "GeoJSON labels": Reader(_geojson, _labels("points.geojson"), ("points.geojson",)),
    "CSV labels": Reader(_table, _labels("points.csv"), ("points.csv",)),
    "sidecar": Reader(_packed, _read_packed, (SIDECAR,)),
    "Parquet shard": Reader(_packed, _read_packed, ("train-00000.parquet",)),
    "checkpoint": Reader(
        _checkpoint,
        _read_checkpoint,
        tuple(f"checkpoint/{name}" for name in ("checkpoint.json", "experiment.json", "weights.safetensors")),
        _seal_checkpoint,
    ),
    "training state": Reader(_checkpoint, _read_checkpoint, ("checkpoint/training.pt",), _seal_checkpoint),
}
