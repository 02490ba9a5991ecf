"""A tiny tuning, really trained by this process and recorded as a tuning is, but without Ray Tune."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from miseg.data.loading.batches import evaluation_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch
from miseg.methods.configs import BinaryCrossEntropy
from miseg.networks.configs import UNet
from miseg.recipes import spaces
from miseg.recipes.experiment import Experiment
from miseg.recipes.spaces import FixedTrial
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.journal.journal import journal_folder
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.description import CONFIRMED, PHASE
from miseg.service.tracking.pages import datasets
from miseg.service.tracking.run_store import RunDetails
from miseg.service.training import streams as ingest
from miseg.service.training import train, worker
from miseg.service.training.artifacts import validation_metrics
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import Recorder
from miseg.service.training.run import FINISHED, TrainingRun
from miseg.service.tuning import record, tables
from miseg.service.tuning.tuning import Tuning

STEPS, VALIDATE_EVERY = 16, 8
RATES = {"lambda": (0.5, 0.125, 0.875), "downsampling_factor": (4, 2, 3), "region_size": (3, 2, 1)}


@dataclass
class Written:
    """What is in the store."""

    tuning: Tuning
    parent: str
    trials: pd.DataFrame
    confirmation: pd.DataFrame
    registered: list[str]


def tuning_of(uri: str, dataset: PackedDataset, tiny: Experiment, folder: Path) -> Tuning:
    base = replace(tiny, steps=STEPS, validate_every=VALIDATE_EVERY)
    rivals = {"BCE": replace(base, method=BinaryCrossEntropy(UNet(2, "group"))), "RMI as published": base}
    point = spaces.region_mutual_information.point(base)
    return Tuning(
        "tune-rmi-small", base, spaces.region_mutual_information, point, rivals, "RMI tuned", dataset.uri, str(folder),
        uri, Resources(1, 0, 1, 1), trials=3, confirm_seeds=1,
    )  # fmt: skip


def write(uri: str, dataset: PackedDataset, tiny: Experiment, folder: Path) -> Written:
    """Three trials, the last of them stopped early, and a confirmation of RMI and of BCE."""
    tuning = tuning_of(uri, dataset, tiny, folder)
    base, rivals, point = tuning.base, tuning.rivals, tuning.default_point
    parent = record.open_run(tuning)
    rows = []
    for number in range(3):
        config = dict(point) | {name: values[number] for name, values in RATES.items()}
        experiment = tuning.space(FixedTrial(config), base)
        steps = STEPS if number < 2 else VALIDATE_EVERY
        row = _train(tuning, parent, tables.describe(config), experiment, {PHASE: "search"}, dataset, steps)
        rows.append(row | {f"params/{key}": value for key, value in config.items()})
    confirmed = []
    for name, experiment in rivals.items():
        tags = {"miseg.row": name, CONFIRMED: "yes", PHASE: "confirmation"}
        seeded = replace(experiment, seed=1)
        row = _train(tuning, parent, f"seed 1 {name}", seeded, tags, dataset, STEPS)
        confirmed.append(row | {"row": name, "seed": 1})
    trials, confirmation = pd.DataFrame(rows), pd.DataFrame(confirmed)
    registered = list(record.register(tuning, confirmation, rivals))
    record.record(tuning, parent, trials.drop(columns=tables.METRIC), confirmation, None, registered)
    return Written(tuning, parent, trials, confirmation, registered)


def _train(
    tuning: Tuning, parent: str, display: str, experiment: Experiment, tags: Mapping[str, str],
    dataset: PackedDataset, steps: int,
) -> dict[str, Any]:  # fmt: skip
    run = TrainingRun(
        f"{tuning.name}-{experiment.id}", experiment, dataset.uri, tuning.storage, tuning.tracking_uri,
        tuning.resources, selection="labels",
    )  # fmt: skip
    details = RunDetails(display, parent, {"miseg.kind": "trial", "miseg.tuning": tuning.name} | dict(tags),
                         datasets=datasets.of_training(dataset, experiment))  # fmt: skip
    run_id = mlflow_runs.open_experiment_run(run.store, experiment, run.name, dataset.fingerprint, details)
    loop = Loop(replace(experiment, steps=steps), ingest.task_of(dataset), torch.device("cpu"))
    settings = {"folder": journal_folder(run.storage), "tracking_uri": run.tracking_uri, "run_id": run_id}
    recorder = Recorder(dataset, CheckpointStore(run.folder), settings)

    def validate() -> None:
        found = loop.evaluate(_read(dataset, experiment, "val"), keep=2)
        score = found.matrix.mean_iou()
        metrics = {"step": loop.step, "mean_iou": score, "score": score}
        recorder.validation(loop, metrics, validation_metrics(found, loop.task.class_names, "val"), found)

    batches = itertools.islice(itertools.cycle(_read(dataset, experiment, "train")), steps)
    worker.train_on(loop, batches, recorder, validate)
    recorder.finish()
    recorder.close()
    ended = FINISHED if steps == experiment.steps else f"stopped early by ASHA at step {steps}"
    train.finish(run, run_id, "FINISHED", ended)
    score = queries.history(run.tracking_uri, run_id, "val/mean_iou")[steps]
    return {"run_id": run_id, "mean_iou": score, tables.METRIC: score, "step": steps, "ended": ended}


def _read(dataset: PackedDataset, experiment: Experiment, split: str) -> list[Batch]:
    columns = evaluation_batches(dataset, split, experiment.augmentation, batch_size=experiment.batch_size)
    return [ingest.Converter(dataset, experiment)(batch) for batch in columns]
