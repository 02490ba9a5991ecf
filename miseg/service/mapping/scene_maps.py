"""Maps of whole scenes from a few labelled pixels: tiles over the cluster, the map written as they come."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch

from miseg.data.labels.annotations import Annotations
from miseg.data.loading.tiles import TILE, StandardScene
from miseg.data.raster.maps import MapWriter, confidence_path, default_colours
from miseg.data.raster.quicklook import quicklook
from miseg.data.raster.scenes import Scene
from miseg.data.samples import IGNORE_LABEL
from miseg.evaluation.tiled import decided
from miseg.interface import Batch, Task
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.mapping.actor_pool import map_over_actors
from miseg.service.mapping.record import MapsSummary


@dataclass(frozen=True)
class Examples:
    """Labelled pixels of one scene.

    Attributes:
        tiles: images float32 [1, C, h, w], standardised, with labels uint8 [1, h, w], 255 but at the labelled pixels.
        class_names: K names in label order.
    """

    tiles: tuple[tuple[np.ndarray, np.ndarray], ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class NeighbourSettings:
    """Settings of comparing pixels; None leaves what the model was trained with.

    Attributes:
        compare: "local", "global", "representation", "patches" or "pixels".
        neighbours: how many of the nearest labelled pixels vote.
    """

    compare: str | None = None
    neighbours: int | None = None


@dataclass(frozen=True)
class Maps:
    """Result of mapping several scenes.

    Attributes:
        made: the pixels of each class, by map.
        left_out: why there is no map, by the path that it would have.
    """

    made: dict[Path, dict[str, int]]
    left_out: dict[Path, str]


def segment(
    files: Mapping[str, bytes],
    targets: Mapping[Path, Scene],
    examples: Examples,
    resources: Resources,
    comparison: NeighbourSettings | None = None,
    colours: Sequence[Sequence[int]] | None = None,
) -> Maps:
    """Map scenes: of each a GeoTIFF, its confidence beside it, as `MapWriter` writes them, and a picture (.png).

    Every pixel with data gets a class, beyond the border patches are reflected; clouds and nodata get none. A scene
    that cannot be mapped costs the others nothing. Windows of all scenes go through one pipeline, so that the model is
    opened once a process. Each map is told in a line as it is written.

    Args:
        files: a few-label method's checkpoint, as `checkpoint_files.files_of` gives it.
        targets: GeoTIFF to write -> scene; its files must be seen by every machine of the cluster.
        examples: labelled pixels, of one of the scenes or another of the same bands.
        resources: whether GPUs are to be had.
        comparison: how pixels are compared.
        colours: K (red, green, blue).

    Raises:
        ValueError: as `open_for_maps`.
    """
    settings = comparison or NeighbourSettings()
    # Here too, so that a wrong setting is told before a process is started for it.
    with tempfile.TemporaryDirectory() as folder:
        open_for_maps(checkpoint_files.unpack(files, Path(folder)), examples, settings, torch.device("cpu"))
    left_out: dict[Path, str] = {}
    scenes: dict[Path, StandardScene] = {}
    for out, scene in targets.items():
        try:
            scenes[out] = StandardScene.measure(scene)
        except ValueError as error:
            left_out[out] = str(error)
    made = {}
    rows = _mapped(files, list(scenes.values()), examples, resources, settings) if scenes else iter(())
    for index, scene_rows in itertools.groupby(rows, key=lambda row: int(row["scene"])):
        out, standard = list(scenes.items())[index]
        try:
            made[out] = _written(out, standard, scene_rows, examples.class_names, colours)
        except ValueError as error:
            left_out[out] = str(error)
            continue
        total = max(1, sum(made[out].values()))
        shares = ", ".join(f"{name} {100 * number / total:.1f} %" for name, number in made[out].items())
        print(f"{out}: {shares}; to look at: {out.with_suffix('.png')}", flush=True)
    return Maps(made, left_out)


def _mapped(
    files: Mapping[str, bytes],
    scenes: Sequence[StandardScene],
    examples: Examples,
    resources: Resources,
    comparison: NeighbourSettings,
) -> Iterator[dict[str, Any]]:
    """The rows that `Mapper` gives for the windows of all scenes, in order."""
    items = [
        {"scene": index, "window": list(window)}
        for index, standard in enumerate(scenes)
        for window in standard.scene.grid.windows(TILE)
    ]
    shared = dict(files), list(scenes), examples, comparison
    yield from map_over_actors(Mapper, items, shared, resources).iter_rows()


def _written(
    out: Path,
    standard: StandardScene,
    rows: Iterator[dict[str, Any]],
    class_names: Sequence[str],
    colours: Sequence[Sequence[int]] | None,
) -> dict[str, int]:
    counts = np.zeros(len(class_names), np.int64)
    scene = standard.scene
    with MapWriter(out, scene.grid, class_names, colours) as writer:
        for row in rows:
            if row["problem"]:
                raise ValueError(row["problem"])
            top, left, height, width = (int(value) for value in row["window"])
            classes = np.frombuffer(row["classes"], np.uint8).reshape(height, width)
            confidence = np.frombuffer(row["confidence"], np.float32).reshape(height, width)
            writer.write((top, left, height, width), classes, confidence)
            counts += np.bincount(classes[classes != IGNORE_LABEL], minlength=len(counts))
    quicklook(
        scene.read()[0].transpose(2, 0, 1) if scene.grid.height * scene.grid.width <= 2**24 else scene.files[0],
        out,
        colours or default_colours(len(class_names)),
        out.with_suffix(".png"),
        class_names=class_names,
        confidence=confidence_path(out),
    )
    return dict(zip(class_names, counts.tolist(), strict=True))


def label_agreement(made: Mapping[Path, Any], targets: Mapping[Path, Scene], scene: Scene, labels: Annotations) -> str:
    """A sentence on how many of the labelled pixels the map of their own scene gives their own class; "" without one.

    A model that learned something gives most of them theirs. One that compares by what it never learned need not give
    any: a labelled pixel is not nearest to itself by mutual information.
    """
    out = next((out for out in made if targets[out].files == scene.files), None)
    if out is None or not len(labels):
        return ""
    # Not at the top: images alone need no extra 'geo'.
    import rasterio
    from rasterio.windows import Window

    own = 0
    with rasterio.open(out) as file:
        for row in np.unique(labels.rows):
            here = labels.rows == row
            line = file.read(1, window=Window(0, int(row), file.width, 1))[0]
            own += int((line[labels.columns[here]] == labels.labels[here]).sum())
    share, most = own / len(labels), max(labels.counts().values()) / len(labels)
    text = f"{out}: of the {len(labels)} labelled pixels the map gives {100 * share:.1f} % their own class"
    if share < most:
        text += (
            f", where one class alone would have {100 * most:.1f} %: do not use it; train for longer, or compare by "
            "something else (--compare representation, patches or pixels)"
        )
    return text


def summary(made: Mapping[Path, Mapping[str, int]], labels: str) -> MapsSummary:
    """Summary of maps that were made from the labels in the file `labels`: pictures, and pixels of each class."""
    rows = [{"map": str(out), "class": name, "pixels": n} for out, pixels in made.items() for name, n in pixels.items()]
    pictures = [out.with_suffix(".png") for out in made]
    return MapsSummary(f"maps from {Path(labels).name}", {"maps.csv": pd.DataFrame(rows)}, pictures=pictures)


class Mapper:
    """Maps windows; an actor, so that the model and the examples are prepared once."""

    def __init__(self, shared: Any, threads: int) -> None:
        torch.set_num_threads(threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        files, self.scenes, examples, comparison = ray.get(shared)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint_folder = checkpoint_files.unpack(files, Path(folder))
            self.method = open_for_maps(checkpoint_folder, examples, comparison, self.device)

    def __call__(self, columns: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The classes and the confidence of each window, as bytes, since tiles at the far sides are smaller.

        Where a window cannot be mapped, `problem` says why.
        """
        for index, numbers in zip(columns["scene"], columns["window"], strict=True):
            row, column, height, width = (int(value) for value in numbers)
            classes = confidence = b""
            problem = ""
            try:
                mapped = map_window(self.method, self.scenes[index], (row, column, height, width), self.device)
                classes, confidence = mapped[0].tobytes(), mapped[1].tobytes()
            except ValueError as error:
                problem = str(error)
            yield {
                "scene": [index],
                "window": np.array([[row, column, height, width]]),
                "classes": np.array([classes], object),
                "confidence": np.array([confidence], object),
                "problem": [problem],
            }


