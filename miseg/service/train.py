"""One experiment under Ray Train, from packed data to a finished MLflow run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from miseg.data.packed import PackedDataset
from miseg.recipes.experiment import Experiment, to_dict
from miseg.service import models, tracking
from miseg.service.checkpoint_store import CheckpointStore
from miseg.service.cluster import Resources
from miseg.service.journal import journal_folder, send_pending

FINISHED = "finished"

Selection = Literal["labels", "objective"]
"""What tells a better checkpoint or trial: mean IoU, or the objective of a method without labels on held-out images."""

PLACEMENT_GROUP = "placement_group"


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
    keep_all: bool = False
    """Whether the checkpoint of every validation stays in `folder`, and not only the best and the last."""
    selection: Selection = "objective"
    """For methods that learn without labels; others are selected by mean IoU."""

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
    score: float = math.nan
    """What selects, after the last step: see `Selection`."""
    reused: bool = False
    """Whether the run had ended before and nothing was trained now."""


def fit(run: Run, callbacks: Iterable[Any] = (), max_failures: int = 3) -> Outcome:
    """Train `run` to its end, resuming where an earlier call of this name was stopped; a finished run stays as it is.

    Raises:
        tracking.TrackingError: MLflow does not answer at the start.
        ray.train.TrainingFailedError: workers failed more than `max_failures` times.
    """

    def under_ray(config: dict[str, Any]) -> str:
        trainer = _trainer(run.resources.workers)(
            enter,
            train_loop_config=config,
            scaling_config=ScalingConfig(
                num_workers=run.resources.workers,
                use_gpu=run.resources.use_gpu,
                resources_per_worker=run.resources.per_worker,
            ),
            run_config=RunConfig(
                name=run.name,
                storage_path=f"{run.storage}/runs",
                failure_config=FailureConfig(max_failures=max_failures),
                callbacks=list(callbacks),
            ),
        )
        return str(getattr(trainer.fit(), "return_value", FINISHED))

    def enter(config: dict[str, Any]) -> str:
        # Imported by the worker alone. The controller, a process of its own for each run, unpickles this function, by
        # value, and starts in two thirds of the time without torch's and MLflow's users.
        from miseg.service import worker

        return worker.train_under_ray(config)

    return _fit(run, under_ray)


def fit_here(run: Run, report: Callable[[dict[str, Any]], None]) -> Outcome:
    """As `fit`, by this process alone, which needs what one worker does; each validation is handed to `report`.

    What `report` raises ends the training, and leaves the run open.

    Raises:
        tracking.TrackingError: MLflow does not answer at the start.
        Exception: whatever the training raised; the run is FAILED then.
    """

    def here(config: dict[str, Any]) -> str:
        import torch

        from miseg.service import worker

        return worker.train(config, report, torch.device("cuda" if run.resources.use_gpu else "cpu"))

    return _fit(run, here)


def _fit(run: Run, train: Callable[[dict[str, Any]], str]) -> Outcome:
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
    config = {
        "experiment": to_dict(run.experiment),
        "data": run.data,
        "folder": run.folder,
        "keep_all": run.keep_all,
        "threads": run.resources.threads,
        "decoded_bytes": run.resources.decoded_bytes,
        "selection": run.selection,
        "tracking": {"folder": journal_folder(run.storage), "tracking_uri": run.tracking_uri, "run_id": run_id},
    }
    try:
        ended = train(config)
    except Exception as error:
        finish(run, run_id, "FAILED", _first_line(error))
        raise
    return finish(run, run_id, "FINISHED" if ended == FINISHED else "FAILED", ended)


def _trainer(workers: int) -> Callable[..., Any]:
    """A trainer that joins workers in a process group; for a worker alone one without.

    The former takes torch into the driver and the controller of every run: 4 of their 9 and 7 s to start, one after the
    other (two cores).
    """
    if workers == 1:
        return DataParallelTrainer
    from ray.train.torch import TorchTrainer

    return TorchTrainer


def finished(run: Run) -> Outcome | None:
    """What came of `run` where it was trained to its end before; None where it was not.

    Raises:
        ValueError: its name is that of another run.
    """
    found = tracking.find_run(run.tracking_uri, tracking.experiment_name(run.experiment.data), run.name)
    if found is None:
        return None
    kind, trained = (found.data.tags.get(f"miseg.{tag}") for tag in ("kind", "experiment_id"))
    if trained != run.experiment.id or kind not in (None, "trial"):
        raise ValueError(
            f"{run.name} is the name of run {found.info.run_id} ({kind or 'training'} of experiment {trained}, "
            f"this is {run.experiment.id}): choose another name"
        )
    if found.info.status != "FINISHED" or found.data.tags.get("miseg.ended") != FINISHED:
        return None
    history = tracking.history(run.tracking_uri, found.info.run_id, "val/mean_iou")
    if not history and not PackedDataset.open(run.data).info.classes:
        return Outcome(found.info.run_id, run.experiment.steps, math.nan, math.nan, FINISHED, reused=True)
    step = max(history, default=0)
    if step != run.experiment.steps:
        return None
    scores = history
    if run.selection == "objective":
        scores = tracking.history(run.tracking_uri, found.info.run_id, "val/objective") or history
    best = max(scores, key=scores.__getitem__)
    return Outcome(found.info.run_id, step, history[step], history[best], FINISHED, scores[step], reused=True)


def finish(run: Run, run_id: str, status: str, ended: str) -> Outcome:
    """Close a run: send what is waiting, keep its best and last checkpoint as models, say why it ended."""
    waiting = Path(journal_folder(run.storage)) / f"{run_id}.jsonl"
    if waiting.exists():
        send_pending(waiting, run.tracking_uri, run_id)
    store = CheckpointStore(run.folder)
    kept = {role: found for role, found in (("best", store.best()), ("last", store.last())) if found is not None}
    for role, found in kept.items():
        with found.as_directory() as path:
            models.log_model(run.tracking_uri, run_id, role, path)
    last, best = (kept[role].metrics if role in kept else {} for role in ("last", "best"))
    tracking.end_run(run.tracking_uri, run_id, status, ended)
    step = int(last.get("step", 0))
    whole = step == run.experiment.steps and status == "FINISHED"
    mean_iou, score = (last.get(name, math.nan) if whole else math.nan for name in ("mean_iou", "score"))
    return Outcome(run_id, step, mean_iou, best.get("mean_iou", math.nan), ended, score)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Say(UserCallback):
    """Prints a line for each validation: what a person sees while a run trains."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Ray Train calls this with each rank's report."""
        found = metrics[0]
        objective = "" if found["score"] == found["mean_iou"] else f"  objective {found['score']:.4f}"
        print(f"step {found['step']:>6}/{self.steps}  mean_iou {found['mean_iou']:.4f}{objective}", flush=True)
