"""Map images of any size with a trained model, or scenes from a few labelled pixels.

miseg segment --model runs:/3f0c9d… --images FOLDER --out maps/
miseg segment --model runs:/3f0c9d… --images s3://bucket/prefix --out s3://bucket/maps --tile 1024
miseg segment --model runs:/3f0c9d… --scene 2019-07-20.tif --labels points.geojson --out map.tif
miseg segment --model runs:/3f0c9d… --scene 2019-07-20.tif --labels points.geojson --series FOLDER --out maps/
miseg segment --model FOLDER --scene a.tif --labels points.csv --apply-to b.tif --out b_map.tif
miseg segment --model FOLDER --scene a.tif --labels points.csv --images FOLDER --out maps/
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from miseg.service.command.options import JobOptions, check_no_keys, execute

if TYPE_CHECKING:
    from miseg.data.raster.scene_files import SceneOptions
    from miseg.recipes.experiment import Experiment


@dataclass
class Segment(JobOptions):
    """Write class maps (GeoTIFF) and their confidence beside them; of single scenes and series also a PNG to look at.

    With --images what is there whole, made from the same model, settings and image, is not made again.
    """

    model: str = ""
    """An MLflow run's ID, or runs:/ID, or the folder of a checkpoint; without --images, of a few-label method."""
    images: tuple[str, ...] = ()
    """Files, folders and URIs such as s3://bucket/prefix: every PNG, JPEG, TIFF, JPEG 2000 and SAFE product there is
    mapped. Of a few-label method they are scenes, mapped from the labels of --scene."""
    scene: Path | None = None
    """The labelled scene: a stacked GeoTIFF, a SAFE folder, or a folder of single-band files."""
    labels: Path | None = None
    """Labelled pixels: GeoJSON points, lines or polygons; CSV of row, column, class; or a label raster."""
    out: str | None = None
    """GeoTIFF to write; with --series a folder, with --images a folder or URI."""
    series: Path | None = None
    """Folder of dates of the same place, which are all mapped from the labels of --scene."""
    apply_to: Path | None = None
    """Another scene, which is mapped from the labels of --scene."""
    tile: int = 512
    """Pixels of a side of the tiles into which --images are cut, a multiple of 16."""
    overlap: int = 64
    """Pixels that neighbouring tiles share at least; over them one fades into the other."""
    batch: int | None = None
    """Tiles that are predicted at once. Default: 8 on a GPU, 1 without; more take more memory."""
    role: Literal["best", "last"] | None = None
    """Choice among a run's two models. Default: the last of a few-label method, the best of others."""
    class_property: str = "class"
    """Property of the GeoJSON features, or column of the table, that holds the class."""
    bands: tuple[str, ...] | None = None
    """Bands of scenes. Default: those of the model's own series, else B02 B03 B04 B08. A stack that does not name its
    bands has exactly these, in its order. The channels' order is that of the model's series, where it was trained on
    one, else that given here."""
    offset: float | None = None
    """Added to stored values. Default: what the metadata say."""
    full_scale: float | None = None
    """Stored value of 1.0. Default: what the metadata say, or 10000 for 16 bits and 255 for 8."""
    compare: Literal["local", "global", "representation", "patches", "pixels"] | None = None
    """Measure of nearness to labelled pixels. Default: the model's own."""
    neighbours: int | None = None
    """Number of the nearest labelled pixels that vote. Default: the model's own."""


def run(arguments: Segment) -> int:
    """Map, and say what was left out; status 1 where nothing was mapped."""
    _check(arguments)
    # Not at the top: --help must not wait for them.
    from miseg.data.raster.scene_files import SceneOptions
    from miseg.service.checkpoints import checkpoint_files
    from miseg.service.tracking import mlflow_runs

    uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
    with tempfile.TemporaryDirectory() as beside:
        folder = _model(arguments, Path(beside))
        experiment = checkpoint_files.read_experiment(folder)
        files = checkpoint_files.files_of(folder)
        order, resample = checkpoint_files.bands_of(folder)
    mlflow_runs.check(uri, arguments.root)
    options = SceneOptions(arguments.bands, arguments.offset, arguments.full_scale, resample, order=order)
    run_id = (_many if arguments.images else _scenes)(arguments, files, experiment, options, uri)
    if run_id is None:
        return 1
    if run_id:
        print(f"MLflow run {run_id} at {uri}")
    return 0


def _check(arguments: Segment) -> None:
    for option in ("model", "out") if arguments.images else ("model", "scene", "labels", "out"):
        if not getattr(arguments, option):
            also = " (or give --images)" if option in ("scene", "labels") else ""
            raise ValueError(f"--{option} is missing{also}")
    if sum(bool(other) for other in (arguments.images, arguments.series, arguments.apply_to)) > 1:
        raise ValueError("give one of --images, --series and --apply-to")
    if (arguments.scene is None) != (arguments.labels is None):
        raise ValueError("--scene and --labels go together: the labels are of that scene's pixels")
    if arguments.neighbours is not None and arguments.neighbours < 1:
        raise ValueError(f"--neighbours {arguments.neighbours}: use 1 or more")
    if "://" in str(arguments.out) and not arguments.images:
        raise ValueError(f"--out {arguments.out}: without --images maps are written to files and folders")
    for option, uris in (("images", arguments.images), ("out", (str(arguments.out),))):
        for uri in uris:
            check_no_keys(option, uri)


