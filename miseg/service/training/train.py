"""One experiment under Ray Train, from packed data to a finished MLflow run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
from mlflow import entities
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig

from miseg.data.packed.dataset import PackedDataset
from miseg.metric_names import VALIDATION_MEAN_IOU, VALIDATION_OBJECTIVE
from miseg.optimisation.schedules import peak_learning_rate
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.fencing import FencedError, Generation, Writer
from miseg.service.cluster import metrics, ray_cluster
from miseg.service.cluster.control_store import ray_watched
from miseg.service.cluster.preemption import Notice, PreemptedError
from miseg.service.cluster.trainers import trainer_of
from miseg.service.journal import generations
from miseg.service.journal.journal import CLOSING_TIMEOUT, Journal, journal_folder
from miseg.service.journal.sender import send_pending
from miseg.service.remarks import remark
from miseg.service.terminal.going_on import how_to_go_on
from miseg.service.terminal.interrupted import InterruptedJobError
from miseg.service.terminal.stopping import keeping_steps, steps_text
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.connection import first_line
from miseg.service.tracking.pages import datasets
from miseg.service.tracking.run_store import RunDetails
from miseg.service.training.run import FINISHED, TrainingOutcome, TrainingRun, check_goes_on, unread


def fit(
    run: TrainingRun,
    callbacks: Iterable[Any] = (),
    max_failures: int = 3,
    opened: Callable[[str], None] = lambda run_id: None,
) -> TrainingOutcome:
    """Train `run` to its end, resuming where an earlier call of this name was stopped; a finished run stays as it is.

    Args:
        run: what to train.
        callbacks: of Ray Train.
        max_failures: of workers that are replaced; -1 for no limit.
        opened: is called with the id of MLflow's run, before the workers start.

    Raises:
        TrackingError: MLflow stays away at the start; see `connection.patiently`.
        ray.train.TrainingFailedError: workers failed more than `max_failures` times.
        ray.exceptions.RayActorError: so did the controller's process.
    """

    def under_ray(config: dict[str, Any]) -> str:
        # Train mends its workers; its controller, which they die with, nobody else would start again.
        left = max_failures
        while True:
            try:
                with ray_watched(partial(_interrupt, run, config), how_to_go_on):
                    return once(config)
            except RayActorError as error:
                if left == 0:
                    raise
                left -= 1
                metrics.add("miseg_faults", run.labels | {"kind": "controller"})
                remark(f"the controller of {run.name} died: {ray_cluster.cause_of_death(error)}")
                ray_cluster.free_abandoned()
                config["generation"] = list(_driver(run, config).again().generation)
                remark(f"the controller of {run.name} is started again")

    def once(config: dict[str, Any]) -> str:
        trainer = trainer_of(run.resources.workers)(
            enter,
            train_loop_config=config,
            scaling_config=ScalingConfig(
                num_workers=run.resources.workers,
                use_gpu=run.resources.use_gpu,
                resources_per_worker=run.resources.per_worker,
                placement_strategy="SPREAD" if run.spread else "PACK",
            ),
            run_config=RunConfig(
                name=run.train_name,
                **run.train_storage,
                failure_config=FailureConfig(max_failures=max_failures),
                callbacks=list(callbacks),
            ),
        )
        try:
            return str(getattr(trainer.fit(), "return_value", FINISHED))
        except KeyboardInterrupt:
            trainer.abort()
            raise

    def enter(config: dict[str, Any]) -> str:
        # Imported by the worker alone. The controller, a process of its own for each run, unpickles this function, by
        # value, and starts in two thirds of the time without torch's and MLflow's users.
        from miseg.service.training import worker

        return worker.train_under_ray(config)

    return _fit(run, under_ray, opened)


def fit_here(run: TrainingRun, report: Callable[[dict[str, Any]], None]) -> TrainingOutcome:
    """Train in this process alone, which needs what one worker does; each validation is handed to `report`.

    Its checkpoint is whole then, or could not be written. What `report` raises ends the training, and leaves the run
    open.

    Raises:
        TrackingError: MLflow stays away at the start; see `connection.patiently`.
        PreemptedError: this process or its node goes away; the run stays open, to go on elsewhere.
        Exception: whatever the training raised; the run is FAILED then.
    """

    def here(config: dict[str, Any]) -> str:
        # In the worker alone: drivers and controllers start without torch.
        import torch

        from miseg.service.training import worker

        device = torch.device("cuda" if run.resources.use_gpu else "cpu")
        # Tune ends the process of the last trial that it stops within seconds.
        return worker.train(config, report, device, checkpoint_first=True)

    # Until the run is closed: a notice that comes once all is trained changes nothing any more.
    with Notice():
        return _fit(run, here)


def _fit(
    run: TrainingRun, train: Callable[[dict[str, Any]], str], opened: Callable[[str], None] = lambda run_id: None
) -> TrainingOutcome:
    dataset = PackedDataset.open(run.data)
    opening = f"opening run {run.name}"
    if (done := mlflow_runs.patiently(run.tracking_uri, opening, partial(finished, run))) is not None:
        return done
    tags = {"miseg.ray_job_id": ray.get_runtime_context().get_job_id()} | dict(run.tags or {})
    details = RunDetails(run.display, run.parent, tags, datasets=datasets.of_training(dataset, run.experiment))
    open_run = partial(
        mlflow_runs.open_experiment_run, run.store, run.experiment, run.name, dataset.fingerprint, details
    )
    run_id = mlflow_runs.patiently(run.tracking_uri, opening, open_run)
    opened(run_id)
    config = run.config | {
        "generation": list(_drive(run, run_id).generation),
        "tracking": {"folder": journal_folder(run.storage), "tracking_uri": run.tracking_uri, "run_id": run_id}
        | {"storage": run.storage, "labels": run.labels},
    }
    try:
        with keeping_steps():
            ended = train(config)
    except (PreemptedError, FencedError):
        raise  # it goes on elsewhere, as this run
    except KeyboardInterrupt as error:
        _interrupt(run, config)
        raise InterruptedJobError(steps_text(error), ("--name", run.name)) from None
    except Exception as error:
        finish(run, run_id, "FAILED", first_line(error), _driver(run, config))
        raise
    return finish(run, run_id, "FINISHED" if ended == FINISHED else "FAILED", ended, _driver(run, config))


def _interrupt(run: TrainingRun, config: Mapping[str, Any], reason: str = "interrupted") -> None:
    mlflow_runs.interrupt_run(run.tracking_uri, config["tracking"]["run_id"], f"--name {run.name} continues", reason)


def _drive(run: TrainingRun, run_id: str) -> Writer:
    path = Path(journal_folder(run.storage), f"{run_id}.jsonl")
    try:
        return generations.drive(run.folder, path, run.tracking_uri, run_id)
    except OSError as error:
        mlflow_runs.fail_run(run.tracking_uri, run_id, error)
        raise


def finished(run: TrainingRun) -> TrainingOutcome | None:
    """Outcome of `run` where it was trained to its end before; None where it was not.

    Raises:
        ValueError: its name is that of another run, or its folder holds another one's checkpoints.
    """
    mlflow_run, fingerprint = recorded(run), PackedDataset.open(run.data).fingerprint
    if mlflow_run is None:
        check_goes_on(run, None, fingerprint)
        return None
    kind, trained = (mlflow_run.data.tags.get(f"miseg.{tag}") for tag in ("kind", "experiment_id"))
    if trained != run.experiment.id or kind not in (None, "trial"):
        difference = queries.difference(run.tracking_uri, mlflow_run.info.run_id, run.experiment)
        raise ValueError(
            f"{run.name} is the name of run {mlflow_run.info.run_id} ({kind or 'training'} of experiment {trained}, "
            f"this is {run.experiment.id}){difference}: choose another name"
        )
    if mlflow_run.data.tags.get("miseg.data_fingerprint", fingerprint) != fingerprint:
        raise ValueError(
            f"{run.name} is the name of run {mlflow_run.info.run_id}, which is of other packed images: {run.data} was "
            f"{mlflow_run.data.tags['miseg.data_fingerprint']} then and is {fingerprint} now; choose another name"
        )
    if mlflow_run.info.status != "FINISHED" or mlflow_run.data.tags.get("miseg.ended") != FINISHED:
        check_goes_on(run, mlflow_run, fingerprint)
        return None
    history = queries.history(run.tracking_uri, mlflow_run.info.run_id, VALIDATION_MEAN_IOU)
    if not history and not PackedDataset.open(run.data).info.classes:
        return TrainingOutcome(mlflow_run.info.run_id, run.experiment.steps, math.nan, math.nan, FINISHED, reused=True)
    step = max(history, default=0)
    if step != run.experiment.steps:
        return None
    scores = history
    if run.selection == "objective":
        scores = queries.history(run.tracking_uri, mlflow_run.info.run_id, VALIDATION_OBJECTIVE) or history
    best = max(scores, key=scores.__getitem__)
    return TrainingOutcome(
        mlflow_run.info.run_id, step, history[step], history[best], FINISHED, scores[step], reused=True
    )


def recorded(run: TrainingRun) -> entities.Run | None:
    """The MLflow run of `run`, once it has all that earlier calls left waiting here; None where there is none."""
    find = partial(queries.find_run, run.tracking_uri, mlflow_runs.experiment_name(run.experiment.data), run.name)
    if (mlflow_run := find()) is None:
        return None
    waiting = Path(journal_folder(run.storage)) / f"{mlflow_run.info.run_id}.jsonl"
    return find() if send_pending(waiting, run.tracking_uri, mlflow_run.info.run_id) else mlflow_run


def _driver(run: TrainingRun, config: Mapping[str, Any]) -> Writer:
    """The driver whose workers are given `config`."""
    return Writer(run.folder, Generation(*config["generation"]))


def finish(run: TrainingRun, run_id: str, status: str, ended: str, writer: Writer | None = None) -> TrainingOutcome:
    """Close a run: send what is waiting, keep its best and last checkpoint as models, say why it ended.

    What MLflow does not take now waits in the run's journal: the training is done whatever becomes of the server.

    Args:
        run: the training.
        run_id: its MLflow run.
        status: FINISHED, FAILED or KILLED.
        ended: why.
        writer: the driver of the training; None to close what another drove, which may write no more then.

    Raises:
        FencedError: another process has taken up the run, and closes it.
    """
    writer = writer or _drive(run, run_id)
    by_role = {}
    try:
        writer.check()
        store = CheckpointStore(run.folder)
        by_role = {role: saved for role, saved in (("best", store.best()), ("last", store.last())) if saved is not None}
    except OSError as error:
        # Nothing is lost: whoever takes its name up finds the checkpoints, and closes it with them.
        if status == "FINISHED":
            status, ended = "FAILED", f"trained to its end, but {unread(error)}"
    journal = Journal(journal_folder(run.storage), run.tracking_uri, run_id, run.storage, run.labels, writer)
    if "last" in by_role:
        # How far it got, as a column that runs are sorted by.
        step = by_role["last"].step
        peak = peak_learning_rate(run.experiment.steps, run.experiment.optimiser, step)
        journal.metrics(step, {"step": step, "peak_learning_rate": peak})
    for role, saved in by_role.items():
        journal.model(role, run.folder, saved.step)
    journal.end(status, ended)
    if not journal.close(CLOSING_TIMEOUT):
        remark(
            f"{journal.problem}: run {run_id} is closed by the next job that finds it back, "
            f"or by `miseg sync`; until then {journal.path} keeps what is missing"
        )
    last, best = (by_role[role].metrics if role in by_role else {} for role in ("last", "best"))
    step = int(last.get("step", 0))
    whole = step == run.experiment.steps and status == "FINISHED"
    mean_iou, score = (last.get(name, math.nan) if whole else math.nan for name in ("mean_iou", "score"))
    return TrainingOutcome(run_id, step, mean_iou, best.get("mean_iou", math.nan), ended, score)
