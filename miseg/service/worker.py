"""What a Train worker runs: its share of the training steps, the validations, and on rank 0 the logging."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray.train
import torch
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from ray.train.torch import get_device

from miseg.data.augmentation import standardisation
from miseg.data.packed import PackedDataset
from miseg.evaluation import match_clusters
from miseg.interface import Batch, Method
from miseg.recipes.experiment import Experiment, from_dict
from miseg.service import checkpoint, ingest, kept_images
from miseg.service.journal import TRAIN_MATCH, Journal
from miseg.service.loop import Loop, NonFiniteLossError, Record
from miseg.service.reporting import PANEL_ROWS, log_evaluation, validation_metrics, watch_collapse
from miseg.service.scoring import Evaluation
from miseg.service.train import FINISHED, PLACEMENT_GROUP, Selection

LOG_EVERY = 10
"""Steps between two reads of the losses from the device."""


def train(config: dict[str, Any]) -> str:
    """What every Train worker runs: its share of each step, and on rank 0 the logging. Returns why it ended."""
    torch.set_num_threads(config["threads"])
    # A line for each validation is for people; what Ray does in between is in its own log files.
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    experiment: Experiment = from_dict(config["experiment"])
    dataset = kept_images.keeping(PackedDataset.open(config["data"]), experiment, config["decoded_bytes"])
    resumed = ray.train.get_checkpoint()
    loop = Loop(experiment, ingest.task_of(dataset), get_device(), pretrained=resumed is None)
    if resumed is not None:
        with resumed.as_directory() as folder:
            checkpoint.load(folder, loop)
    journal = Journal(**config["tracking"]) if rank == 0 else None
    monitor = system_metrics(config["tracking"]) if rank == 0 else None
    try:
        _train(loop, dataset, journal, config["selection"])
        return FINISHED
    except NonFiniteLossError as error:
        # A retry would meet the same loss, so the run ends here, as the worst there is, and says why.
        _log(journal, error.records)
        ray.train.report({"step": loop.step, "mean_iou": 0.0, "score": -math.inf})
        return str(error)
    finally:
        if monitor is not None:
            monitor.finish()
        if journal is not None:
            journal.close()


def _train(loop: Loop, dataset: PackedDataset, journal: Journal | None, selection: Selection) -> None:
    stream = ingest.training_stream(dataset, loop.experiment, start_step=loop.step, rank=loop.rank, world=loop.world)
    train_on(loop, stream, journal, lambda: _validate_and_report(loop, dataset, journal, selection))


def train_on(loop: Loop, stream: Iterable[Batch], journal: Journal | None, validate: Callable[[], None]) -> None:
    """A step for each batch; the losses are read from the device and logged now and then, and `validate` is called."""
    experiment = loop.experiment
    started, images = time.perf_counter(), 0
    for batch in stream:
        loop.train_step(batch)
        images += experiment.batch_size
        validation = loop.step % experiment.validate_every == 0 or loop.step == experiment.steps
        if not validation and loop.step % LOG_EVERY:
            continue
        _log(journal, loop.flush())
        if journal is not None:
            journal.metrics(loop.step, {"images_per_second": images / (time.perf_counter() - started)})
        if validation:
            validate()
        started, images = time.perf_counter(), 0


def _log(journal: Journal | None, records: Iterable[Record]) -> None:
    for record in records:
        if journal is not None:
            journal.metrics(record.step, record.values)


def _validate_and_report(loop: Loop, dataset: PackedDataset, journal: Journal | None, selection: Selection) -> None:
    labelled = loop.task.num_classes > 0
    found = _validated(loop, dataset) if labelled or loop.method.emits == "clusters" else None
    scores = {} if found is None or not labelled else validation_metrics(found, loop.task.class_names, "val")
    match_K = None
    if found is not None and found.objective is not None:
        scores["val/objective"] = found.objective
    if labelled and found is not None and found.clusters is not None:
        match_K = match_clusters(found.clusters.counts)
        if loop.step == loop.experiment.steps:
            # At the end alone, for it takes a pass over the training images.
            match_K = _match_on_train(loop, dataset)
            by_train = Evaluation(found.clusters.matched(match_K), [], {})
            scores |= validation_metrics(by_train, loop.task.class_names, f"val/{TRAIN_MATCH}")
    # Of checkpoints that are equally good the latest is kept: without labels, that is the last.
    mean_iou = found.matrix.mean_iou() if labelled and found is not None else 0.0
    objective = None if found is None or selection == "labels" else found.objective
    metrics = {"step": loop.step, "mean_iou": mean_iou, "score": mean_iou if objective is None else objective}
    reported = metrics | {PLACEMENT_GROUP: _placement_group()}
    with tempfile.TemporaryDirectory() as folder:
        if journal is None:
            ray.train.report(reported)
            return
        if found is not None:
            journal.metrics(loop.step, scores)
        if labelled and found is not None:
            log_evaluation(journal, dataset, loop.experiment, found, Path(folder), step=loop.step)
            watch_collapse(journal, found, loop.step)
        mean_C, std_C = standardisation(loop.experiment.augmentation, dataset.info)
        data = {
            "mean": [float(value) for value in mean_C],
            "std": [float(value) for value in std_C],
            "colours": [list(colour) for colour in dataset.info.colours],
            "fingerprint": dataset.fingerprint,
        } | ({} if match_K is None else {"match": match_K.tolist()})
        saved = checkpoint.save(Path(folder) / "checkpoint", loop, metrics, data)
        ray.train.report(reported, checkpoint=ray.train.Checkpoint.from_directory(saved))


def _validated(loop: Loop, dataset: PackedDataset) -> Evaluation:
    split, method = loop.experiment.validation_split(dataset.splits), loop.method
    if method.supervision == "few":
        method.fit_support(batch.to(loop.device) for batch in ingest.examples(dataset, split, loop.experiment))
    elif method.supervision == "none" and type(method).fit_support is not Method.fit_support:
        images = _stream(loop, dataset, "train")
        method.fit_support(batch.to(loop.device).without_labels(loop.task.ignore_index) for batch in images)
    return loop.evaluate(_stream(loop, dataset, split), keep=PANEL_ROWS if loop.rank == 0 else 0)


def _match_on_train(loop: Loop, dataset: PackedDataset) -> torch.Tensor:
    """The class of each cluster by the training images' labels."""
    found = loop.evaluate(_stream(loop, dataset, "train"), objective=False)
    assert found.clusters is not None
    return match_clusters(found.clusters.counts)


def _stream(loop: Loop, dataset: PackedDataset, split: str) -> Iterator[Batch]:
    return ingest.evaluation_stream(dataset, split, loop.experiment, rank=loop.rank, world=loop.world)


def _placement_group() -> str:
    """The group that holds this worker, in hexadecimal: whoever stops the trial frees it by this name."""
    group = ray.util.get_current_placement_group()
    return group.id.hex() if group is not None else ""


def system_metrics(settings: Mapping[str, str], every: float = 5) -> SystemMetricsMonitor | None:
    """MLflow's monitor of processor, memory and GPU, sampling every so many seconds; None where it does not start."""
    try:
        monitor = SystemMetricsMonitor(
            settings["run_id"], tracking_uri=settings["tracking_uri"], resume_logging=True, sampling_interval=every
        )
        monitor.start()
        return monitor
    except Exception as error:  # a monitor is no reason to stop a training
        print(f"system metrics are not logged: {error}", flush=True)
        return None
