"""Maps of many images, in folders and buckets, by any trained method: an image a task, in memory that does not grow."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from miseg.data.raster.image_files import ImageFile, find
from miseg.data.raster.map_records import whole
from miseg.data.storage import file_system, is_local, patiently, write_whole
from miseg.file_names import below, last_name
from miseg.service.checkpoints import checkpoint_files
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.mapping.actor_pool import map_over_actors
from miseg.service.mapping.image_actor import ImageMapper, MapSettings, StoreError, storing
from miseg.service.mapping.progress import MappingProgress
from miseg.service.mapping.record import MapsSummary

LEFT_OUT = "left_out.jsonl"


@dataclass(frozen=True)
class MappingPlan:
    """Plan of a mapping: images, model and settings.

    Attributes:
        files: a checkpoint's files.
        out: folder or URI of the maps.
        settings: how.
        todo: the images whose maps are not there.
        made_from: of each, what its map's record will say.
        existing: number of maps that are there whole.
        left_out: why images are left out, by path or URI.
    """

    files: Mapping[str, bytes]
    out: str
    settings: MapSettings
    todo: tuple[ImageFile, ...]
    made_from: tuple[Mapping[str, Any], ...]
    existing: int
    left_out: dict[str, str]


@dataclass
class MappingOutcome:
    """Result of mapping many images.

    Attributes:
        made: number of maps that were written.
        left_out: why there is no map, by the image's path or URI.
        classes: pixels of the maps that were written, by class.
        pixels: that were mapped.
        tiles: that were predicted.
        seconds: since the first image was opened.
    """

    made: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    classes: Counter[str] = field(default_factory=Counter)
    pixels: int = 0
    tiles: int = 0
    seconds: float = 0.0


def plan(files: Mapping[str, bytes], sources: Sequence[str], out: str, settings: MapSettings) -> MappingPlan:
    """Find the images of `sources` that have no whole map from the same model, settings and image under `out` yet.

    Args:
        files: a checkpoint, as `checkpoint_files.files_of` gives it.
        sources: files, folders, URIs, which every machine of the cluster sees.
        out: folder or URI.
        settings: how they are mapped.

    Raises:
        ValueError: nothing to map at a source, `out` cannot be listed; or as `Predictor` and `Tiling`.
    """
    # Here too, so that a wrong setting is told before a process is started for it.
    with tempfile.TemporaryDirectory() as folder:
        checkpoint_folder = checkpoint_files.unpack(files, Path(folder))
        predictor = settings.predictor(checkpoint_folder, torch.device("cpu"))
    predictor.tiling(settings.tiling)
    images, left_out = find(sources, out, scenes=predictor.of_scenes)
    model_and_settings = {
        "model": hashlib.sha256(files[checkpoint_files.MANIFEST]).hexdigest(),
        "settings": settings.description(),
    }
    made_from = {
        image.name: model_and_settings
        | {"image": {"uri": image.uri, "bytes": image.bytes, "modified_ns": image.modified_ns}}
        for image in images
    }
    existing = whole(out, made_from)
    todo = tuple(image for image in images if image.name not in existing)
    return MappingPlan(
        files, out, settings, todo, tuple(made_from[image.name] for image in todo), len(existing), left_out
    )


def carry_out(plan: MappingPlan, resources: Resources) -> MappingOutcome:
    """Map what is to be mapped.

    Of an image a/b.png below a place there is a/b.tif, its confidence a/b_confidence.tif (see `MapWriter`) and
    a/b.json, which says what it was made from and is written last. An image that cannot be mapped is told, and listed
    in left_out.jsonl under `out`. How far it is is told every few seconds.

    Raises:
        StoreError: a map, or left_out.jsonl, cannot be written.
    """
    outcome = MappingOutcome(left_out=dict(plan.left_out))
    for uri, reason in plan.left_out.items():
        print(f"left out: {uri}: {reason}", file=sys.stderr, flush=True)
    progress = MappingProgress([todo.bytes for todo in plan.todo])
    try:
        for row in _rows(plan, resources) if plan.todo else ():
            image = int(row["image"])
            if row["stored"]:
                raise StoreError(str(row["stored"]))
            if row["size"]:
                progress.opened(image, int(row["size"]))
            progress.add(image, int(row["pixels"]), int(row["tiles"]))
            if not row["ended"]:
                continue
            uri = plan.todo[image].uri
            if row["problem"]:
                outcome.left_out[uri] = str(row["problem"])
                print(f"left out: {uri}: {row['problem']}", file=sys.stderr, flush=True)
            else:
                outcome.made += 1
                outcome.classes.update(json.loads(row["classes"]))
            progress.end(image)
    except BaseException:
        with contextlib.suppress(OSError):
            _list_left_out(plan.out, outcome.left_out)
        raise
    with storing(below(plan.out, LEFT_OUT)):
        _list_left_out(plan.out, outcome.left_out)
    outcome.pixels, outcome.tiles, outcome.seconds = progress.pixels, progress.tiles, progress.seconds
    return outcome


def _rows(plan: MappingPlan, resources: Resources) -> Iterator[dict[str, Any]]:
    """The rows that `ImageMapper` gives, as they come."""
    items = [{"image": index} for index in range(len(plan.todo))]
    shared = dict(plan.files), plan.todo, plan.made_from, plan.settings, plan.out
    rows = map_over_actors(ImageMapper, items, shared, resources)
    # How far a scene is shall be known while it is mapped: a row is a block, and waits for no earlier one's.
    rows.context.target_max_block_size = 1
    rows.context.execution_options.preserve_order = False
    for columns in rows.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
        for index in range(len(columns["image"])):
            yield {name: values[index] for name, values in columns.items()}


def _list_left_out(out: str, left_out: Mapping[str, str]) -> None:
    system, folder = file_system(out)
    lines = [json.dumps({"image": uri, "reason": reason}, ensure_ascii=False) for uri, reason in left_out.items()]
    path = f"{folder}/{LEFT_OUT}"
    if not lines:
        with contextlib.suppress(FileNotFoundError):
            patiently(system, lambda: system.delete_file(path))
        return
    if is_local(system):
        system.create_dir(folder, recursive=True)
    patiently(system, lambda: write_whole(system, path, ("\n".join(lines) + "\n").encode()))


def summary(plan: MappingPlan, outcome: MappingOutcome) -> MapsSummary:
    """Summary of many maps: counts, throughput, the pixels of each class, and what was left out."""
    metrics = {
        "images_mapped": outcome.made,
        "images_there": plan.existing,
        "images_left_out": len(outcome.left_out),
        "tiles": outcome.tiles,
        "pixels": outcome.pixels,
        "seconds": outcome.seconds,
        "pixels_per_second": outcome.pixels / max(outcome.seconds, 1e-9),
    }
    classes = [{"class": name, "pixels": number} for name, number in outcome.classes.items()]
    tables = {"maps.csv": pd.DataFrame(classes)}
    if outcome.left_out:
        lines = [{"image": uri, "reason": reason} for uri, reason in outcome.left_out.items()]
        tables["left_out.csv"] = pd.DataFrame(lines)
    return MapsSummary(f"maps in {last_name(plan.out)}", tables, metrics)
