"""Ray Data between the packed shards and a trainer: reading, decoding and augmenting happen in its tasks.

Each worker runs a pipeline of its own over a plan that is a pure function of the seed: which images, in which order and
how augmented depends neither on the number of workers nor on where a run was resumed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import ray.data
import torch

from miseg.data.loading.augmentation import standardisation
from miseg.data.loading.batches import evaluation_batches, training_batches
from miseg.data.loading.examples import draw_examples, drawn_of_each
from miseg.data.loading.pairs import pair_batches, pairs_split, scene_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.sources.groups import group_of
from miseg.interface import Batch, Method, Task
from miseg.recipes.experiment import LABELLED_PIXELS, Experiment
from miseg.service.checkpoints.pretrained import augmentation_of
from miseg.service.cluster import metrics
from miseg.service.cluster.ray_data import quiet_data_context

CHUNK_BYTES = 16 * 2**20
"""Decoded bytes a task makes: large enough to hide its start, small enough that a few fit in the object store."""

SEGMENT_TASKS = 2048
"""Tasks of one pipeline. Ray Data sets up all before the first runs: 30,000 took 47 s and 180 MB on two cores."""

COLUMNS = ("images", "views", "labels", "masked")
"""Columns that decoding tasks make besides ids, where a data set has them."""

TASK_CPUS = 0.5
"""CPUs a decoding task asks for: two a core, so that one reads while another decodes (measured in shared/ray.md)."""


def training_stream(
    dataset: PackedDataset, experiment: Experiment, *, start_step: int = 0, rank: int = 0, world: int = 1
) -> Generator[Batch]:
    """This rank's batches of the training split from `start_step` to the experiment's last step."""
    local = experiment.batch_size // world
    if experiment.patch is not None:
        example_bytes = 2 * 4 * experiment.patch**2 * dataset.info.channels
    else:
        row = dataset.read("train", 0)
        size = experiment.training_size or (row.height, row.width)
        example_bytes = size[0] * size[1] * (dataset.info.channels * np.dtype(dataset.info.dtype).itemsize + 1)
    steps = chunks(start_step, experiment.steps, max(1, CHUNK_BYTES // max(1, local * example_bytes)))
    plan = training_plan(dataset, experiment, rank, world)
    convert = Converter(dataset, experiment)
    for first in range(0, len(steps), SEGMENT_TASKS):
        stops = {chunk.start: chunk.stop for chunk in steps[first : first + SEGMENT_TASKS]}

        def produce(start: int, stops: dict[int, int] = stops) -> Iterator[dict[str, Any]]:
            return plan(start_step=start, stop_step=stops[start])

        for columns in _batches(_decoded(list(stops), produce, dataset), local):
            yield convert(columns)


def chunks(start: int, stop: int, largest: int) -> list[range]:
    """The training steps `start` to `stop`, divided among decoding tasks: one step, then twice as many each time.

    A task's batches come when all of them are decoded. With `largest` steps from the beginning, a trial of 20 steps had
    its first batch when one core had decoded the last one.

    Args:
        start: the first step, 0 or more.
        stop: the step after the last.
        largest: steps of a task at most, 1 or more.
    """
    ranges, size = [], 1
    while start < stop:
        ranges.append(range(start, min(start + size, stop)))
        start, size = start + size, min(2 * size, largest)
    return ranges


def training_plan(
    dataset: PackedDataset, experiment: Experiment, rank: int = 0, world: int = 1
) -> Callable[..., Iterator[dict[str, Any]]]:
    """Makes, called with `start_step` and `stop_step`, the columns of this rank's training batches of these steps.

    What it holds knows no torch: a decoding task starts in a third of the time and memory without that import.
    """
    if experiment.learns_from_pairs:
        assert experiment.patch is not None
        return functools.partial(
            pair_batches,
            dataset,
            pairs_split(experiment.pairs, dataset.splits),
            experiment.pairs,
            patch=experiment.patch,
            seed=experiment.seed,
            batch_size=experiment.batch_size,
            rank=rank,
            world=world,
        )
    return functools.partial(
        training_batches,
        dataset,
        "train",
        augmentation_of(experiment, dataset.info),
        seed=experiment.seed,
        order=experiment.order,
        batch_size=experiment.batch_size,
        rank=rank,
        world=world,
        labelled_images=experiment.labelled_images,
    )


def evaluation_stream(
    dataset: PackedDataset, split: str, experiment: Experiment, *, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """This rank's share of a split, every image once over all ranks, in batches of equal size."""
    decoded = evaluation_data(dataset, split, experiment, rank=rank, world=world)
    convert = Converter(dataset, experiment)
    group = group_of(dataset, split) if experiment.supervision == "none" else None
    # A chip is mapped by itself: pairs are counted in hundreds a step, and so many whole chips would fill the memory.
    for columns in _batches(decoded, 1 if experiment.learns_from_pairs else experiment.batch_size):
        for part in split_by_size(columns):
            batch = convert(part)
            yield batch if group is None else replace(batch, groups=tuple(map(group, batch.ids)))


