"""Map a scene from a few labelled pixels, with a model that was trained without labels.

python jobs/segment.py --model runs:/3f0c9d… --scene 2019-07-20.tif --labels points.geojson --out map.tif
python jobs/segment.py --model runs:/3f0c9d… --scene 2019-07-20.tif --labels points.geojson --series FOLDER --out maps/
python jobs/segment.py --model FOLDER --scene a.tif --labels points.csv --apply-to b.tif --out b_map.tif
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from miseg.service.command import Place, main


@dataclass
class Segment(Place):
    """Write class maps (GeoTIFF), their confidence beside them, and a PNG to look at."""

    model: str = ""
    """runs:/ID of an MLflow run, or the folder of a checkpoint, of a few-label method."""
    scene: Path | None = None
    """The labelled scene: a stacked GeoTIFF, a SAFE folder, or a folder of single-band files."""
    labels: Path | None = None
    """Labelled pixels: GeoJSON points, lines or polygons; CSV of row, column, class; or a label raster."""
    out: Path | None = None
    """GeoTIFF to write; with --series a folder."""
    series: Path | None = None
    """Folder of dates of the same place, which are all mapped from the labels of --scene."""
    apply_to: Path | None = None
    """Another scene, which is mapped from the labels of --scene."""
    role: Literal["best", "last"] = "last"
    """Which of a run's two models."""
    class_property: str = "class"
    """Property of the GeoJSON features, or column of the table, that holds the class."""
    bands: tuple[str, ...] | None = None
    """Bands in the channels' order. Default: those that the files name, or B02 B03 B04 B08. A stack that does not name
    its bands has exactly these."""
    offset: float | None = None
    """Added to stored values. Default: what the metadata say."""
    full_scale: float | None = None
    """Stored value of 1.0. Default: what the metadata say, or 10000 for 16 bits and 255 for 8."""
    compare: Literal["local", "global", "representation", "patches", "pixels"] | None = None
    """What makes a labelled pixel near. Default: the model's own."""
    neighbours: int | None = None
    """How many of the nearest labelled pixels vote. Default: the model's own."""


def run(arguments: Segment) -> int:
    """Map, and say what was left out; status 1 where nothing was mapped."""
    for option in ("model", "scene", "labels", "out"):
        if not getattr(arguments, option):
            raise ValueError(f"--{option} is missing")
    if arguments.series is not None and arguments.apply_to is not None:
        raise ValueError("give one of --series and --apply-to")
    if arguments.neighbours is not None and arguments.neighbours < 1:
        raise ValueError(f"--neighbours {arguments.neighbours}: use 1 or more")
    from miseg.data.annotations import read_annotations
    from miseg.data.scene_files import SceneOptions, open_scene, open_series
    from miseg.data.tiles import StandardScene
    from miseg.service import checkpoint_files, cluster, segment, tracking

    assert arguments.scene is not None and arguments.labels is not None and arguments.out is not None
    options = SceneOptions(bands=arguments.bands, offset=arguments.offset, full_scale=arguments.full_scale)
    scene = open_scene(arguments.scene, options)
    uri = tracking.tracking_uri(arguments.root, arguments.offline)
    tracking.check(uri, arguments.root)
    with tempfile.TemporaryDirectory() as beside:
        folder = _model(arguments, Path(beside))
        experiment = checkpoint_files.read_experiment(folder)
        files = checkpoint_files.files_of(folder)
    if experiment.patch is None:
        raise ValueError(f"{arguments.model} holds {type(experiment.method).__name__}, which takes no labelled pixels")
    labelled = StandardScene.measure(scene)
    annotations, problems = read_annotations(
        arguments.labels, scene.grid, labelled.valid_at, class_property=arguments.class_property
    )
    for problem in problems:
        print(f"left out: {problem.place}: {problem.reason}", file=sys.stderr)
    print(f"labelled pixels: {', '.join(f'{name} {n}' for name, n in annotations.counts().items())}", flush=True)
    examples = segment.Examples(tuple(labelled.examples(annotations, experiment.patch)), annotations.classes)
    targets = {arguments.out: scene}
    if arguments.apply_to is not None:
        targets = {arguments.out: open_scene(arguments.apply_to, options)}
    elif arguments.series is not None:
        series = open_series(arguments.series, options)
        targets = {arguments.out / f"{target.date or target.name}.tif": target for target in series}
    cluster.connect(arguments.address)
    found = segment.segment(
        files,
        targets,
        examples,
        cluster.resources(1, 1),
        segment.Comparison(arguments.compare, arguments.neighbours),
        annotations.colours,
    )
    for reason in found.left_out.values():
        print(f"left out: {reason}", file=sys.stderr)
    if not found.made:
        return 1
    run_id = segment.record(
        found.made,
        experiment,
        uri,
        storage=arguments.root,
        parent=arguments.model.removeprefix("runs:/").split("/")[0] if arguments.model.startswith("runs:/") else None,
        settings={
            name: str(getattr(arguments, name)) for name in ("model", "scene", "labels", "compare", "neighbours")
        },
    )
    print(f"MLflow run {run_id} at {uri}")
    return 0


def _model(arguments: Segment, beside: Path) -> Path:
    """The folder of the checkpoint that --model names."""
    if not arguments.model.startswith("runs:/"):
        return Path(arguments.model).expanduser()
    from miseg.service import models, tracking

    run_id = arguments.model.removeprefix("runs:/").split("/")[0]
    return models.download(tracking.tracking_uri(arguments.root, arguments.offline), run_id, arguments.role, beside)


if __name__ == "__main__":
    main(Segment, run, __doc__)
