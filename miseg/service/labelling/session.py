"""A labelling session: the labels of an image or a series, its maps, and files in and out. Neither Ray nor HTTP."""

from __future__ import annotations

import io
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from miseg.data.labels import files as label_files
from miseg.data.labels.annotations import Valid
from miseg.data.labels.store import LabelStore
from miseg.data.raster.grid import Window
from miseg.data.raster.quicklook import stretched
from miseg.data.raster.scenes import Scene
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.service.labelling import exports
from miseg.service.labelling.maps import LabelMap, MapMaker
from miseg.service.labelling.usable_labels import UsableLabels, usable_labels

QUICK_SECONDS = 0.5
"""For the comparisons of a first answer; a whole one follows where that is not it."""

LARGEST_SIDE = 1024
"""Pixels of the side of the part that is shown of a larger image."""

_READ_AT_ONCE = 2**24
_NATURAL = (("B04", "B03", "B02"), ("red", "green", "blue"))


@dataclass(frozen=True)
class FirstView:
    """First view of the page.

    Attributes:
        name: what the page calls the session.
        window: the part of the image that is shown; None: all of it, or the middle of a large image.
        scene: the scene; None: the first of all.
    """

    name: str = ""
    window: Window | None = None
    scene: str | None = None


class Session:
    """Labels on scenes of one grid.

    Args:
        method: a trained few-label method.
        scenes: by date or name, in the order in which they are stepped through.
        folder: where the labels are kept and exported files are written.
        shown: what the page shows at first.
        device: where maps are computed.

    Raises:
        ValueError: bands that the model does not take, a window that leaves the image, or as `LabelStore`.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        method: NearestLabelMethod,
        scenes: Mapping[str, Scene],
        folder: Path,
        shown: FirstView | None = None,
        device: torch.device | None = None,
    ) -> None:
        check_bands(method, scenes)
        shown = shown or FirstView()
        self.scenes, self.name, self.folder = dict(scenes), shown.name, folder
        scene = next(iter(self.scenes.values()))
        self.grid, self.bands = scene.grid, tuple(band.name for band in scene.bands)
        self.window = shown.window or middle(self.grid.height, self.grid.width)
        self.shown_grid = self.grid.part(self.window)
        self.maps = MapMaker(method, self.scenes, self.window, device or torch.device("cpu"))
        self.store = LabelStore(folder, self.grid, tuple(self.scenes))
        self._tickets: Counter[str] = Counter()
        self._cached_labels: tuple[int, UsableLabels] | None = None
        self._valid_of_scene: dict[str, Valid] = {}
        self._closed = threading.Event()
        self._bad: set[str] = set()
        self.first = shown.scene or next(iter(self.scenes))
        self._shown = self.first, method.compare

    def view(self) -> dict[str, Any]:
        """State of the page before there is a label, as JSON."""
        row, column, height, width = self.window
        return {
            "name": self.name,
            "scenes": list(self.scenes),
            "first": self.first,
            "window": {"row": row, "column": column, "height": height, "width": width},
            "image": {"height": self.grid.height, "width": self.grid.width, "crs": self.grid.crs},
            "comparisons": list(self.maps.method.comparisons()),
            "compare": self.maps.method.compare,
            "folder": str(self.folder),
        }

    def state(self) -> dict[str, Any]:
        """The labels, their revision, and what of each drawing is left out."""
        state = self.store.state()
        return state | {"problems": self.current_labels().problems}

    def image(self, scene: str) -> bytes:
        """PNG of the window of a scene, in natural colours where the bands' names tell them.

        Raises:
            ValueError: no such scene, or as `Scene.read`.
        """
        self._check_scene(scene)
        self._shown = scene, self._shown[1]
        shown = next((names for names in _NATURAL if set(names) <= set(self.bands)), self.bands[:3])
        chosen = [self.bands.index(name) for name in (shown if len(shown) == 3 else shown[:1])]
        values, _ = self.scenes[scene].read(self.window)
        missing = (values == 0).all(2)
        bands = np.ma.masked_array(values.transpose(2, 0, 1)[chosen], np.stack([missing] * len(chosen)))
        file = io.BytesIO()
        Image.fromarray(stretched(bands)).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def current_labels(self) -> UsableLabels:
        """The labels that maps are made from, as they are now."""
        with self.store.lock:
            revision, drawings = self.store.revision, self.store.drawings
        if self._cached_labels is None or self._cached_labels[0] != revision:
            self._cached_labels = revision, usable_labels(drawings, self.grid, self._valid)
        return self._cached_labels[1]

    def map(
        self,
        scene: str,
        compare: str,
        labels: UsableLabels | None = None,
        *,
        client: str = "",
        ticket: int = 0,
        whole: bool = True,
    ) -> LabelMap:
        """The map of a scene.

        Args:
            scene: its date or name.
            compare: one of the method's comparisons.
            labels: the labels; None: as they are now.
            client: who asks.
            ticket: number of the request; one with a higher number supersedes it.
            whole: compare every labelled pixel, however long it takes.

        Raises:
            ValueError: no such scene or comparison, fewer than two labelled classes, or as `MapMaker.make`.
            SupersededError: the client has asked for another map meanwhile.
        """
        self._check_scene(scene)
        self._check_comparison(compare)
        labels = labels or self.current_labels()
        if len(labels.class_ids) < 2:
            raise ValueError("label at least two classes: then there is a map")
        self._tickets[client] = max(self._tickets[client], ticket)
        self._shown = scene, compare
        return self.maps.make(
            scene,
            compare,
            labels.labelled,
            len(labels.class_ids),
            seconds=None if whole else QUICK_SECONDS,
            superseded=lambda: self._closed.is_set() or self._tickets[client] > ticket,
        )

    def load(self, name: str, content: bytes, scene: str) -> dict[str, Any]:
        """Add the labels of a file to those that are there, as one change; how many, and what is left out.

        Raises:
            ValueError: the file cannot be read as it is, or nothing of it can be used.
            OSError: the labels cannot be saved.
        """
        self._check_scene(scene)
        # What a browser calls a file says where it is from, and never where it goes.
        plain = Path(name.replace("\\", "/")).name or "labels"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / plain
            try:
                path.write_bytes(content)
                loaded = label_files.load(path, self.grid, scene, tuple(self.scenes))
            except OSError as error:
                raise ValueError(f"{plain}: cannot be read ({error.strerror}): give it another name") from None
            except ValueError as error:
                raise ValueError(str(error).replace(f"{folder}/", "")) from None
        before = len(self.store.drawings.drawings)
        self.store.replace(lambda drawings: label_files.added(drawings, loaded))
        return {
            "added": len(self.store.drawings.drawings) - before,
            "found": len(loaded.drawings),
            "problems": [{"place": problem.source, "reason": problem.reason} for problem in loaded.problems],
        }

    def export(self, kind: str, scene: str, compare: str = "") -> tuple[str, bytes]:
        """A file's name and content; a copy stays in the session's folder.

        Args:
            kind: "geojson" of one scene's labels, "all" of those of all scenes, "labels" for a GeoTIFF of one scene's
                labelled pixels, "map" for a scene's map and its confidence. GeoTIFFs come with the sidecars that hold
                class names, in a .zip.
            scene: which.
            compare: one of the method's comparisons, for the map.

        Raises:
            ValueError: no such kind or scene, nothing to export, or as `map`.
            OSError: the copy cannot be written.
        """
        self._check_scene(scene)
        drawings, stem = self.store.drawings, exports.stem(scene)
        if kind == "geojson":
            return exports.geojson(self.folder / f"{stem}-labels.geojson", drawings, self.grid, scene)
        if kind == "all":
            return exports.geojson(self.folder / "labels.geojson", drawings, self.grid, None)
        if kind == "labels":
            path = self.folder / f"{stem}-labels.tif"
            label_files.write_label_raster(path, drawings, self.grid, scene, self._valid(scene))
            return exports.archive(path)
        if kind == "map":
            labels = self.current_labels()
            classes = {label_class.id: label_class for label_class in drawings.classes}
            named = [classes[class_id] for class_id in labels.class_ids]
            path = self.folder / f"{stem}-map.tif"
            return exports.map_files(path, self.map(scene, compare, labels), self.shown_grid, named)
        raise ValueError(f"export {kind!r}: there are geojson, all, labels and map")

    def progress(self, compare: str) -> dict[str, Any]:
        """Number of scenes that are prepared for a comparison, of how many, and the labels' revision, as JSON."""
        self._check_comparison(compare)
        ready = sum(scene in self._bad or self.maps.is_prepared(scene, compare) for scene in self.scenes)
        return {"ready": ready, "of": len(self.scenes), "full": self.maps.full, "revision": self.store.revision}

    def prepare_all(self) -> None:
        """Prepare scene after scene, those beside the shown one first, until `close`: for a thread of its own."""
        while not self._closed.wait(0.02):
            scene, compare = self._shown
            names = list(self.scenes)
            by_distance = sorted(names, key=lambda name: abs(names.index(name) - names.index(scene)))
            unprepared = (
                name for name in by_distance if name not in self._bad and not self.maps.is_prepared(name, compare)
            )
            nearest = next(unprepared, None)
            try:
                if nearest is None or not self.maps.prepare(nearest, compare):
                    self._closed.wait(0.25)
            except ValueError:
                self._bad.add(str(nearest))

    def close(self) -> None:
        """Give the labels free; maps that are being made are given up."""
        self._closed.set()
        self.store.close()

    def _valid(self, scene: str) -> Valid:
        if scene not in self._valid_of_scene:
            small = self.grid.height * self.grid.width <= _READ_AT_ONCE
            standard = self.maps.standard(scene)
            self._valid_of_scene[scene] = standard.scene.read()[1] if small else standard.valid_at
        return self._valid_of_scene[scene]

    def _check_scene(self, scene: str) -> None:
        if scene not in self.scenes:
            raise ValueError(f"there is no scene {scene!r}: reload the page")

    def _check_comparison(self, compare: str) -> None:
        if compare not in self.maps.method.comparisons():
            comparisons = ", ".join(self.maps.method.comparisons())
            raise ValueError(f"compare = {compare!r}: this model has {comparisons}")


def check_bands(method: NearestLabelMethod, scenes: Mapping[str, Scene]) -> None:
    """Raise ValueError where the scenes have another number of bands than the model takes, or are of no use to it."""
    for scene in scenes.values():
        if len(scene.bands) != method.task.in_channels:
            raise ValueError(
                f"{scene.name} has {len(scene.bands)} bands, the model was trained on {method.task.in_channels}: "
                "give --bands"
            )
        if min(scene.grid.height, scene.grid.width) < method.patch:
            raise ValueError(
                f"{scene.name}: {scene.grid.height} x {scene.grid.width} pixels are smaller than a patch of "
                f"{method.patch} a side"
            )


def middle(height: int, width: int) -> Window:
    """The whole of an image, or the middle of a large one."""
    shown = min(height, LARGEST_SIDE), min(width, LARGEST_SIDE)
    return (height - shown[0]) // 2, (width - shown[1]) // 2, *shown