def evaluation_data(
    dataset: PackedDataset, split: str, experiment: Experiment, *, rank: int = 0, world: int = 1
) -> ray.data.Dataset:
    """This rank's share of a split as rows of decoded `images`, `labels` (uint8, where there are) and `ids`."""
    parts = max(1, min(4, dataset.size(split) // (world * experiment.batch_size)))
    plan = evaluation_plan(dataset, split, experiment)

    def produce(part: int) -> Iterator[dict[str, Any]]:
        return plan(rank=rank * parts + part, world=world * parts)

    return _decoded(list(range(parts)), produce, dataset)


def evaluation_plan(
    dataset: PackedDataset, split: str, experiment: Experiment
) -> Callable[..., Iterator[dict[str, Any]]]:
    """Makes, called with `rank` and `world` (default: all), the columns of a split's batches; knows no torch either."""
    if experiment.learns_from_pairs:
        # Clouds have no class: maps of chips that training would not draw cost as much and say little.
        return functools.partial(scene_batches, dataset, split, min_valid=experiment.pairs.min_valid)
    return functools.partial(
        evaluation_batches,
        dataset,
        split,
        augmentation_of(experiment, dataset.info),
        batch_size=experiment.batch_size,
    )


def split_by_size(columns: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a block in runs of images of one size, which stack."""
    shapes = [image.shape for image in columns["images"]]
    for _, run in itertools.groupby(range(len(shapes)), key=shapes.__getitem__):
        rows = list(run)
        yield {name: values[rows[0] : rows[-1] + 1] for name, values in columns.items()}


def examples(
    dataset: PackedDataset,
    split: str,
    experiment: Experiment,
    *,
    per_class: int | None = None,
    seed: int | None = None,
    date: str | None = None,
) -> list[Batch]:
    """The labelled pixels that a few-label method is given: `draw_examples` by its label budget and the run's seed."""
    convert = Converter(dataset, experiment)
    number = per_class or experiment.labelled_pixels_per_class or LABELLED_PIXELS
    drawn = draw_examples(dataset, split, number, experiment.seed if seed is None else seed, date)
    return [convert(columns) for columns in drawn]


def given_examples(
    method: Method, dataset: PackedDataset, split: str, experiment: Experiment, batches: Iterable[Batch]
) -> Iterable[Batch]:
    """The batches, before which a few-label method is given its labelled pixels; of other methods as they are.

    Where these are of the very image that is mapped (`Experiment.examples`), the method is given others before each
    image, so that it must have mapped one when it asks for the next; an image without a label is left out.
    """
    if method.supervision != "few":
        return batches
    device = next(method.parameters()).device
    if experiment.examples == "date":
        method.fit_support(batch.to(device) for batch in examples(dataset, split, experiment))
        return batches
    return _with_own_examples(method, experiment, batches, device)


def _with_own_examples(
    method: Method, experiment: Experiment, batches: Iterable[Batch], device: torch.device
) -> Iterator[Batch]:
    number = experiment.labelled_pixels_per_class or LABELLED_PIXELS
    for batch in batches:
        for image in batch.parts(len(batch.images_NCHW)):
            if (own := own_examples(image, number, experiment.seed)) is not None:
                method.fit_support([own.to(device)])
                yield image


def own_examples(batch: Batch, per_class: int, seed: int) -> Batch | None:
    """The images with `per_class` labels of each class drawn in each; None where none has a label."""
    assert batch.labels_NHW is not None
    sparse = drawn_of_each(batch.labels_NHW.cpu().numpy().astype(np.uint8), per_class, seed)
    if sparse is None:
        return None
    return replace(batch, labels_NHW=torch.from_numpy(sparse).long().to(batch.labels_NHW.device))


class Converter:
    """From a task's columns to a `Batch`: bytes are standardised here, since they are a quarter of the floats to ship.

    Chips of scenes and the patches cut from them, [N, C, H, W], are standardised already; they have no `masked`.
    """

    def __init__(self, dataset: PackedDataset, experiment: Experiment) -> None:
        mean_C, std_C = standardisation(augmentation_of(experiment, dataset.info), dataset.info)
        self.full_scale = dataset.info.full_scale
        self.constants = torch.as_tensor(mean_C).view(1, -1, 1, 1), torch.as_tensor(std_C).view(1, -1, 1, 1)

    def __call__(self, columns: dict[str, Any]) -> Batch:
        ids = tuple(str(value) for value in columns["ids"])
        if columns["images"][0].dtype == np.float32 and "masked" not in columns:
            views = torch.from_numpy(dense(columns["views"])) if "views" in columns else None
            labels = torch.from_numpy(dense(columns["labels"])).long() if "labels" in columns else None
            return Batch(torch.from_numpy(dense(columns["images"])), labels, ids, views)
        images = torch.from_numpy(dense(columns["images"])).permute(0, 3, 1, 2)
        packed_labels = dense(columns["labels"]) if "labels" in columns else None
        mean, std = self.constants
        return Batch(
            (images.to(torch.float32, copy=True).div_(self.full_scale) - mean) / std,
            None if packed_labels is None else torch.from_numpy(packed_labels).long(),
            ids,
            masked_N=torch.from_numpy(dense(columns["masked"])) if "masked" in columns else None,
        )


def task_of(dataset: PackedDataset) -> Task:
    """The segmentation task that a packed data set poses."""
    info = dataset.info
    return Task(len(info.classes), info.channels, tuple(info.classes), info.ignore_index)


def _decoded(
    keys: list[int], produce: Callable[[int], Iterator[dict[str, Any]]], dataset: PackedDataset
) -> ray.data.Dataset:
    quiet_data_context()
    node_options: dict[str, Any] = {}
    if dataset.decoded_images is not None:
        # What this machine has decoded another would decode again: tasks run elsewhere only where this one is gone.
        this_node = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        node_options = {"label_selector": this_node, "fallback_strategy": [{"label_selector": {}}]}

    labels = {"data": metrics.data_label(dataset.uri)}

    def chunk(rows: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        for key in rows["item"].tolist():
            batches, images = metrics.Waited(produce(key)), 0
            for batch in batches:
                images += len(batch["ids"])
                columns = {name: batch[name] for name in COLUMNS if batch.get(name) is not None}
                yield columns | {"ids": np.array(batch["ids"])}
            metrics.add("miseg_decoded_images", labels, images)
            metrics.add("miseg_decoding_seconds", labels, batches.seconds)

    source = ray.data.from_items(keys, override_num_blocks=len(keys))
    return source.map_batches(chunk, batch_size=None, num_cpus=TASK_CPUS, **node_options)


def _batches(decoded: ray.data.Dataset, batch_size: int) -> Iterator[dict[str, Any]]:
    yield from decoded.iter_batches(batch_size=batch_size, batch_format="numpy", prefetch_batches=2)


def dense(values: np.ndarray) -> np.ndarray:
    """One array of equal-sized rows; Ray hands rows of a mixed block out as objects."""
    dense = np.stack(list(values)) if values.dtype == object else values
    return dense if dense.flags.writeable else dense.copy()
