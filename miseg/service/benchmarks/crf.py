"""The benchmark's row about the dense CRF: how it scales with the cores."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import ray

from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import DenseCRF
from miseg.recipes import streets
from miseg.service.benchmarks.rows import BenchmarkRow
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.cluster import ray_cluster
from miseg.service.evaluation import dense_crf
from miseg.service.evaluation.scores import FurtherMeasures
from miseg.service.training import streams as ingest
from miseg.service.training.loop import Loop

CORES = (2, 1, 4)
"""Two beside one make the ratio."""


def crf(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Images a second of val predicted and refined by ten iterations of the CRF, on 2 cores beside 1, and 4.

    Each time in a Ray of its own, which is held to so many of this machine's logical cores, as `miseg evaluate --crf`
    does it; a pass of one iteration goes before the clock starts. The U-Net of `camvid-ce` is not trained: the CRF
    takes as long whatever is predicted.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    cores = [count for count in CORES if count <= len(os.sched_getaffinity(0))]
    values: dict[str, list[float]] = {f"{count} core{'s' * (count > 1)}": [] for count in cores}
    for _ in range(repetitions):
        for count, rates in zip(cores, values.values(), strict=True):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                rates.append(pool.submit(_images_per_second, dataset.uri, batch_size, count).result())
    return BenchmarkRow("crf", "images/s", values)


def _images_per_second(data: str, batch_size: int, cores: int) -> float:
    # What Ray starts keeps to the same cores; Ray itself counts those it finds.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    os.environ.pop("RAY_ADDRESS", None)
    dataset = PackedDataset.open(data)
    experiment = replace(streets.camvid_ce(), data=data, batch_size=batch_size)
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(experiment, ingest.task_of(dataset))
        files = checkpoint_files.files_of(checkpoint.save(Path(folder) / "checkpoint", loop, {}))
    ray_cluster.connect("local")
    try:
        resources = ray_cluster.resources(1, 1)
        dense_crf.refine(files, dataset, "val", FurtherMeasures((DenseCRF(1),)), resources)
        started = time.perf_counter()
        (refined,) = dense_crf.refine(files, dataset, "val", FurtherMeasures((DenseCRF(10),)), resources)
        return refined.images / (time.perf_counter() - started)
    finally:
        ray.shutdown()
