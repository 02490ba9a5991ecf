"""Few-label evaluation: labelled pixels of one date segment that date and the others."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import torch

from miseg.data.loading.pairs import open_chip
from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import ConfusionMatrix
from miseg.interface import Batch
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.evaluation.closing import closing
from miseg.service.evaluation.evaluate import TrainedModel, check
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails, Workspace
from miseg.service.training import streams as ingest

SAME, OTHER = "labelled date", "other dates"


@dataclass(frozen=True)
class Draws:
    """Draws of labelled pixels that an evaluation repeats.

    Attributes:
        points: numbers of labelled pixels of each class.
        draws: how often they are drawn, with seeds 0, 1, …
        dates: those of the labels, for as many draws each as there are; none: all that are clear, at equal distances
            where they are more than the draws.
        comparisons: those that are measured; none: all that the method has.
    """

    points: tuple[int, ...] = (1, 5, 10, 50)
    draws: int = 10
    dates: tuple[str, ...] = ()
    comparisons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.points or min(self.points) < 1 or self.draws < 1:
            raise ValueError(f"points = {self.points}, draws = {self.draws}: use 1 or more of each")

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that tell one setting from another."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def date(self, draw: int, clear: Sequence[str | None]) -> str | None:
        """The date whose truth a draw's points are from."""
        dates = self.dates or clear
        return dates[draw * len(dates) // self.draws]


def measure(
    model: TrainedModel, data: str, split: str, settings: Draws, workspace: Workspace
) -> tuple[str, pd.DataFrame]:
    """Map every clear chip of a split from few labels, by every comparison the method has; the run's id and the table.

    Chips count that are as clear as those that the method was trained on (`Pairs.min_valid`).

    Args:
        model: of a few-label method.
        data: the packed data set.
        split: which of its splits; its truth gives the labelled pixels and the score.
        settings: how many labels, how often.
        workspace: where the run is kept, and whether a GPU is to be had.

    Returns:
        The MLflow run's id and a row for each number of points, comparison and kind of date (`SAME`, `OTHER`), with
        pixel accuracy and mean IoU as mean, lowest and highest over draws.

    Raises:
        ValueError: a method that takes no labelled pixels or has no such comparison, no clear chip, no label at such a
            date, or as `miseg.service.evaluation.evaluate.check`.
        CheckpointError: a damaged checkpoint.
    """
    dataset, tracking_uri, resources = PackedDataset.open(data), workspace.tracking_uri, workspace.resources
    manifest = check(model.folder, dataset, split)
    experiment = checkpoint_files.read_experiment(model.folder)
    if not experiment.takes_labelled_pixels:
        raise ValueError(f"{type(experiment.method).__name__} learns from dense labels: leave --points out")
    name = f"few-{experiment.id}-{manifest['step']}-{split}-{dataset.fingerprint}-{settings.digest}-{model.run_id}"
    details = RunDetails(
        f"few labels {split} {experiment.id} step {manifest['step']}",
        model.run_id,
        {"miseg.data": data, "miseg.data_fingerprint": dataset.fingerprint},
        {"split": split, "points": str(settings.points)},
    )
    run_id = mlflow_runs.open_model_run(workspace, experiment, name, "evaluation", details)
    files = checkpoint_files.files_of(model.folder)
    worker = ray.remote(_measure).options(num_cpus=resources.per_worker["CPU"], num_gpus=int(resources.use_gpu))
    with closing(tracking_uri, run_id):
        scores = ray.get(worker.remote(files, data, split, settings, resources.threads))
        mlflow_runs.log_table(tracking_uri, run_id, "few-labels-draws.csv", scores)
        table = summary(scores)
        mlflow_runs.log_table(tracking_uri, run_id, "few-labels.csv", table)
    return run_id, table


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and range over draws of each number of points, comparison and kind of date."""
    grouped = scores.groupby(["points", "comparison", "dates"], sort=False)[["pixel_accuracy", "mean_iou"]]
    table = grouped.agg(["mean", "min", "max"])
    table.columns = pd.Index([f"{score} {statistic}" for score, statistic in table.columns])
    return table.reset_index()


def _measure(files: dict[str, bytes], data: str, split: str, settings: Draws, threads: int) -> pd.DataFrame:
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = PackedDataset.open(data)
    with tempfile.TemporaryDirectory() as folder:
        method, experiment, task = checkpoint.open_method(checkpoint_files.unpack(files, Path(folder)), device)
    assert isinstance(method, NearestLabelMethod)
    chips = list(_clear(dataset, split, experiment.pairs.min_valid, device))
    if not chips:
        raise ValueError(
            f"{data}: no chip of {split} is labelled and has {experiment.pairs.min_valid:.0%} of its pixels clear"
        )
    if unknown := set(settings.comparisons) - set(method.comparisons()):
        raise ValueError(f"compare = {', '.join(sorted(unknown))}: this model has {', '.join(method.comparisons())}")
    clear = list(dict.fromkeys(when for when, _ in chips))
    rows: list[dict[str, Any]] = []
    for points in settings.points:
        for draw in range(settings.draws):
            date = settings.date(draw, clear)
            budget = ingest.examples(dataset, split, experiment, seed=draw, date=date, per_class=points)
            method.fit_support(batch.to(device) for batch in budget)
            for name in settings.comparisons or method.comparisons():
                matrices = {kind: ConfusionMatrix(task.num_classes, task.ignore_index) for kind in (SAME, OTHER)}
                for when, batch in chips:
                    assert batch.labels_NHW is not None
                    prediction = method.predict_by(name, batch.images_NCHW).argmax(1)
                    matrices[SAME if when == date else OTHER].update(prediction, batch.labels_NHW)
                rows += [
                    {
                        "points": points,
                        "draw": draw,
                        "labelled": date or "",
                        "comparison": name,
                        "dates": kind,
                        "pixel_accuracy": matrix.pixel_accuracy(),
                        "mean_iou": matrix.mean_iou(),
                    }
                    for kind, matrix in matrices.items()
                    if matrix.counts.sum()
                ]
    return pd.DataFrame(rows)


def _clear(
    dataset: PackedDataset, split: str, min_valid: float, device: torch.device
) -> Iterator[tuple[str | None, Batch]]:
    """The date of every chip that is clear enough and has a label, with the chip."""
    for index, (_, _, date) in enumerate(dataset.index(split)):
        chip = open_chip(dataset, dataset.read(split, index))
        if chip.valid.mean() >= min_valid and (chip.labels != dataset.info.ignore_index).any():
            image = torch.from_numpy(chip.values).permute(2, 0, 1)[None]
            yield date, Batch(image, torch.from_numpy(chip.labels).long()[None], (chip.id,)).to(device)
