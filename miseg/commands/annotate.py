"""Label an image or a series on a web page, and see the map change with every click.

miseg annotate --model runs:/3f0c9d… --scene 2019-07-20.tif --bands B04 B03 B02 B08
miseg annotate --model runs:/3f0c9d… --series FOLDER --labels points.geojson

It prints the page's address and runs until Ctrl-C. Labels are kept in --out, and are there again the next time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from miseg.service.command.options import JobOptions, execute


@dataclass
class Annotate(JobOptions):
    """Serve the labelling page."""

    model: str = ""
    """An MLflow run's ID, or runs:/ID, or the folder of a checkpoint, of a few-label method."""
    scene: Path | None = None
    """The image: a GeoTIFF, PNG or JPEG, a SAFE folder, or a folder of single-band files."""
    series: Path | None = None
    """Folder of dates of the same place, in the place of --scene."""
    labels: Path | None = None
    """Labels to begin with: GeoJSON, CSV of row, column, class, or a label raster. They are added once."""
    out: Path | None = None
    """Folder for the labels and exported files. Default: labels/NAME in the storage, by the scene's or series' name."""
    host: str = "127.0.0.1"
    """Address to listen on. The page wants the token that is printed with its address."""
    port: int = 8300
    """Port to listen on; 0 takes a free one."""
    date: str | None = None
    """Date of the series that is shown first, and that --labels are of where they do not say. Default: the first."""
    window: tuple[int, int, int, int] | None = None
    """Row, column, height and width, in pixels, of the part of a large image to label. Default: all of it, or the 1024
    x 1024 pixels in its middle."""
    role: Literal["best", "last"] = "last"
    """Choice among a run's two models."""
    class_property: str = "class"
    """Property of the GeoJSON features, or column of the table, that holds the class."""
    bands: tuple[str, ...] | None = None
    """Bands in the channels' order. Default: those that the files name, or B02 B03 B04 B08. A file that does not name
    its bands has exactly these."""
    offset: float | None = None
    """Added to stored values. Default: what the metadata say."""
    full_scale: float | None = None
    """Stored value of 1.0. Default: what the metadata say, or 10000 for 16 bits and 255 for 8."""


def run(arguments: Annotate) -> int:
    """Serve until Ctrl-C."""
    if not arguments.model:
        raise ValueError("--model is missing")
    if (arguments.scene is None) == (arguments.series is None):
        raise ValueError("give one of --scene and --series")
    if not 0 <= arguments.port < 2**16:
        raise ValueError(f"--port {arguments.port}: use 0 to 65535")
    # Not at the top: --help must not wait for them.
    from miseg.data.raster.scene_files import SceneOptions, open_scene, open_series
    from miseg.service.checkpoints import checkpoint_files
    from miseg.service.cluster import ray_cluster
    from miseg.service.labelling import http, serve
    from miseg.service.labelling.session import FirstView
    from miseg.service.tracking import models

    options = SceneOptions(bands=arguments.bands, offset=arguments.offset, full_scale=arguments.full_scale)
    if arguments.series is not None:
        series = open_series(arguments.series, options)
        name, scenes = series.name, {str(scene.date): scene for scene in series}
    else:
        assert arguments.scene is not None
        scene = open_scene(arguments.scene, options)
        name, scenes = scene.name, {scene.date or scene.name: scene}
    first = arguments.date or next(iter(scenes))
    if first not in scenes:
        raise ValueError(f"--date {first}: there are {', '.join(scenes)}")
    out = arguments.out.expanduser().resolve() if arguments.out is not None else _default_out(arguments.root, name)
    with tempfile.TemporaryDirectory() as beside:
        folder = models.folder_of(arguments.model, arguments.role, arguments.root, arguments.offline, Path(beside))
        files = checkpoint_files.files_of(folder)
        order, _ = checkpoint_files.bands_of(folder)
    if order is not None:
        scenes = {key: scene.in_order(order) for key, scene in scenes.items()}
    port = serve.free_port(arguments.host, arguments.port)
    token = serve.token(out)
    hosts = serve.LOOPBACK if arguments.host in serve.LOOPBACK else ("*",)
    opened = serve.PageSetup(files, scenes, out, http.PAGE, FirstView(name, arguments.window, first), hosts, token)
    for problem in opened.check(arguments.labels, arguments.class_property):
        print(f"left out: {problem.source}: {problem.reason}", file=sys.stderr)
    ray_cluster.connect(arguments.address)
    try:
        serve.start(opened, arguments.host, port, ray_cluster.resources(1, 1))
        print(f"labelling page: http://{_shown(arguments.host)}:{port}/#token={token}")
        print(f"labels: {out}; Ctrl-C ends it", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0
    finally:
        serve.stop()


def _default_out(storage: str, name: str) -> Path:
    if "://" in storage:
        raise ValueError(f"--storage {storage} is no folder: say with --out where the labels are kept")
    return Path(storage) / "labels" / name


def _shown(host: str) -> str:
    """The host as an address names it; of all of this machine's addresses, one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (what a user gave is read)
    return f"[{host}]" if ":" in host else host


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Annotate, run, __doc__)
