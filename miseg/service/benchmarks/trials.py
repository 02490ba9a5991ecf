"""The benchmark's row about trials: what a trial of a tuning takes beside its compute."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import replace

import torch
from mlflow import MlflowClient

from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch
from miseg.recipes import spaces, streets
from miseg.recipes.experiment import Experiment
from miseg.service.benchmarks.rows import BenchmarkRow, device
from miseg.service.cluster import ray_cluster
from miseg.service.tracking import mlflow_runs
from miseg.service.training import streams as ingest
from miseg.service.training.loop import Loop
from miseg.service.tuning import tune
from miseg.service.tuning.tuning import Tuning

TRIALS = 6
"""Trials of a repetition; the first is left out, since it starts the process that all of them train in."""

SIZE = (120, 160)
"""Height and width in pixels, those of docs/results/camvid.md."""


def trial(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Seconds from one trial's start to the next one's, one trial at a time, beside their compute.

    Compute is the network's construction, as many steps over batches that are in memory already, and one validation
    over val. A trial has Tune, MLflow, the pictures, the checkpoint, the models and Ray Data besides. "beside its
    compute" is the difference.
    """
    base = replace(
        streets.camvid_rmi(),
        data=dataset.uri,
        batch_size=batch_size,
        steps=steps,
        validate_every=steps,
        augmentation=replace(streets.camvid_rmi().augmentation, resize=SIZE),
    )
    values: dict[str, list[float]] = {"a trial": [], "its compute": [], "beside its compute": []}
    resources = ray_cluster.resources(1, 1)
    for repetition in range(repetitions):
        with tempfile.TemporaryDirectory(prefix="miseg-benchmark-") as folder:
            uri = f"sqlite:///{folder}/mlflow.db"
            mlflow_runs.check(uri, folder)
            tuning = Tuning(
                name=f"trials-{repetition}",
                base=base,
                space=spaces.region_mutual_information,
                default_point=spaces.region_mutual_information.point(base),
                rivals={},
                tuned="",
                data=dataset.uri,
                storage=folder,
                tracking_uri=uri,
                resources=resources,
                trials=TRIALS,
                confirm_seeds=0,
                grid=_grid(base),
            )
            parent = mlflow_runs.open_run(tuning.store, mlflow_runs.experiment_name(base.data), tuning.name)
            tune.search(tuning, parent)
            whole = _seconds_between_starts(uri, parent)
        compute = _compute_seconds(base, dataset, resources.threads)
        for name, value in zip(values, (whole, compute, whole - compute), strict=True):
            values[name].append(value)
    return BenchmarkRow("trial", "s", values)


def _grid(base: Experiment) -> dict[str, list[object]]:
    """The published setting at `TRIALS` learning rates: the same work each time."""
    point: dict[str, list[object]] = {k: [v] for k, v in spaces.region_mutual_information.point(base).items()}
    return point | {"learning_rate": [base.optimiser.learning_rate * (1 + 0.01 * i) for i in range(TRIALS)]}


def _seconds_between_starts(uri: str, parent: str) -> float:
    """Mean of all but the first."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_run(parent).info.experiment_id], "tags.`miseg.kind` = 'trial'")
    starts = sorted(run.info.start_time for run in runs)
    assert len(starts) == TRIALS, f"{len(starts)} of {TRIALS} trials were started"
    return (starts[-1] - starts[1]) / 1000 / (TRIALS - 2)


def _compute_seconds(experiment: Experiment, dataset: PackedDataset, threads: int) -> float:
    convert = ingest.Converter(dataset, experiment)
    plan = ingest.training_plan(dataset, experiment)(start_step=0, stop_step=experiment.steps)
    training = [convert(columns) for columns in plan]
    validation = [convert(columns) for columns in ingest.evaluation_plan(dataset, "val", experiment)(rank=0, world=1)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = [_train(experiment, dataset, training, validation) for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    return seconds[-1]  # the first warms up


def _train(experiment: Experiment, dataset: PackedDataset, training: list[Batch], validation: list[Batch]) -> float:
    started = time.perf_counter()
    loop = Loop(experiment, ingest.task_of(dataset), device())
    for batch in itertools.islice(itertools.cycle(training), experiment.steps):
        loop.train_step(batch)
    loop.flush()
    loop.evaluate(iter(validation))
    return time.perf_counter() - started
