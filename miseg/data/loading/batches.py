"""Batches of a packed data set as plain generators: what the service streams and what a plain loop reads.

Nothing accumulates: one batch is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from miseg.data.configs import Augmentation, Order
from miseg.data.loading.augmentation import augment, padding_colour, prepare
from miseg.data.loading.order import augmentation_generator, budget_subset, draw
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.decoded import Pixels
from miseg.data.packed.sidecar import PackedInfo
from miseg.data.samples import IGNORE_LABEL

View = tuple[str, np.ndarray, np.ndarray, bool]
"""An image's id, its pixels, its labels, and whether it has a mask."""


def training_batches(
    dataset: PackedDataset,
    split: str,
    augmentation: Augmentation,
    *,
    seed: int,
    order: Order,
    batch_size: int,
    start_step: int,
    stop_step: int,
    rank: int = 0,
    world: int = 1,
    labelled_images: int | None = None,
) -> Iterator[dict[str, Any]]:
    """This rank's share of the training batches of steps [start_step, stop_step).

    Step s has positions [s · batch_size, (s + 1) · batch_size) of the stream of `miseg.data.loading.order`; rank r of W
    takes the r-th of W equal parts. So ranks together see what one rank alone would, and a resume at step s sees what
    an uninterrupted run sees there.

    Args:
        dataset: where the images are.
        split: which of its splits.
        augmentation: what happens to each image.
        seed: 0 or more; decides order, budget and augmentation.
        order: how images are drawn.
        batch_size: images a step over all ranks.
        start_step: first step, 0 or more.
        stop_step: the step after the last.
        rank: this worker, 0..world-1.
        world: number of workers.
        labelled_images: how many of the split's images are used; None uses all.

    Returns:
        An iterator over {"step": int, "images": [n, H, W, C] as they are stored (uint8, uint16 or float32), "labels":
        uint8 [n, H, W] (255 ignored; all 255 for an image without a mask), "masked": bool [n], which images have a
        mask, "ids": list of n strings} with n = batch_size / world.

    Raises:
        ValueError: at once for settings that do not fit together; while iterating, when augmentation leaves a batch's
            images with different sizes, or a row cannot be read.
    """
    share = shared_among(batch_size, rank, world)
    if not 0 <= start_step <= stop_step:
        raise ValueError(f"steps [{start_step}, {stop_step}): use 0 <= start_step <= stop_step")
    size = dataset.size(split)
    chosen = dataset.rows_by_id(split)
    if labelled_images is not None:
        chosen = chosen[budget_subset(size, labelled_images, seed)]
    draw(0, 0, len(chosen), seed, order)
    colour = padding_colour(augmentation, dataset.info)

    def view(index: int, position: int) -> View:
        name, image, mask = _without_holes(dataset.pixels(split, index), dataset.info, colour)
        image, mask = augment(image, mask, augmentation, augmentation_generator(seed, position), colour)
        return name, image, _labels(image, mask), mask is not None

    def batches() -> Iterator[dict[str, Any]]:
        for step in range(start_step, stop_step):
            first = step * batch_size + rank * share
            indices = chosen[draw(first, first + share, len(chosen), seed, order)]
            views = [view(int(index), first + offset) for offset, index in enumerate(indices)]
            yield {"step": step} | _stack(views)

    return batches()


def evaluation_batches(
    dataset: PackedDataset,
    split: str,
    augmentation: Augmentation,
    *,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[dict[str, Any]]:
    """This rank's share of the split, in order, resized and not otherwise altered.

    Over all ranks every image comes exactly once; ranks take consecutive parts whose sizes differ by one at most, and
    a rank's part may be empty. A batch ends early where the next image has another size.

    Args:
        dataset: where the images are.
        split: which of its splits.
        augmentation: only `resize` counts.
        batch_size: images a batch on this rank, at most.
        rank: this worker, 0..world-1.
        world: number of workers.

    Returns:
        An iterator over {"images", "labels", "masked", "ids"}, as `training_batches` gives them.

    Raises:
        ValueError: at once for settings that do not fit together; while iterating, when a row cannot be read.
    """
    check_share(batch_size, rank, world)
    colour = padding_colour(augmentation, dataset.info)
    size = dataset.size(split)
    mine = range(size * rank // world, size * (rank + 1) // world)

    def batches() -> Iterator[dict[str, Any]]:
        waiting: list[View] = []
        for index in mine:
            pixels = _without_holes(dataset.pixels(split, index), dataset.info, colour)
            view = _evaluation_view(pixels, augmentation)
            if waiting and (len(waiting) == batch_size or view[1].shape != waiting[0][1].shape):
                yield _stack(waiting)
                waiting = []
            waiting.append(view)
        if waiting:
            yield _stack(waiting)

    return batches()


def _evaluation_view(pixels: Pixels, augmentation: Augmentation) -> View:
    image, mask = prepare(pixels.image, pixels.mask, augmentation)
    return pixels.id, image, _labels(image, mask), mask is not None


def _without_holes(pixels: Pixels, info: PackedInfo, colour: np.ndarray) -> Pixels:
    """The image with the mean colour, and no label, where there is no data; images of 8 bits stay as they are.

    The value that stands for no data may lie far from all others, and resampling would mix it with its neighbours.
    """
    if info.nodata is None or pixels.image.dtype == np.uint8:
        return pixels
    holes = (pixels.image == info.nodata).all(2)
    if not holes.any():
        return pixels
    image = np.where(holes[..., None], colour.astype(pixels.image.dtype), pixels.image)
    mask = None if pixels.mask is None else np.where(holes, np.uint8(IGNORE_LABEL), pixels.mask)
    return Pixels(pixels.id, image, mask)


def _labels(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return np.full(image.shape[:2], IGNORE_LABEL, np.uint8) if mask is None else mask


def _stack(views: list[View]) -> dict[str, Any]:
    first = views[0]
    for other in views[1:]:
        if other[1].shape != first[1].shape:
            sizes = " and ".join(f"{name} {image.shape[0]}x{image.shape[1]}" for name, image, *_ in (first, other))
            raise ValueError(f"images of one batch differ in size: {sizes}; set augmentation.crop or resize")
    ids, images, labels, masked = zip(*views, strict=True)
    return {"images": np.stack(images), "labels": np.stack(labels), "masked": np.array(masked), "ids": list(ids)}


def shared_among(batch_size: int, rank: int, world: int) -> int:
    """Images that one of `world` ranks has of each batch.

    Raises:
        ValueError: the batch cannot be shared equally, or as `check_share`.
    """
    check_share(batch_size, rank, world)
    if batch_size % world:
        larger = -(-batch_size // world) * world
        raise ValueError(
            f"batch_size = {batch_size} does not divide by {world} workers: "
            f"use {larger}, or a number of workers that divides it"
        )
    return batch_size // world


def check_share(batch_size: int, rank: int, world: int) -> None:
    """Raise ValueError for a batch size below 1, or a rank that is none of 0..world-1."""
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}: use 1 or more")
    if world < 1 or not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world} workers: ranks are 0..world-1")