def _scenes(
    arguments: Segment, files: dict[str, bytes], experiment: Experiment, options: SceneOptions, uri: str
) -> str | None:
    """The id of the MLflow run; None where nothing was mapped."""
    # Not at the top: --help must not wait for them.
    from miseg.data.raster.scene_files import open_scene, open_series
    from miseg.service.cluster import ray_cluster
    from miseg.service.mapping import scene_maps
    from miseg.service.mapping.record import record
    from miseg.service.tracking import models
    from miseg.service.tracking.run_store import RunStore

    if not experiment.takes_labelled_pixels:
        raise ValueError(
            f"{arguments.model} holds {type(experiment.method).__name__}, which takes no labelled pixels: "
            "give --images, and neither --scene nor --labels"
        )
    scene, examples, labels = _labelled(arguments, experiment, options)
    assert arguments.out is not None
    out = Path(arguments.out)
    targets = {out: scene}
    if arguments.apply_to is not None:
        targets = {out: open_scene(arguments.apply_to, options)}
    elif arguments.series is not None:
        series = open_series(arguments.series, options)
        targets = {out / f"{target.date or target.name}.tif": target for target in series}
    ray_cluster.connect(arguments.address)
    comparison = scene_maps.NeighbourSettings(arguments.compare, arguments.neighbours)
    maps = scene_maps.segment(files, targets, examples, ray_cluster.resources(1, 1), comparison, labels.colours)
    for reason in maps.left_out.values():
        print(f"left out: {reason}", file=sys.stderr)
    if not maps.made:
        return None
    if sentence := scene_maps.label_agreement(maps.made, targets, scene, labels):
        print(sentence, flush=True)
    settings = {name: str(getattr(arguments, name)) for name in ("model", "scene", "labels", "compare", "neighbours")}
    summary = scene_maps.summary(maps.made, settings["labels"])
    return record(RunStore(arguments.root, uri), experiment, models.run_of(arguments.model), settings, summary)


def _many(
    arguments: Segment, files: dict[str, bytes], experiment: Experiment, options: SceneOptions, uri: str
) -> str | None:
    """The id of the MLflow run, empty where all was there already; None where nothing was mapped."""
    # Not at the top: --help must not wait for them.
    from dataclasses import replace

    from miseg.evaluation.tiled import Tiling
    from miseg.service.cluster import ray_cluster
    from miseg.service.mapping import image_maps, scene_maps
    from miseg.service.mapping.image_actor import MapSettings
    from miseg.service.mapping.record import record
    from miseg.service.tracking import models
    from miseg.service.tracking.run_store import RunStore

    tiling = Tiling(arguments.tile, arguments.overlap, 1 if arguments.batch is None else arguments.batch)
    settings = MapSettings(tiling, options, None, scene_maps.NeighbourSettings(arguments.compare, arguments.neighbours))
    if arguments.labels is not None and experiment.takes_labelled_pixels:
        _, examples, labels = _labelled(arguments, experiment, options)
        settings = replace(settings, examples=examples, colours=labels.colours)
    elif arguments.labels is not None:
        raise ValueError(f"{arguments.model} holds a method that takes no labelled pixels: leave --labels out")
    # Workers have folders of their own, and a relative path would lead there.
    out = str(arguments.out) if "://" in str(arguments.out) else str(Path(str(arguments.out)).expanduser().absolute())
    plan = image_maps.plan(files, arguments.images, out, settings)
    print(f"{plan.existing + len(plan.todo):,} images, of {plan.existing:,} there is a whole map", flush=True)
    if plan.todo:
        ray_cluster.connect(arguments.address)
    resources = ray_cluster.resources(1, 1) if plan.todo else ray_cluster.Resources(0, 0, 1, 1)
    if arguments.batch is None and resources.use_gpu:
        plan = replace(plan, settings=replace(settings, tiling=replace(tiling, batch=8)))
    outcome = image_maps.carry_out(plan, resources)
    if not outcome.made:
        return "" if plan.existing and not plan.todo else None
    names = ("model", "images", "out", "tile", "overlap", "scene", "labels", "compare", "neighbours")
    options_used = {name: str(getattr(arguments, name))[:500] for name in names}
    summary = image_maps.summary(plan, outcome)
    return record(RunStore(arguments.root, uri), experiment, models.run_of(arguments.model), options_used, summary)


def _labelled(arguments: Segment, experiment: Experiment, options: SceneOptions) -> tuple[Any, Any, Any]:
    """The labelled scene, its labelled pixels as `segment.Examples`, and as they were read."""
    # Not at the top: --help must not wait for them.
    from miseg.data.labels.annotations import read_annotations
    from miseg.data.loading.tiles import StandardScene
    from miseg.data.raster.scene_files import open_scene
    from miseg.service.mapping.scene_maps import Examples

    assert arguments.scene is not None and arguments.labels is not None and experiment.patch is not None
    scene = open_scene(arguments.scene, options)
    labelled = StandardScene.measure(scene)
    annotations, problems = read_annotations(
        arguments.labels, scene.grid, labelled.valid_at, class_property=arguments.class_property
    )
    for problem in problems:
        print(f"left out: {problem.source}: {problem.reason}", file=sys.stderr)
    print(f"labelled pixels: {', '.join(f'{name} {n}' for name, n in annotations.counts().items())}", flush=True)
    tiles = tuple(labelled.examples(annotations, experiment.patch))
    return scene, Examples(tiles, annotations.classes), annotations


def _model(arguments: Segment, beside: Path) -> Path:
    """The folder of the checkpoint that --model names."""
    # Not at the top: --help must not wait for them.
    from miseg.service.tracking import models

    role = arguments.role or ("best" if arguments.images and arguments.labels is None else "last")
    return models.folder_of(arguments.model, role, arguments.root, arguments.offline, beside)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Segment, run, __doc__)
