"""A trained method of any kind as what maps images: how it sees them, and what its classes are called."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from miseg.data.loading.augmentation import target_size
from miseg.data.loading.tiles import StandardScene
from miseg.data.raster.grid import Grid
from miseg.data.raster.maps import MAX_CLASSES, default_colours
from miseg.data.raster.pictures import EIGHT_BITS, Picture, Resized, StoredPixels, open_picture
from miseg.data.raster.scene_files import SceneOptions, open_scene
from miseg.evaluation.clusters import of_classes
from miseg.evaluation.tiled import Read, Tiling, Window
from miseg.interface import Method, Task
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.mapping.scene_maps import Examples, NeighbourSettings, open_for_maps
from miseg.service.training.loop import resolve_precision


@dataclass(frozen=True)
class OpenedImage:
    """An image that is open.

    Attributes:
        grid: its pixels.
        size: (height, width) at which the method sees it.
        read: gives windows at that size.
    """

    grid: Grid
    size: tuple[int, int]
    read: Read


class MapPredictor:
    """Predictor of a checkpoint: images in, class probabilities out.

    A method that learns from images sees them in its training images' type, at the size at which evaluation does,
    standardised with what its checkpoint says; clusters are the classes that they were matched with when the checkpoint
    was taken, or, where none was made, themselves. A few-label method sees scenes, standardised by the statistics of
    their own date.

    Args:
        folder: the checkpoint.
        device: where it computes.
        examples: the labelled pixels of a few-label method; None for others.
        comparison: how it compares.
        colours: of a few-label method's classes.

    Attributes:
        class_names: K names.
        colours: K (red, green, blue), the data set's where the checkpoint has them, else `default_colours`.
        margin: pixels along a tile's sides of which it has seen only a part.

    Raises:
        ValueError: examples for another method, or none for a few-label method; more classes than a map holds; or as
            `open_for_maps`.
        CheckpointError: a damaged checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        examples: Examples | None = None,
        comparison: NeighbourSettings | None = None,
        colours: Sequence[Sequence[int]] | None = None,
    ) -> None:
        experiment = checkpoint_files.read_experiment(folder)
        self.device, self.margin, self.of_scenes = device, 0, experiment.takes_labelled_pixels
        self.resize = experiment.augmentation.resize
        self.precision = resolve_precision(experiment.precision, device)
        data = checkpoint_files.verify(folder)["data"]
        self.full_scale, self.stored = float(data.get("full_scale", 255)), EIGHT_BITS
        self.match: Tensor | None = None
        self.method: Method
        if self.of_scenes:
            if examples is None:
                raise ValueError(f"{type(experiment.method).__name__} maps from labelled pixels: give --labels")
            few = open_for_maps(folder, examples, comparison or NeighbourSettings(), device)
            self.method, task, self.margin = few, few.task, few.patch // 2
        elif examples is not None:
            raise ValueError(f"{type(experiment.method).__name__} takes no labelled pixels: leave --labels out")
        else:
            self.method, _, task = checkpoint.open_method(folder, device)
            if self.method.emits == "clusters" and "match" in data:
                self.match = torch.tensor(data["match"], device=device)
            elif self.method.emits == "clusters":
                names = tuple(f"cluster {number}" for number in range(self.method.num_clusters))
                task = Task(len(names), task.in_channels, names)
            try:
                constants = (torch.tensor(data[name], device=device).view(-1, 1, 1) for name in ("mean", "std"))
                self.mean, self.std = constants
                if "dtype" in data:
                    colour = (np.asarray(data["mean"]) * self.full_scale).round(0 if data["dtype"] == "uint16" else 9)
                    self.stored = StoredPixels(data["dtype"], data["nodata"], tuple(colour))
            except KeyError as error:
                raise ValueError(f"{folder} does not say how images are standardised ({error}): train again") from None
        self.channels = task.in_channels
        self.class_names = task.class_names or tuple(f"class {number}" for number in range(task.num_classes))
        classes = len(self.class_names)
        if not 2 <= classes <= MAX_CLASSES:
            raise ValueError(f"{folder} has {classes} classes: a map holds 2..{MAX_CLASSES}")
        own = (colours if self.of_scenes else data.get("colours")) or ()
        self.colours = tuple(map(tuple, own)) if len(own) == classes else default_colours(classes)

    @torch.no_grad()
    def __call__(self, images_NCHW: Tensor) -> Tensor:
        """Probabilities, float32 [N, K, H, W] on the device, of what `open` reads."""
        images = images_NCHW.to(self.device)
        if not self.of_scenes:
            images = (images.float() / self.full_scale - self.mean) / self.std
            images = images.contiguous(memory_format=torch.channels_last)
        autocast = self.precision is not torch.float32 and not self.of_scenes
        with torch.autocast(self.device.type, self.precision, enabled=autocast):
            probabilities = self.method.predict(images)
        if self.match is not None:
            probabilities = of_classes(probabilities, self.match, len(self.class_names))
        return probabilities.float()

    def tiling(self, tiling: Tiling) -> Tiling:
        """The same with a margin of a quarter of the overlap, where padding is felt most, or what the method needs."""
        return replace(tiling, margin=max(self.margin, tiling.overlap // 4))

    @contextlib.contextmanager
    def open(self, path: Path, options: SceneOptions) -> Iterator[OpenedImage]:
        """The image or scene at `path`.

        Args:
            path: a picture; of a few-label method a scene, as `open_scene` takes it.
            options: how scenes are understood.

        Raises:
            ValueError: no such image, damaged, of other channels or bits than the method was trained on.
        """
        if self.of_scenes:
            standard = StandardScene.measure(open_scene(path, options))
            grid = standard.scene.grid
            if len(standard.scene.bands) != self.channels:
                raise ValueError(
                    f"{path}: {len(standard.scene.bands)} bands, the model was trained on {self.channels}: give --bands"
                )

            def tile(window: Window) -> tuple[Tensor, Tensor]:
                cut = standard.tile(window, 0)
                return torch.from_numpy(cut.images[0]), torch.from_numpy(cut.valid)

            yield OpenedImage(grid, (grid.height, grid.width), tile)
            return
        with open_picture(path, self.channels, self.stored) as picture:
            yield self.seen(picture)

    def seen(self, picture: Picture) -> OpenedImage:
        """A picture of a method that learns from images, at the size at which evaluation sees it."""
        grid = picture.grid
        size = target_size(grid.height, grid.width, self.resize)
        resized: Picture = picture if size == (grid.height, grid.width) else Resized(picture, size)

        def read(window: Window) -> tuple[Tensor, Tensor]:
            pixels, valid = resized.read(window)
            # torch computes little with uint16.
            pixels = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
            return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C")), torch.from_numpy(valid)

        return OpenedImage(grid, size, read)