def open_for_maps(
    folder: Path, examples: Examples, comparison: NeighbourSettings, device: torch.device
) -> NearestLabelMethod:
    """The method of a checkpoint, told the examples, for their classes.

    Raises:
        ValueError: it takes no labelled pixels; other bands; no such comparison.
    """
    method, experiment, task = checkpoint.open_method(folder, device)
    if not isinstance(method, NearestLabelMethod):
        raise ValueError(f"{type(experiment.method).__name__} learns from dense labels: it maps with `miseg evaluate`")
    bands = examples.tiles[0][0].shape[1]
    if bands != task.in_channels:
        raise ValueError(f"the scene has {bands} bands, the model was trained on {task.in_channels}: give --bands")
    method.task = Task(len(examples.class_names), task.in_channels, examples.class_names, IGNORE_LABEL)
    method.compare = comparison.compare or method.compare
    method.neighbours = comparison.neighbours or method.neighbours
    if method.compare not in method.comparisons():
        raise ValueError(f"compare = {method.compare!r}: this model has {', '.join(method.comparisons())}")
    method.fit_support(
        Batch(torch.from_numpy(images), torch.from_numpy(labels).long()).to(device) for images, labels in examples.tiles
    )
    return method


def map_window(
    method: NearestLabelMethod, scene: StandardScene, window: tuple[int, int, int, int], device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Classes, uint8 [h, w] (255 on clouds and nodata), and confidence, float32 [h, w], of a window.

    The confidence is (p₁ − p₂) / (p₁ + p₂) of the two best classes, 0..1.
    """
    tile = scene.tile(window, method.patch)
    probabilities_KHW = method.predict(torch.from_numpy(tile.images).to(device))[0][:, *tile.inner].cpu()
    return decided(probabilities_KHW, torch.from_numpy(tile.valid[tile.inner]))
