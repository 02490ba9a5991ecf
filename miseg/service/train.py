"""One experiment under Ray Train, from packed data to a finished MLflow run."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer, get_device

from miseg.data.augmentation import standardisation
from miseg.data.packed import PackedDataset
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.service import checkpoint, ingest, models, tracking
from miseg.service.cluster import Resources
from miseg.service.journal import Journal, journal_folder, send_pending
from miseg.service.loop import Loop, NonFiniteLossError, Record
from miseg.service.reporting import PANEL_ROWS, log_evaluation, validation_metrics

FINISHED = "finished"

PLACEMENT_GROUP = "placement_group"

LOG_EVERY = 10
"""Steps between two reads of the losses from the device."""


@dataclass(frozen=True)
class Run:
    """Where a training runs and where it is recorded."""

    name: str
    """Names the run in storage and in MLflow; the same name resumes."""
    experiment: Experiment
    data: str
    """The packed data set."""
    storage: str
    tracking_uri: str
    resources: Resources
    display: str = ""
    parent: str | None = None
    tags: Mapping[str, str] | None = None

    @property
    def folder(self) -> str:
        """The run's folder in storage."""
        return f"{self.storage}/runs/{self.name}"


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    run_id: str
    step: int
    mean_iou: float
    """Mean IoU on the validation split after the last step; nan where training did not get that far."""
    best_mean_iou: float
    ended: str
    reused: bool = False
    """Whether the run had ended before and nothing was trained now."""


