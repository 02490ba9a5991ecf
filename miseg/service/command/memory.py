"""Memory that a training's step takes at least, told before a Ray is started for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil

from miseg.data.packed.dataset import PackedDataset
from miseg.recipes.experiment import Experiment

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Files of the drivers of GPUs that torch takes: NVIDIA's, AMD's, and Windows' own under WSL."""

BYTES = 4
"""Of a float32."""


def least(experiment: Experiment, dataset: PackedDataset) -> int:
    """Bytes of a step's images, its logits and their gradient, of all workers together; 0 where it is not known.

    A network's own features, many times as much, come on top: what is above a machine's memory never fits.
    """
    if experiment.supervision != "dense":
        return 0
    height, width = _size(experiment, dataset)
    images = experiment.batch_size // experiment.accumulate
    return images * height * width * BYTES * (dataset.info.channels + 2 * len(dataset.info.classes))


def check(experiments: Sequence[Experiment], dataset: PackedDataset, available: int | None = None) -> None:
    """Raise ValueError for an experiment whose step cannot fit into this machine, where it has no GPU.

    Args:
        experiments: what is trained on `dataset`.
        dataset: the packed data.
        available: bytes of memory. Default: this machine's.
    """
    room = psutil.virtual_memory().total if available is None else available
    for experiment in experiments:
        if (needed := least(experiment, dataset)) > room:
            if available is None and _has_gpu():
                return
            height, width = _size(experiment, dataset)
            images = experiment.batch_size // experiment.accumulate
            raise ValueError(
                f"a step of {images} images of {height}x{width} takes {needed / 2**30:.0f} GiB for images and logits "
                f"alone, and this machine has {room / 2**30:.0f}: lower --batch-size or --augmentation.crop, or "
                "raise --accumulate"
            )


def _has_gpu() -> bool:
    # torch takes a second to import, and finds none without a driver.
    if not any(Path(file).exists() for file in DRIVERS):
        return False
    import torch

    return torch.cuda.is_available()


def _size(experiment: Experiment, dataset: PackedDataset) -> tuple[int, int]:
    """Height and width of what a step sees, in pixels."""
    augmentation = experiment.augmentation
    if augmentation.crop is not None:
        return augmentation.crop
    if isinstance(augmentation.resize, tuple):
        return augmentation.resize
    sizes = dataset.columns("train", "height", "width")
    return max(height for height, _ in sizes), max(width for _, width in sizes)
