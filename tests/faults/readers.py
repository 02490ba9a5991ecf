"""What fuzz.py reads: for each kind of file a valid one, and the code that users' files of that kind meet."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from miseg.data import checks
from miseg.data.checks import BadFileError, encode_png
from miseg.data.folders.hf_parquet import read_rows
from miseg.data.labels import annotations
from miseg.data.labels.store import FILE, LabelStore
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR, pack
from miseg.data.raster import scene_files
from miseg.data.raster.grid import Grid
from miseg.data.samples import DataSetInfo
from miseg.data.sources.registry import Embedded
from miseg.json_values import parse
from tests.faults.fuzz import Reader
from tests.support.scene_layouts import SafeTree, raster, reflectances

GRID = Grid(24, 30, "EPSG:32631", (10.0, 0.0, 574_680.0, 0.0, -10.0, 5_622_440.0))
EXPERIMENTS = ("camvid-v3plus-rmi.json", "flanders-similarity.json", "embedded-infoseg.json")
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


class _Server:
    """MLflow as a journal's sender sees it: it takes what is of the right types, from the journal's own folder."""

    folder = Path()

    def __init__(self, uri: str) -> None:
        pass

    def get_run(self, run_id: str) -> SimpleNamespace:
        return SimpleNamespace(
            data=SimpleNamespace(_metric_objs=[], tags={}), info=SimpleNamespace(lifecycle_stage="active")
        )

    def get_metric_history(self, run_id: str, key: str) -> list:
        return []

    def log_batch(self, run_id: str, metrics=(), tags=()) -> None:
        for metric in metrics:
            assert type(metric.value) is float and type(metric.step) is type(metric.timestamp) is int
        assert all(type(tag.key) is type(tag.value) is str for tag in tags)

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        assert Path(path).read_bytes() == b"a picture" and ".." not in (folder or "")

    def set_terminated(self, run_id: str, status: str, end: int) -> None:
        assert status in ("FINISHED", "FAILED", "KILLED") and type(end) is int

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        assert type(key) is type(value) is str


def _own_parquet(folder: Path) -> None:
    pictures = [encode_png(np.full((8, 8, 3), number, np.uint8)) for number in range(6)]
    masks = [[{"bytes": one, "path": None}] for one in pictures]
    pq.write_table(pa.table({"image": pictures, "mask": masks}), folder / "own.parquet", row_group_size=3)


def _read_own_parquet(folder: Path) -> None:
    for row in read_rows(folder / "own.parquet", ("image", "mask")):
        for cell in (row.image, *(row.masks or ())):
            with contextlib.suppress(BadFileError):  # it is left out, with its reason
                cell.read()


def _journal(folder: Path) -> None:
    entries = [
        {"kind": "metrics", "step": 3, "values": {"val/mean_iou": 0.5, "train/loss": float("nan")}},
        {"kind": "artifact", "file": "17-panel.png", "name": "panel.png", "folder": "panels"},
        {"kind": "tags", "values": {"miseg.note": "ü"}},
        {"kind": "model", "role": "best", "folder": str(folder.parent / "read" / "runs" / "x"), "step": 3},
        {"kind": "end", "status": "FINISHED", "tags": {"miseg.ended": "finished"}},
    ]
    (folder / "journals" / "run").mkdir(parents=True)
    (folder / "journals" / "run" / "17-panel.png").write_bytes(b"a picture")
    lines = [json.dumps({**entry, "time": 1_700_000_000_000}) + "\n" for entry in entries]
    (folder / "journals" / "run.jsonl").write_text("".join(lines))
    # So that each line is damaged as JSON is.
    for number, line in enumerate(lines):
        (folder / f"line-{number}").write_text(line)
    (folder / "journals" / "run.sent").write_text(str(len(lines[0])))


def _read_journal(folder: Path) -> None:
    from miseg.service.journal import files, sender
    from miseg.service.tracking import models

    sender.MlflowClient = _Server  # type: ignore[misc]
    models.of_run = lambda uri, run_id: []
    logging.disable()
    path = folder / "journals" / "run.jsonl"
    files.backlog(path)
    sender.send_pending(path, "none", "run")
    path.with_suffix(".sent").unlink(missing_ok=True)
    (folder / "journals" / "run" / "17-panel.png").write_bytes(b"a picture")
    lines = sorted(folder.glob("line-*"))
    path.write_bytes(b"\n".join(line.read_bytes().replace(b"\n", b" ") for line in lines) + b"\n")
    sender.send_pending(path, "none", "run")
    refused = path.with_suffix(".refused")
    if refused.exists():
        reasons = [json.loads(line)["error"] for line in refused.read_text().splitlines()]
        refused.unlink()
        if strange := [reason for reason in reasons if "there is no checkpoint of step" not in reason]:
            raise ValueError(strange[0])


def _experiment(folder: Path) -> None:
    from miseg.recipes.catalog import RECIPES
    from miseg.recipes.experiment import to_dict

    for name in EXPERIMENTS:
        (folder / name).write_text(json.dumps(to_dict(RECIPES[name.removesuffix(".json")]())))


def _read_experiment(folder: Path) -> None:
    from miseg.recipes.experiment import Experiment, from_dict

    for path in folder.glob("*.json"):
        experiment = from_dict(parse(path.read_bytes()))
        assert isinstance(experiment, Experiment) and len(experiment.id) == 12


def _drawings(folder: Path) -> None:
    store = LabelStore(folder, GRID, ("a", "b"))
    store.apply(0, {"do": "add_class", "id": "water", "name": "Wasser"})
    ring = [[1, 1], [9, 1], [9, 8], [1, 1]]
    shapes = {"Point": [3, 4], "LineString": ring[:3], "Polygon": [ring], "MultiPoint": ring[:2]}
    for number, (kind, coordinates) in enumerate(shapes.items()):
        geometry = {"type": kind, "coordinates": coordinates}
        drawn = {"do": "draw", "id": f"d{number}", "class_id": "water", "scene": "a", "geometry": geometry}
        store.apply(store.revision, drawn)
    store.close()


def _read_drawings(folder: Path) -> None:
    with contextlib.closing(LabelStore(folder, GRID, ("a", "b"))) as store:
        store.state()
        json.dumps(store.drawings.as_json()).encode()


def _plan(folder: Path) -> None:
    from miseg.recipes.study import Changes
    from miseg.recipes.study_growth import Asked, grown
    from miseg.service.study import plan
    from miseg.service.study.plan import Devices, StudyPlan, Throughput

    asked = Asked(data=("embedded",), methods=("ce", "rmi"), changes=Changes(steps=40))
    tables = grown((), asked, {"trials": 4, "confirm_seeds": 2})
    planned = plan.timed(StudyPlan("first", "2026-11-28", ()), tables, lambda experiment: Throughput(8.0, 0.5, "said"))
    file = plan.to_file(planned, "embedded", Devices(False, 2, 1.5), "val")
    (folder / "plan.json").write_text(json.dumps(file.to_json()))


def _read_plan(folder: Path) -> None:
    from miseg.service.study import plan
    from miseg.service.tracking import study_plan

    found = plan.from_file(study_plan.from_json(parse((folder / "plan.json").read_bytes())))
    assert all(len(cell.base.id) == 12 for _, cell, _ in found.cells)


def _claim(folder: Path) -> None:
    from miseg.service.tracking.claims import Claim

    claim = Claim("0a", "first", "", "host", "boot", 17, "99", held=True, beat=3)
    (folder / "claim.json").write_text(json.dumps(asdict(claim)))


def _read_claim(folder: Path) -> None:
    from miseg.service.tracking import claims

    text = (folder / "claim.json").read_bytes().decode(errors="surrogateescape")
    experiment = SimpleNamespace(experiment_id="1", tags={f"{claims.PREFIX}0a": text})
    page = type("Page", (list,), {"token": None})
    client = SimpleNamespace(search_experiments=lambda **_: page([experiment]))
    found = list(claims._read(client))
    if not found:
        raise ValueError("left out: no claim of this version")
    claims._owner(found[0][1]).encode()
    assert found[0][1].gone in (True, False, None)


def _state(folder: Path) -> None:
    from miseg.service import signing

    os.environ[signing.KEY] = "the-key-of-the-fuzzers-" + "0" * 32
    (folder / "state.zip").write_bytes(signing.signed(b"content" * 40, "state 1"))


def _read_state(folder: Path) -> None:
    from miseg.service import signing

    os.environ[signing.KEY] = "the-key-of-the-fuzzers-" + "0" * 32
    if signing.verified((folder / "state.zip").read_bytes(), "state 1") != b"content" * 40:
        raise AssertionError("what nobody signed has passed")


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
    "own Parquet": Reader(_own_parquet, _read_own_parquet, ("own.parquet",)),
    "journal": Reader(_journal, _read_journal, ("journals/run.jsonl", *(f"line-{number}" for number in range(5)))),
    "sent offset": Reader(_journal, _read_journal, ("journals/run.sent",)),
    "signed state": Reader(_state, _read_state, ("state.zip",)),
    "experiment": Reader(_experiment, _read_experiment, EXPERIMENTS),
    "drawn labels": Reader(_drawings, _read_drawings, (FILE,)),
    "study plan": Reader(_plan, _read_plan, ("plan.json",)),
    "claim": Reader(_claim, _read_claim, ("claim.json",)),
    "checkpoint": Reader(
        _checkpoint,
        _read_checkpoint,
        tuple(f"checkpoint/{name}" for name in ("checkpoint.json", "experiment.json", "weights.safetensors")),
        _seal_checkpoint,
    ),
    "training state": Reader(_checkpoint, _read_checkpoint, ("checkpoint/training.pt",), _seal_checkpoint),
}