def fit(run: Run, callbacks: Iterable[Any] = (), max_failures: int = 3) -> Outcome:
    """Train `run` to its end, resuming where an earlier call of this name was stopped; a finished run stays as it is.

    Raises:
        tracking.TrackingError: MLflow does not answer at the start.
        ray.train.TrainingFailedError: workers failed more than `max_failures` times.
    """
    dataset = PackedDataset.open(run.data)
    if (done := finished(run)) is not None:
        return done
    run_id = tracking.open_experiment_run(
        run.tracking_uri,
        run.experiment,
        run.name,
        display=run.display,
        storage=run.storage,
        fingerprint=dataset.fingerprint,
        parent=run.parent,
        tags={"miseg.ray_job_id": ray.get_runtime_context().get_job_id()} | dict(run.tags or {}),
    )
    trainer = TorchTrainer(
        train_worker,  # type: ignore[arg-type]
        train_loop_config={
            "experiment": to_dict(run.experiment),
            "data": run.data,
            "threads": run.resources.threads,
            "tracking": {"folder": journal_folder(run.storage), "tracking_uri": run.tracking_uri, "run_id": run_id},
        },
        scaling_config=ScalingConfig(
            num_workers=run.resources.workers,
            use_gpu=run.resources.use_gpu,
            resources_per_worker=run.resources.per_worker,
        ),
        run_config=RunConfig(
            name=run.name,
            storage_path=f"{run.storage}/runs",
            failure_config=FailureConfig(max_failures=max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="mean_iou"),
            callbacks=list(callbacks),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        finish(run, run_id, "FAILED", _first_line(error))
        raise
    ended = str(getattr(result, "return_value", FINISHED))
    return finish(run, run_id, "FINISHED" if ended == FINISHED else "FAILED", ended)


def finished(run: Run) -> Outcome | None:
    """What came of `run` where it was trained to its end before; None where it was not."""
    found = tracking.find_run(run.tracking_uri, tracking.experiment_name(run.experiment.data), run.name)
    if found is None or found.info.status != "FINISHED" or found.data.tags.get("miseg.ended") != FINISHED:
        return None
    history = tracking.history(run.tracking_uri, found.info.run_id, "val/mean_iou")
    step = max(history, default=0)
    if step != run.experiment.steps:
        return None
    return Outcome(found.info.run_id, step, history[step], max(history.values()), FINISHED, reused=True)


def finish(run: Run, run_id: str, status: str, ended: str) -> Outcome:
    """Close a run: send what is waiting, keep its best and last checkpoint as models, say why it ended."""
    waiting = Path(journal_folder(run.storage)) / f"{run_id}.jsonl"
    if waiting.exists():
        send_pending(waiting, run.tracking_uri, run_id)
    kept = checkpoints(run.folder)
    for role, (folder, _) in kept.items():
        with folder.as_directory() as path:
            models.log_model(run.tracking_uri, run_id, role, path)
    last = kept["last"][1] if "last" in kept else {}
    best = kept["best"][1] if "best" in kept else {}
    tracking.end_run(run.tracking_uri, run_id, status, ended)
    step = int(last.get("step", 0))
    whole = step == run.experiment.steps and status == "FINISHED"
    nan = float("nan")
    return Outcome(run_id, step, last["mean_iou"] if whole else nan, best.get("mean_iou", nan), ended)


def checkpoints(folder: str) -> dict[str, tuple[ray.train.Checkpoint, dict[str, Any]]]:
    """The checkpoints of a run's folder: `best` by validation mean IoU and `last`, each with what it reported."""
    try:
        result = ray.train.Result.from_path(folder)
    except (RuntimeError, OSError, ValueError):
        return {}
    found = result.best_checkpoints or []
    if not found:
        return {}
    best = max(found, key=lambda item: item[1].get("mean_iou", -1.0))
    last = max(found, key=lambda item: item[1].get("step", 0))
    return {"best": best, "last": last}


def train_worker(config: dict[str, Any]) -> str:
    """What every Train worker runs: its share of each step, and on rank 0 the logging. Returns why it ended."""
    torch.set_num_threads(config["threads"])
    for name in ("ray.data", "ray.train"):
        # A line for each validation is for people; what Ray does in between is in its own log files.
        logging.getLogger(name).setLevel(logging.WARNING)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    experiment: Experiment = from_dict(config["experiment"])
    dataset = PackedDataset.open(config["data"])
    loop = Loop(experiment, ingest.task_of(dataset), get_device())
    if (resumed := ray.train.get_checkpoint()) is not None:
        with resumed.as_directory() as folder:
            checkpoint.load(folder, loop)
    journal = Journal(**config["tracking"]) if rank == 0 else None
    monitor = _system_metrics(config["tracking"]) if rank == 0 else None
    try:
        _train(loop, dataset, journal, rank, world)
        return FINISHED
    except NonFiniteLossError as error:
        # A retry would meet the same loss, so the run ends here, as the worst there is, and says why.
        _log(journal, error.records)
        ray.train.report({"step": loop.step, "mean_iou": 0.0})
        return str(error)
    finally:
        if monitor is not None:
            monitor.finish()
        if journal is not None:
            journal.close()


def _train(loop: Loop, dataset: PackedDataset, journal: Journal | None, rank: int, world: int) -> None:
    experiment = loop.experiment
    stream = ingest.training_stream(dataset, experiment, start_step=loop.step, rank=rank, world=world)
    started, images = time.perf_counter(), 0
    for batch in stream:
        loop.train_step(batch)
        images += experiment.batch_size
        validate = loop.step % experiment.validate_every == 0 or loop.step == experiment.steps
        if not validate and loop.step % LOG_EVERY:
            continue
        _log(journal, loop.flush())
        if journal is not None:
            journal.metrics(loop.step, {"images_per_second": images / (time.perf_counter() - started)})
        if validate:
            _validate_and_report(loop, dataset, journal, rank, world)
        started, images = time.perf_counter(), 0


def _log(journal: Journal | None, records: Iterable[Record]) -> None:
    for record in records:
        if journal is not None:
            journal.metrics(record.step, record.values)


def _validate_and_report(loop: Loop, dataset: PackedDataset, journal: Journal | None, rank: int, world: int) -> None:
    batches = ingest.evaluation_stream(dataset, "val", loop.experiment, rank=rank, world=world)
    matrix, kept = loop.evaluate(batches, keep=PANEL_ROWS if rank == 0 else 0)
    metrics = {"step": loop.step, "mean_iou": matrix.mean_iou()}
    reported = metrics | {PLACEMENT_GROUP: _placement_group()}
    with tempfile.TemporaryDirectory() as folder:
        if journal is None:
            ray.train.report(reported)
            return
        journal.metrics(loop.step, validation_metrics(matrix, loop.task.class_names, "val"))
        log_evaluation(journal, dataset, loop.experiment, matrix, kept, Path(folder), step=loop.step)
        mean_C, std_C = standardisation(loop.experiment.augmentation, dataset.info)
        data = {
            "mean": [float(value) for value in mean_C],
            "std": [float(value) for value in std_C],
            "colours": [list(colour) for colour in dataset.info.colours],
            "fingerprint": dataset.fingerprint,
        }
        saved = checkpoint.save(Path(folder) / "checkpoint", loop, metrics, data)
        ray.train.report(reported, checkpoint=ray.train.Checkpoint.from_directory(saved))


def _placement_group() -> str:
    """The group that holds this worker, in hexadecimal: whoever stops the trial frees it by this name."""
    group = ray.util.get_current_placement_group()
    return group.id.hex() if group is not None else ""


def _system_metrics(settings: Mapping[str, str], every: float = 5) -> SystemMetricsMonitor | None:
    try:
        monitor = SystemMetricsMonitor(
            settings["run_id"], tracking_uri=settings["tracking_uri"], resume_logging=True, sampling_interval=every
        )
        monitor.start()
        return monitor
    except Exception as error:  # a monitor is no reason to stop a training
        print(f"system metrics are not logged: {error}", flush=True)
        return None


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Say(UserCallback):
    """Prints a line for each validation: what a person sees while a run trains."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Ray Train calls this with each rank's report."""
        print(f"step {metrics[0]['step']:>6}/{self.steps}  mean_iou {metrics[0]['mean_iou']:.4f}", flush=True)
