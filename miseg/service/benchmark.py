"""Speed as ratios measured side by side in one run; nothing here judges, it only reports.

A row compares variants on the same work, in alternating repetitions, so that a machine whose speed drifts shifts both.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from miseg.data.packed import PackedDataset
from miseg.interface import IGNORE_INDEX, Batch, Task
from miseg.methods import build_method
from miseg.methods.similarity import MutualInformationSimilarityMethod
from miseg.recipes import few_labels, streets
from miseg.recipes.experiment import Experiment
from miseg.service import data_benchmark, ingest, loss_benchmark
from miseg.service.loop import Loop
from miseg.service.side_by_side import Row, device, peak_bytes_of


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


@torch.no_grad()
def maps(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> Row:
    """Seconds for the map of a scene of 128 x 128 pixels and four bands from 60 labelled pixels, by local information.

    The literal algorithm encodes every patch and scores it with every label, here a row of patches at a time; ours is
    `NearestLabelMethod.predict`. The scene is noise, whatever the data set: its content costs nothing.
    """
    method, image_1BHW = _labelled_scene(128)
    variants = {
        "literal, a row at a time": lambda: _literal_map(method, image_1BHW),
        "once over the image": lambda: method.predict(image_1BHW)[0].argmax(0),
    }
    values: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repetitions):
        found = []
        for name, make in variants.items():
            started = time.perf_counter()
            found.append(make().cpu())
            values[name].append(time.perf_counter() - started)
        if differing := int((found[0] != found[1]).sum()):
            # Rounding may decide between labels that are equally near in single precision; more would be an error.
            print(f"map: {differing} of {found[0].numel()} pixels differ")
    return Row("map", "s", values)


@torch.no_grad()
def scene(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> Row:
    """Seconds for the map of a scene of 512 x 512 pixels and four bands from 60 labelled pixels, by two comparisons."""
    method, image_1BHW = _labelled_scene(512)
    values: dict[str, list[float]] = {"local": [], "representation": []}
    for _ in range(repetitions):
        for name, seconds in values.items():
            started = time.perf_counter()
            method.predict_by(name, image_1BHW).argmax(1).cpu()
            seconds.append(time.perf_counter() - started)
    return Row("scene", "s", values)


def scene_memory(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> Row:
    """MiB at the peak of the same map, beyond scene and model, each time in a new process."""
    values: dict[str, list[float]] = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in ("local", "representation"):
            values[name] = [pool.apply(_peak_bytes_of_a_map, (name,)) / 2**20 for _ in range(repetitions)]
    return Row("scene-memory", "MiB", values)


def _labelled_scene(side: int) -> tuple[MutualInformationSimilarityMethod, Tensor]:
    """The similarity of `flanders-similarity`, told 60 labelled pixels of noise, and the noise [1, 4, side, side]."""
    torch.manual_seed(0)
    method = build_method(few_labels.flanders().method, Task(5, 4)).to(device()).eval()
    assert isinstance(method, MutualInformationSimilarityMethod)
    image_1BHW = torch.randn(1, 4, side, side, device=device())
    labels_1HW = torch.full((1, side, side), IGNORE_INDEX, device=device())
    labels_1HW.view(-1)[torch.randperm(side * side)[:60]] = torch.arange(60, device=device()) % 5
    method.fit_support([Batch(image_1BHW, labels_1HW)])
    return method, image_1BHW


@torch.no_grad()
def _peak_bytes_of_a_map(compare: str) -> int:
    method, image_1BHW = _labelled_scene(512)
    return peak_bytes_of(lambda: method.predict_by(compare, image_1BHW))


def _literal_map(method: MutualInformationSimilarityMethod, image_1BHW: Tensor) -> Tensor:
    assert method.support is not None and method.of_parts is not None
    border = method.patch // 2
    padded = torch.nn.functional.pad(image_1BHW, (border,) * 4, mode="reflect")
    patches = padded[0].unfold(1, method.patch, 1).unfold(2, method.patch, 1)
    _, representations_LZ = method.encoder(method.support.patches_LBPP)
    rows = []
    for row in range(patches.shape[1]):
        local, _ = method.encoder(patches[:, row].transpose(0, 1).contiguous())
        scores_LW = torch.stack(
            [method.of_parts(local, z.expand(len(local), -1)).mean((1, 2)) for z in representations_LZ]
        )
        rows.append(method.support.labels_L[scores_LW.argmax(0)])
    return torch.stack(rows)


ROWS: dict[str, Callable[..., Row]] = {
    "data-path": data_benchmark.data_path,
    "data-path-cached": data_benchmark.data_path_cached,
    "data-memory": data_benchmark.data_memory,
    "step": step,
    "step-memory": step_memory,
    "map": maps,
    "scene": scene,
    "scene-memory": scene_memory,
    "loss": loss_benchmark.loss,
    "loss-beside-bce": loss_benchmark.loss_beside_bce,
    "loss-memory": loss_benchmark.loss_memory,
}
"""Every row by the name that selects it."""

STEPS = {
    "data-path": 300,
    "data-path-cached": 1000,
    "data-memory": 460,
    "step": 10,
    "step-memory": 2,
    "map": 1,
    "scene": 1,
    "scene-memory": 1,
}
STEPS |= {"loss": 5, "loss-beside-bce": 5, "loss-memory": 1}
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
