"""The rows of the benchmark that are about a training step, and what an option adds to it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch, Task
from miseg.recipes import streets
from miseg.recipes.experiment import Experiment
from miseg.service.benchmarks.rows import BenchmarkRow, device, peak_bytes_of
from miseg.service.training import streams as ingest
from miseg.service.training.loop import Loop

PART = 2
"""Images of a part where a step's batch is cut."""


def step(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds of a whole training step with RMI as published, beside BCE: the U-Net of `camvid-rmi`."""
    return BenchmarkRow("step", "ms", _timed(dataset, _compared(dataset, batch_size), steps, repetitions))


def step_memory(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """MiB at the peak of two training steps, beyond network and batch: RMI as published beside BCE.

    On the CPU it is what a new process grows by, so the optimiser's state counts too, the same in both.
    """
    return BenchmarkRow("step-memory", "MiB", _peaks(dataset, _compared(dataset, batch_size), repetitions))


def accumulate(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds of a step of `camvid-rmi` whose batch is cut into parts of two images, beside the batch at once."""
    return BenchmarkRow("accumulate", "ms", _timed(dataset, _cut(dataset, batch_size), steps, repetitions))


def accumulate_memory(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """MiB at the peak of two such steps, measured as `step_memory`."""
    return BenchmarkRow("accumulate-memory", "MiB", _peaks(dataset, _cut(dataset, batch_size), repetitions))


def average(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds of a step of `camvid-rmi` that an average of the weights follows, beside one without."""
    plain = _compared(dataset, batch_size)["RMI and BCE"]
    averaged = replace(plain, optimiser=replace(plain.optimiser, ema_decay=0.999))
    compared = {"with an average": averaged, "without": plain}
    return BenchmarkRow("average", "ms", _timed(dataset, compared, steps, repetitions))


def compiled(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds of a step of `camvid-rmi` with its network compiled, beside the same as it is written.

    Compiling, at the first step, is not timed.

    Raises:
        RuntimeError: there is no compiler.
    """
    plain = _compared(dataset, batch_size)["RMI and BCE"]
    compared = {"compiled": replace(plain, compile=True), "as written": plain}
    return BenchmarkRow("compile", "ms", _timed(dataset, compared, steps, repetitions))


def peak_bytes(experiment: Experiment, task: Task, batch: Batch) -> int:
    """Bytes at the peak of the first two steps, in a new process: memory that was once used is not given back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_bytes_here, experiment, task, batch).result()


def _compared(dataset: PackedDataset, batch_size: int) -> dict[str, Experiment]:
    recipes = {"RMI and BCE": streets.camvid_rmi(), "BCE": streets.camvid_bce()}
    # So many steps that the learning rate hardly falls: it is the same work at every one.
    return {
        name: replace(recipe, data=dataset.uri, batch_size=batch_size, steps=100_000)
        for name, recipe in recipes.items()
    }


def _cut(dataset: PackedDataset, batch_size: int) -> dict[str, Experiment]:
    whole = _compared(dataset, batch_size)["RMI and BCE"]
    parts = max(1, batch_size // PART)
    return {f"in {parts} parts": replace(whole, accumulate=parts), "at once": whole}


def _timed(
    dataset: PackedDataset, compared: Mapping[str, Experiment], steps: int, repetitions: int
) -> dict[str, list[float]]:
    """Milliseconds of a step of each experiment, in turn, after some steps that are not timed."""
    loops = {
        name: (Loop(experiment, ingest.task_of(dataset), device()), _batch(dataset, experiment))
        for name, experiment in compared.items()
    }
    values: dict[str, list[float]] = {name: [] for name in loops}
    for loop, batch in loops.values():
        if loop.not_compiled:
            raise RuntimeError(f"nothing to compare: the networks are not compiled ({loop.not_compiled})")
        _seconds_a_step(loop, batch, 3)
    for _ in range(repetitions):
        for name, (loop, batch) in loops.items():
            values[name].append(1e3 * _seconds_a_step(loop, batch, steps))
    return values


def _peaks(dataset: PackedDataset, compared: Mapping[str, Experiment], repetitions: int) -> dict[str, list[float]]:
    """MiB at the peak of two steps of each experiment."""
    values: dict[str, list[float]] = {}
    for name, experiment in compared.items():
        batch, task = _batch(dataset, experiment), ingest.task_of(dataset)
        values[name] = [peak_bytes(experiment, task, batch) / 2**20 for _ in range(repetitions)]
    return values


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
