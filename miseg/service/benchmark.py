"""Speed as ratios measured side by side in one run; nothing here judges, it only reports.

A row compares variants on the same work, in alternating repetitions, so that a machine whose speed drifts shifts both.
"""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from miseg.data.configs import Augmentation
from miseg.data.packed import PackedDataset
from miseg.interface import Batch, Task
from miseg.recipes import streets
from miseg.recipes.experiment import Experiment
from miseg.service import crf_benchmark, ingest, loss_benchmark, method_benchmark
from miseg.service.loop import Loop
from miseg.service.side_by_side import Row, device, peak_bytes_of

WARM_UP_STEPS = 100
"""Steps before the clock starts: processes start, and a DataLoader's four batches in advance are used up."""


def data_path(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> Row:
    """Images a second from the packed shards to batches in the trainer: Ray Data beside a DataLoader of 2 workers.

    Both read the same images in the same order with the same augmentation: random scale 0.5 to 2, crop 224, flip. The
    DataLoader is timed once it runs. Ray Data works far ahead, so that its rate at any moment says little: a pipeline
    is timed from its first task to its last batch, after another that made Ray start its processes.
    """
    augmentation = Augmentation(scale=(0.5, 2.0), crop=(224, 224))
    experiment = Experiment(augmentation=augmentation, data=dataset.uri, batch_size=batch_size, steps=steps)
    warm_up = replace(experiment, steps=WARM_UP_STEPS)
    values: dict[str, list[float]] = {"Ray Data": [], "DataLoader, 2 workers": []}
    for seed in range(repetitions):
        collections.deque(ingest.training_stream(dataset, replace(warm_up, seed=seed)), maxlen=0)
        streamed = ingest.training_stream(dataset, replace(experiment, seed=seed))
        values["Ray Data"].append(_images_per_second(streamed, batch_size))
        loaded = _data_loader(dataset, replace(experiment, steps=steps + WARM_UP_STEPS, seed=seed))
        collections.deque(itertools.islice(loaded, WARM_UP_STEPS), maxlen=0)
        values["DataLoader, 2 workers"].append(_images_per_second(loaded, batch_size))
    return Row("data-path", "images/s", values)


def step(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> Row:
    """Milliseconds of a whole training step with RMI as published, beside BCE: the U-Net of `camvid-rmi`."""
    loops = {
        name: (Loop(experiment, ingest.task_of(dataset), device()), _batch(dataset, experiment))
        for name, experiment in _compared(dataset, batch_size).items()
    }
    values: dict[str, list[float]] = {name: [] for name in loops}
    for loop, batch in loops.values():
        _seconds_a_step(loop, batch, 3)
    for _ in range(repetitions):
        for name, (loop, batch) in loops.items():
            values[name].append(1e3 * _seconds_a_step(loop, batch, steps))
    return Row("step", "ms", values)


def step_memory(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> Row:
    """MiB at the peak of two training steps, beyond network and batch: RMI as published beside BCE.

    On the CPU it is what a new process grows by, so the optimiser's state counts too, the same in both.
    """
    values: dict[str, list[float]] = {}
    for name, experiment in _compared(dataset, batch_size).items():
        batch, task = _batch(dataset, experiment), ingest.task_of(dataset)
        values[name] = [peak_bytes(experiment, task, batch) / 2**20 for _ in range(repetitions)]
    return Row("step-memory", "MiB", values)


def peak_bytes(experiment: Experiment, task: Task, batch: Batch) -> int:
    """Bytes at the peak of the first two steps, in a new process: memory that was once used is not given back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_bytes_here, experiment, task, batch).result()


ROWS: dict[str, Callable[..., Row]] = {
    "data-path": data_path,
    "step": step,
    "step-memory": step_memory,
    "loss": loss_benchmark.loss,
    "loss-beside-bce": loss_benchmark.loss_beside_bce,
    "loss-memory": loss_benchmark.loss_memory,
    "map": method_benchmark.maps,
    "scene": method_benchmark.scene,
    "scene-memory": method_benchmark.scene_memory,
    "mutual-learning": method_benchmark.mutual_learning,
    "iic": method_benchmark.invariant_information,
    "crf": crf_benchmark.crf,
}
"""Every row by the name that selects it."""

STEPS = {"data-path": 300, "step": 10, "step-memory": 2, "loss": 5, "loss-beside-bce": 5, "loss-memory": 1}
STEPS |= {"map": 1, "scene": 1, "scene-memory": 1, "mutual-learning": 4, "iic": 1, "crf": 1}
"""Steps that a repetition of a row takes unless told otherwise."""


def _compared(dataset: PackedDataset, batch_size: int) -> dict[str, Experiment]:
    recipes = {"RMI and BCE": streets.camvid_rmi(), "BCE": streets.camvid_bce()}
    # So many steps that the learning rate hardly falls: it is the same work at every one.
    return {
        name: replace(recipe, data=dataset.uri, batch_size=batch_size, steps=100_000)
        for name, recipe in recipes.items()
    }


def _batch(dataset: PackedDataset, experiment: Experiment) -> Batch:
    columns = next(ingest.training_plan(dataset, experiment)(start_step=0, stop_step=1))
    return ingest.Converter(dataset, experiment)(columns)


def _seconds_a_step(loop: Loop, batch: Batch, steps: int) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        loop.train_step(batch)
    loop.flush()  # reads from the device, and so waits for it
    return (time.perf_counter() - started) / steps


def _peak_bytes_here(experiment: Experiment, task: Task, batch: Batch) -> int:
    loop = Loop(experiment, task, device())
    batch = batch.to(loop.device)
    return peak_bytes_of(lambda: _seconds_a_step(loop, batch, 2))


class _Steps(torch.utils.data.Dataset):
    """The training plan as a map-style data set whose item is a step's batch."""

    def __init__(self, dataset: PackedDataset, experiment: Experiment) -> None:
        self.dataset, self.experiment = dataset, experiment

    def __len__(self) -> int:
        return self.experiment.steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        return next(ingest.training_plan(self.dataset, self.experiment)(start_step=step, stop_step=step + 1))


def _data_loader(dataset: PackedDataset, experiment: Experiment) -> Iterator[Batch]:
    # Ray's threads are running: a forked worker could inherit a lock that nobody will release.
    loader = torch.utils.data.DataLoader(
        _Steps(dataset, experiment), batch_size=None, num_workers=2, multiprocessing_context="spawn"
    )
    convert = ingest.Converter(dataset, experiment)
    for columns in loader:
        numpy = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in columns.items()}
        yield convert(numpy)


def _images_per_second(batches: Iterator[Batch], batch_size: int) -> float:
    started, count = time.perf_counter(), 0
    for _ in batches:
        count += batch_size
    return count / (time.perf_counter() - started)
