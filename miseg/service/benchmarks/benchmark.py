"""Speed as ratios measured side by side in one run; nothing here judges, it only reports.

A row compares variants on the same work, in alternating repetitions, so that a machine whose speed drifts shifts both.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch, Task
from miseg.recipes import streets
from miseg.recipes.experiment import Experiment
from miseg.service.benchmarks import crf, data, losses, methods, trials
from miseg.service.benchmarks import loop as loop_benchmark
from miseg.service.benchmarks.rows import BenchmarkRow, device, peak_bytes_of
from miseg.service.training import streams as ingest
from miseg.service.training.loop import Loop


def step(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
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
    return BenchmarkRow("step", "ms", values)


def step_memory(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """MiB at the peak of two training steps, beyond network and batch: RMI as published beside BCE.

    On the CPU it is what a new process grows by, so the optimiser's state counts too, the same in both.
    """
    values: dict[str, list[float]] = {}
    for name, experiment in _compared(dataset, batch_size).items():
        batch, task = _batch(dataset, experiment), ingest.task_of(dataset)
        values[name] = [peak_bytes(experiment, task, batch) / 2**20 for _ in range(repetitions)]
    return BenchmarkRow("step-memory", "MiB", values)


def peak_bytes(experiment: Experiment, task: Task, batch: Batch) -> int:
    """Bytes at the peak of the first two steps, in a new process: memory that was once used is not given back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_bytes_here, experiment, task, batch).result()


ROWS: dict[str, Callable[..., BenchmarkRow]] = {
    "data-path": data.data_path,
    "data-path-cached": data.data_path_cached,
    "data-memory": data.data_memory,
    "step": step,
    "step-memory": step_memory,
    "loop": loop_benchmark.loop,
    "scaling": loop_benchmark.scaling,
    "trial": trials.trial,
    "loss": losses.loss,
    "loss-beside-bce": losses.loss_beside_bce,
    "loss-plain": losses.plain_loss,
    "loss-plain-beside-bce": losses.plain_loss_beside_bce,
    "loss-memory": losses.loss_memory,
    "mutual-learning": methods.mutual_learning,
    "iic": methods.invariant_information,
    "crf": crf.crf,
    "map": methods.maps,
    "scene": methods.scene,
    "scene-memory": methods.scene_memory,
}
"""Every row by the name that selects it."""

STEPS = dict.fromkeys(ROWS, 1) | {
    "data-path": 300,
    "data-path-cached": 1000,
    "data-memory": 460,
    "step": 10,
    "step-memory": 2,
    "loop": 40,
    "scaling": 10,
    "trial": 20,
    "loss": 5,
    "loss-beside-bce": 5,
    "loss-plain": 5,
    "loss-plain-beside-bce": 5,
    "mutual-learning": 4,
}
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
