"""The actor that maps images, one after the other, each to its end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import ray
import torch
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from miseg.data.raster.image_files import ImageFile
from miseg.data.raster.map_records import MADE_FROM, MapFiles
from miseg.data.raster.maps import MapWriter
from miseg.data.raster.raster_files import Colour
from miseg.data.raster.scene_files import SceneOptions
from miseg.data.samples import IGNORE_LABEL
from miseg.evaluation.tiled import Tiling, blended, decided, enlarged
from miseg.service.checkpoints import checkpoint_files
from miseg.service.mapping.predictor import MapPredictor
from miseg.service.mapping.scene_maps import Examples, NeighbourSettings

CACHE_BYTES = 64 * 2**20
"""Size of GDAL's cache of the files that are read and written: two rows of tiles of an image of 10,000 columns."""

TOLD_EVERY = 1.0
"""Seconds between two rows in which an image says how far it is."""


class StoreError(OSError):
    """A map cannot be written; that is no image's fault, and ends the job."""


@dataclass(frozen=True)
class MapSettings:
    """Settings that decide a map beside the model and the image.

    Attributes:
        tiling: how images are cut.
        options: how scenes are understood.
        examples: the labelled pixels of a few-label method.
        comparison: how it compares.
        colours: of its classes.
    """

    tiling: Tiling = field(default_factory=Tiling)
    options: SceneOptions = field(default_factory=SceneOptions)
    examples: Examples | None = None
    comparison: NeighbourSettings = field(default_factory=NeighbourSettings)
    colours: tuple[Colour, ...] | None = None

    def predictor(self, folder: Path, device: torch.device) -> MapPredictor:
        """The model in the checkpoint `folder` as it is to be used; errors as `MapPredictor`."""
        return MapPredictor(folder, device, self.examples, self.comparison, self.colours)

    def description(self) -> dict[str, Any]:
        """The settings as the maps' records have them."""
        described: dict[str, Any] = {"tile": self.tiling.tile, "overlap": self.tiling.overlap}
        if self.examples is not None:
            digest = hashlib.sha256(repr(self.examples.class_names).encode())
            for images, labels in self.examples.tiles:
                digest.update(images.tobytes() + labels.tobytes())
            described |= {
                "labels": digest.hexdigest(),
                "scene": asdict(self.options),
                "comparison": asdict(self.comparison),
                "colours": self.colours,
            }
        return described


class ImageMapper:
    """Maps whole images; an actor, so that the model is opened once."""

    def __init__(self, shared: Any, threads: int) -> None:
        torch.set_num_threads(threads)
        files, self.todo, self.made_from, settings, self.out = ray.get(shared)
        self.settings = settings
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with tempfile.TemporaryDirectory() as folder:
            checkpoint_folder = checkpoint_files.unpack(files, Path(folder))
            self.predictor = settings.predictor(checkpoint_folder, device)

    def __call__(self, columns: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Of each image a row when it is opened (`size`), rows with what was mapped since, and one when it ended."""
        for image in columns["image"].tolist():
            end: dict[str, Any] = {"ended": True}
            try:
                counts: dict[str, int] = {}
                for row in map_image(
                    self.predictor, self.todo[image], self.made_from[image], self.out, self.settings, counts
                ):
                    yield _row(image, **row)
                end["classes"] = json.dumps(counts)
            except StoreError as error:
                end["stored"] = str(error)
            except (ValueError, OSError) as error:
                end["problem"] = str(error)
            yield _row(image, **end)


def _row(image: int, **values: Any) -> dict[str, Any]:
    row = {"size": 0, "pixels": 0, "tiles": 0, "ended": False, "problem": "", "stored": "", "classes": ""} | values
    return {"image": np.array([image])} | {name: np.array([value]) for name, value in row.items()}


def map_image(
    predictor: MapPredictor,
    image: ImageFile,
    made_from: Mapping[str, Any],
    out: str,
    settings: MapSettings,
    counts: dict[str, int],
) -> Iterator[dict[str, int]]:
    """Map one image while the iterator is consumed; at its end the map is in its place and whole.

    Args:
        predictor: the model.
        image: the image.
        made_from: what its record says of it.
        out: folder or URI of the maps.
        settings: how.
        counts: is given the pixels of each class.

    Returns:
        An iterator over {"size": pixels of the image}, once, and {"pixels", "tiles"}, what was mapped since the last.

    Raises:
        ValueError, OSError: the image cannot be read or mapped.
        StoreError: the map cannot be written.
    """
    tiling = predictor.tiling(settings.tiling)
    target_map = MapFiles(out, image.name)
    with contextlib.ExitStack() as stack:
        beside = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
        opened = stack.enter_context(predictor.open(image.fetch(beside / "image"), settings.options))
        size = opened.grid.height, opened.grid.width
        yield {"size": size[0] * size[1]}
        with storing(target_map.uri):
            target = target_map.begin(beside)
        tiles = 0

        def read(window: Any) -> Any:
            nonlocal tiles
            tiles += 1
            return opened.read(window)

        names = predictor.class_names
        classes_K = np.zeros(len(names), np.int64)
        pixels, reported = 0, time.monotonic()
        with _StoringMapWriter(target, opened.grid, names, predictor.colours) as writer:
            for piece in enlarged(blended(opened.size, read, predictor, tiling), opened.size, size):
                classes, confidence = decided(piece.probabilities_KHW, piece.valid_HW)
                writer.write(piece.window, classes, confidence)
                classes_K += np.bincount(classes[classes != IGNORE_LABEL], minlength=len(names))
                pixels += classes.size
                if time.monotonic() - reported >= TOLD_EVERY:
                    yield {"pixels": pixels, "tiles": tiles}
                    pixels, tiles, reported = 0, 0, time.monotonic()
        counts.update(zip(names, classes_K.tolist(), strict=True))
        with storing(target_map.uri):
            target_map.keep(target, {MADE_FROM: made_from, "pixels": counts})
        yield {"pixels": pixels, "tiles": tiles}


class _StoringMapWriter(MapWriter):
    """Tells what fails in writing from what fails in reading."""

    def __enter__(self) -> MapWriter:
        with storing(str(self.path)):
            return super().__enter__()

    def write(self, window: tuple[int, int, int, int], classes: np.ndarray, confidence: np.ndarray) -> None:
        with storing(str(self.path)):
            super().write(window, classes, confidence)

    def __exit__(self, *error: Any) -> None:
        with storing(str(self.path)):
            super().__exit__(*error)


@contextlib.contextmanager
def storing(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RasterioError, CPLE_BaseError) as error:
        raise StoreError(
            f"{uri} cannot be written ({error}): make room, or it writable, and run again: what is done stays"
        ) from None
