"""Speed of training a method: read from earlier runs, or measured by a few steps and predictions."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import ray
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch, Method
from miseg.recipes.experiment import Experiment
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.study.plan import Throughput
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.description import parameters
from miseg.service.training import streams as ingest
from miseg.service.training.loop import Loop
from miseg.service.training.records import NonFiniteLossError
from miseg.service.training.run import FINISHED

WARM_UP, TIMED = 2, 5
"""Steps before the clock starts, and steps that are timed."""

BATCHES = 2
"""Batches that are trained on in turn, and batches of the validation split that are timed."""

MOST_RUNS = 50
"""Earlier runs that are looked through, the latest first."""

RATE = "images_per_second"

NOT_OF_SPEED = ("steps", "validate_every", "seed", "label_budget", "order", "non_finite", "data")
"""Parameters that change no step's time; nor do those of the optimiser."""


def recorded(uri: str, experiment: Experiment, *, use_gpu: bool) -> Throughput | None:
    """Speed of finished runs of this method, network and image size on this kind of device; None without any."""
    client = MlflowClient(uri)
    with mlflow_runs.reachable(uri):
        mlflow_experiment = client.get_experiment_by_name(mlflow_runs.experiment_name(experiment.data))
        if mlflow_experiment is None:
            return None
        filter_string = (
            f"attributes.status = 'FINISHED' and tags.`miseg.method` = '{type(experiment.method).__name__}' "
            f"and tags.`miseg.ended` = '{FINISHED}'"
        )
        runs = client.search_runs(
            [mlflow_experiment.experiment_id],
            filter_string,
            max_results=MOST_RUNS,
            order_by=["attributes.start_time DESC"],
        )
        alike = [run for run in runs if _is_alike(run, experiment, use_gpu)]
        if not alike:
            return None
        rates = [metric.value for run in alike for metric in client.get_metric_history(run.info.run_id, RATE)]
    rate = statistics.median(rates)
    return Throughput(
        rate,
        statistics.median(_besides(run, rate) for run in alike),
        f"{len(alike)} earlier run{'' if len(alike) == 1 else 's'}",
    )


def _is_alike(run: Run, experiment: Experiment, use_gpu: bool) -> bool:
    def counting(values: dict[str, str]) -> dict[str, str]:
        return {k: v for k, v in values.items() if k not in NOT_OF_SPEED and not k.startswith("optimiser.")}

    has = run.data.metrics
    if RATE not in has or any(key.startswith("system/gpu") for key in has) != use_gpu:
        return False
    before = parameters(experiment, later_defaults=False)
    # Earlier runs trained with the defaults of what they could not choose.
    defaults = {name: value for name, value in parameters(experiment).items() if name not in before}
    return counting(defaults | run.data.params) == counting(parameters(experiment))


def _besides(run: Run, rate: float) -> float:
    """Seconds of a run besides its steps, for each of its validations."""
    steps, every, batch = (int(run.data.params[name]) for name in ("steps", "validate_every", "batch_size"))
    seconds = (run.info.end_time - run.info.start_time) / 1000
    return max(0.0, seconds - steps * batch / rate) / -(-steps // every)


SHORT = 50
"""Steps below which a training is not timed before it starts."""


def expectation(uri: str, experiment: Experiment, data: str, resources: Resources) -> str:
    """A line on how long a training by one worker will take, for the terminal.

    Args:
        uri: the MLflow store, whose earlier runs of the same work tell, if there are any.
        experiment: what will be trained.
        data: the packed data set.
        resources: the worker's; without earlier runs a few steps are measured on them.
    """
    if experiment.steps < SHORT:
        return f"{experiment.steps} steps: too few to be timed before"
    speed = recorded(uri, experiment, use_gpu=resources.use_gpu) or measured(experiment, data, resources)
    took = in_words(speed.seconds(experiment))
    return f"expected: {took} for {experiment.steps:,} steps (by {speed.source}); --steps takes fewer"


def in_words(seconds: float) -> str:
    """A duration, rounded: "about 3 minutes"."""
    if seconds >= 2 * 3600:
        return f"about {seconds / 3600:.0f} hours"
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else "about a minute"


def measured(experiment: Experiment, data: str, resources: Resources) -> Throughput:
    """A few steps and predictions on one worker's share of the cluster, as a Ray task.

    Data come from memory, as they do to a training whose decoded images fit (`--decoded-gib`).
    """
    task = ray.remote(measure).options(num_cpus=resources.per_worker["CPU"], num_gpus=int(resources.use_gpu))
    return ray.get(task.remote(experiment, data, resources.threads))


def measure(experiment: Experiment, data: str, threads: int) -> Throughput:
    """Speed of an experiment, measured in this process with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _measure(experiment, PackedDataset.open(data))
    finally:
        torch.set_num_threads(before)


def _measure(experiment: Experiment, dataset: PackedDataset) -> Throughput:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    long_enough = replace(experiment, steps=max(experiment.steps, WARM_UP + TIMED))
    loop = Loop(long_enough, ingest.task_of(dataset), device, pretrained=False)
    convert = ingest.Converter(dataset, experiment)
    plan = ingest.training_plan(dataset, long_enough)(start_step=0, stop_step=BATCHES)
    batches = [convert(columns) for columns in plan]
    seconds = []
    for batch in itertools.islice(itertools.cycle(batches), WARM_UP + TIMED):
        started = time.perf_counter()
        loop.train_step(batch)
        with contextlib.suppress(NonFiniteLossError):  # takes as long as another step
            loop.flush()  # reads from the device, and so waits for it
        seconds.append(time.perf_counter() - started)
    rate = experiment.batch_size / statistics.median(seconds[WARM_UP:])
    return Throughput(rate, _validation_seconds(loop, dataset), f"{TIMED} steps measured")


def _validation_seconds(loop: Loop, dataset: PackedDataset) -> float:
    """By a few batches of the split: the time of each image, times as many as a validation passes through."""
    experiment, method = loop.experiment, loop.evaluated
    if not dataset.info.classes and method.emits != "clusters":
        # Without labels there is nothing to score, and trainings map no image.
        return 0.0
    split = experiment.validation_split(dataset.splits)
    shown = list(itertools.islice(_shown(dataset, split, experiment), BATCHES))
    images = sum(len(batch.ids) for batch in shown)
    passes = dataset.size(split)
    if method.supervision == "none" and type(method).fit_support is not Method.fit_support:
        # Centres are found among all training images, which takes about as long as predicting them.
        passes += dataset.size("train")
        method.fit_support(batch.to(loop.device).without_labels(loop.task.ignore_index) for batch in shown)
    given = ingest.given_examples(method, dataset, split, experiment, shown)
    started = time.perf_counter()
    loop.evaluate(given)
    return (time.perf_counter() - started) / max(1, images) * passes


def _shown(dataset: PackedDataset, split: str, experiment: Experiment) -> Iterator[Batch]:
    convert = ingest.Converter(dataset, experiment)
    for columns in ingest.evaluation_plan(dataset, split, experiment)(rank=0, world=1):
        yield from map(convert, ingest.split_by_size(columns))
