"""The rows of the benchmark that are about the data path: images a second, and memory."""

from __future__ import annotations

import collections
import itertools
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from miseg.data.configs import Augmentation
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR
from miseg.interface import Batch
from miseg.recipes.experiment import Experiment
from miseg.service.benchmarks.rows import BenchmarkRow
from miseg.service.cluster import ray_cluster
from miseg.service.training import decoded_cache
from miseg.service.training import streams as ingest

WARM_UP_STEPS = 100
"""Steps before the clock starts: processes start, and a DataLoader's four batches in advance are used up."""

TIMES = 10
"""Factor between the sizes of the two data sets of `data_memory`."""


def data_path(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Images a second from the packed shards to batches in the trainer: Ray Data beside a DataLoader of 2 workers.

    Both read the same images in the same order with the same augmentation: random scale 0.5 to 2, crop 224, flip. The
    DataLoader is timed once it runs. Ray Data works far ahead, so that its rate at any moment says little: a pipeline
    is timed from its first task to its last batch, after another that made Ray start its processes.
    """
    experiment = _experiment(dataset, batch_size, steps)
    warm_up = replace(experiment, steps=WARM_UP_STEPS)
    values: dict[str, list[float]] = {"Ray Data": [], "DataLoader, 2 workers": []}
    for seed in range(repetitions):
        _drain(ingest.training_stream(dataset, replace(warm_up, seed=seed)))
        streamed = ingest.training_stream(dataset, replace(experiment, seed=seed))
        values["Ray Data"].append(_images_per_second(streamed, batch_size))
        values["DataLoader, 2 workers"].append(_data_loader_speed(dataset, replace(experiment, seed=seed)))
    return BenchmarkRow("data-path", "images/s", values)


def data_path_cached(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """The same from the second epoch on, where Ray Data keeps decoded images: the budget is twice what they take.

    The first epoch is streamed before the clock starts; what is timed is a pipeline that begins with the second, from
    its first task to its last batch. The DataLoader decodes in each epoch.
    """
    epoch = -(-dataset.size("train") // batch_size)
    experiment = _experiment(dataset, batch_size, epoch + steps)
    cached = decoded_cache.keeping(dataset, experiment, 2 * dataset.decoded_bytes("train"))
    values: dict[str, list[float]] = {"Ray Data, from epoch 2 on": [], "DataLoader, 2 workers": []}
    for seed in range(repetitions):
        seeded = replace(experiment, seed=seed)
        _drain(ingest.training_stream(cached, replace(seeded, steps=epoch)))
        streamed = ingest.training_stream(cached, seeded, start_step=epoch)
        values["Ray Data, from epoch 2 on"].append(_images_per_second(streamed, batch_size))
        # As many steps as in `data_path`: its rate does not change.
        values["DataLoader, 2 workers"].append(_data_loader_speed(dataset, replace(seeded, steps=min(steps, 300))))
    return BenchmarkRow("data-path-cached", "images/s", values)


def data_memory(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """MiB at the peak of streaming ten times the data beside the data, equally many images of both.

    Counted are the process that trains, all of Ray's and its object store. No decoded image is kept, as where the
    budget does not hold them. Each time in a new process with a Ray of its own.

    Raises:
        ValueError: the data set is not in a local folder.
    """
    if "://" in dataset.uri:
        raise ValueError(f"data-memory links to the files of {dataset.uri}: give a packed data set in a local folder")
    values: dict[str, list[float]] = {f"{TIMES} times the data": [], "the data": []}
    with tempfile.TemporaryDirectory(dir=Path(dataset.uri).parent) as folder:
        larger = _multiplied(dataset, Path(folder))
        for _ in range(repetitions):
            for name, uri in zip(values, (larger, dataset.uri), strict=True):
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    values[name].append(pool.submit(_peak_of_streaming, uri, batch_size, steps).result() / 2**20)
    return BenchmarkRow("data-memory", "MiB", values)


def _experiment(dataset: PackedDataset, batch_size: int, steps: int) -> Experiment:
    augmentation = Augmentation(scale=(0.5, 2.0), crop=(224, 224))
    return Experiment(augmentation=augmentation, data=dataset.uri, batch_size=batch_size, steps=steps)


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


def _data_loader_speed(dataset: PackedDataset, experiment: Experiment) -> float:
    """Images a second of the DataLoader over the experiment's steps, after some that are not timed."""
    loaded = _data_loader(dataset, replace(experiment, steps=experiment.steps + WARM_UP_STEPS))
    _drain(itertools.islice(loaded, WARM_UP_STEPS))
    return _images_per_second(loaded, experiment.batch_size)


def _images_per_second(batches: Iterator[Batch], batch_size: int) -> float:
    started, count = time.perf_counter(), 0
    for _ in batches:
        count += batch_size
    return count / (time.perf_counter() - started)


def _drain(batches: Iterator[Batch]) -> None:
    collections.deque(batches, maxlen=0)


def _multiplied(dataset: PackedDataset, folder: Path) -> str:
    """A data set in `folder` whose splits have each shard of `dataset` several times, under as many names."""
    sidecar = json.loads((Path(dataset.uri) / SIDECAR).read_text())
    for split, shards in sidecar["splits"].items():
        sidecar["splits"][split] = [
            shard | {"file": f"{copy}-{shard['file']}"} for copy in range(TIMES) for shard in shards
        ]
        for shard, copy in itertools.product(shards, range(TIMES)):
            os.link(Path(dataset.uri) / shard["file"], folder / f"{copy}-{shard['file']}")
    (folder / SIDECAR).write_text(json.dumps(sidecar))
    return str(folder)


def _peak_of_streaming(uri: str, batch_size: int, steps: int) -> int:
    dataset = PackedDataset.open(uri)
    experiment = _experiment(dataset, batch_size, steps)
    ray_cluster.connect("local")
    return _peak_of_processes(lambda: _drain(ingest.training_stream(dataset, experiment)))


def _peak_of_processes(work: Callable[[], object], every: float = 0.2) -> int:
    """Bytes that this process and those under it hold at the peak of `work`; what they share counts once."""
    done, peaks = threading.Event(), [0]

    def watch() -> None:
        process = psutil.Process()
        while not done.wait(every):
            peaks.append(sum(map(_proportional, [process, *process.children(recursive=True)])))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(peaks)


def _proportional(process: psutil.Process) -> int:
    """Bytes of a process' memory, of what it shares with others its part; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
