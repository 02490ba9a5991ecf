"""The rows of the benchmark that are about the training loop: what miseg adds to a step, and what workers share."""

from __future__ import annotations

import copy
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from torch import Tensor

from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch, combine
from miseg.optimisation.optimisers import build_optimiser
from miseg.recipes import streets
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.service.benchmarks.rows import BenchmarkRow, device
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.journal.journal import journal_folder
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from miseg.service.training import streams as ingest
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import Recorder

BATCHES = 4
"""Different batches of tensors that a loop goes round."""

WARM_UP = 3
"""Steps before the clock starts."""


def loop(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds a step of `camvid-rmi` in a Ray Train worker, beside a bare PyTorch loop over the same tensors.

    miseg's has all that a run has, but for the images: losses logged to an MLflow store, system metrics, and once a
    repetition a checkpoint that is written, and a report to Ray Train. The bare loop is the network, the loss and the
    optimiser.
    """
    experiment = _experiment(dataset, batch_size, steps)
    with tempfile.TemporaryDirectory(prefix="miseg-benchmark-") as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        mlflow_runs.check(uri, folder)
        run_id = mlflow_runs.open_run(RunStore(folder, uri), "benchmark", "loop")
        logged = {"folder": journal_folder(folder), "tracking_uri": uri, "run_id": run_id}
        more = {"repetitions": repetitions, "tracking": logged, "kept_in": f"{folder}/run"}
        more |= {"threads": int(ray.cluster_resources()["CPU"])}
        values = _on_workers(_beside_a_bare_loop, dataset, experiment, 1, folder, **more)
    return BenchmarkRow("loop", "ms", values)


def scaling(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds of a worker's time a step of `camvid-rmi`, of one worker and of two, of one thread each.

    The batch is shared, so that the ratio is the efficiency. "two, by the model" is one's time and what it takes two to
    add up as many numbers as the network has weights, with nothing else to do: see docs/results/speed.md.
    """
    experiment = _experiment(dataset, batch_size, steps)
    names = ("one worker", "two workers", "two, by the model")
    values: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory(prefix="miseg-benchmark-") as folder:
            alone = _on_workers(_single_threaded_times, dataset, experiment, 1, folder + "/1")
            two = _on_workers(_single_threaded_times, dataset, experiment, 2, folder + "/2")
        milliseconds = (alone["step"], 2 * two["step"], alone["step"] + 2 * two["sum"])
        for name, value in zip(names, milliseconds, strict=True):
            values[name].append(value)
    return BenchmarkRow("scaling", "ms", values)


def _experiment(dataset: PackedDataset, batch_size: int, steps: int) -> Experiment:
    # So many steps that the learning rate hardly falls: it is the same work at every one.
    recipe = replace(streets.camvid_rmi(), data=dataset.uri, batch_size=batch_size)
    return replace(recipe, steps=100_000, validate_every=steps)


def _on_workers(
    work: Callable[[dict[str, Any]], Any],
    dataset: PackedDataset,
    experiment: Experiment,
    workers: int,
    folder: str,
    **more: Any,
) -> Any:
    """Result of rank 0's `work`, run by Ray Train the way a training is."""
    use_gpu = device().type == "cuda"
    trainer = TorchTrainer(
        work,
        train_loop_config={"experiment": to_dict(experiment), "data": dataset.uri} | more,
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=use_gpu,
            resources_per_worker=Resources(1, float(use_gpu), workers, 1).per_worker,
        ),
        run_config=RunConfig(name="benchmark", storage_path=folder),
    )
    result: Any = trainer.fit()
    return result.return_value


def _batches(config: dict[str, Any], experiment: Experiment, rank: int = 0, world: int = 1) -> list[Batch]:
    dataset = PackedDataset.open(config["data"])
    plan = ingest.training_plan(dataset, experiment, rank, world)(start_step=0, stop_step=BATCHES)
    convert = ingest.Converter(dataset, experiment)
    return [convert(columns).to(get_device(), memory_format=torch.channels_last) for columns in plan]


def _beside_a_bare_loop(config: dict[str, Any]) -> dict[str, list[float]]:
    # Only in the process that measures: it brings torch and MLflow along.
    from miseg.service.training import worker

    torch.set_num_threads(config["threads"])
    experiment: Experiment = from_dict(config["experiment"])
    steps = experiment.validate_every
    batches = _batches(config, experiment)
    dataset = PackedDataset.open(config["data"])
    trained = Loop(experiment, ingest.task_of(dataset), get_device())
    bare = copy.deepcopy(trained.method)
    optimiser = build_optimiser(bare.param_groups(experiment.optimiser.learning_rate), experiment.optimiser)
    recorder = Recorder(dataset, CheckpointStore(config["kept_in"]), config["tracking"])

    def validate() -> None:
        recorder.validation(trained, {"step": trained.step}, {})
        ray.train.report({"step": trained.step})

    def ours() -> None:
        worker.train_on(trained, itertools.islice(itertools.cycle(batches), steps), recorder, validate)
        recorder.finish()

    def plain() -> None:
        bare.train()
        for batch in itertools.islice(itertools.cycle(batches), steps):
            with torch.autocast(trained.device.type, trained.precision, enabled=trained.precision is not torch.float32):
                result = bare(batch)
            combine(result.total, result.count).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    seconds_by_variant: dict[str, list[float]] = {"miseg": [], "bare PyTorch": []}
    for repetition in range(-1, config["repetitions"]):
        for name, run in (("miseg", ours), ("bare PyTorch", plain)):
            _wait()
            started = time.perf_counter()
            run()
            _wait()
            if repetition >= 0:
                seconds_by_variant[name].append(1000 * (time.perf_counter() - started) / steps)
    recorder.close()
    return seconds_by_variant


def _single_threaded_times(config: dict[str, Any]) -> dict[str, float]:
    torch.set_num_threads(1)
    experiment: Experiment = from_dict(config["experiment"])
    trained = Loop(experiment, ingest.task_of(PackedDataset.open(config["data"])), get_device())
    batches = _batches(config, experiment, trained.rank, trained.world)

    def median_ms(work: Callable[[Batch], object], times: int) -> float:
        seconds = []
        for batch in itertools.islice(itertools.cycle(batches), WARM_UP + times):
            _wait()
            started = time.perf_counter()
            work(batch)
            _wait()
            seconds.append(time.perf_counter() - started)
        return 1000 * statistics.median(seconds[WARM_UP:])

    gradient = torch.cat([p.detach().flatten() for p in trained.method.parameters()])
    medians = {"step": median_ms(trained.train_step, experiment.validate_every)}
    medians["sum"] = median_ms(lambda _: _summed(gradient), experiment.validate_every)
    return medians


def _summed(gradient: Tensor) -> None:
    if dist.is_initialized():
        dist.all_reduce(gradient)


def _wait() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()
