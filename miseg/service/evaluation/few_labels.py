"""Few-label evaluation: labelled pixels of one date segment that date and the others."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import ray
import torch

from miseg.data.loading.pairs import open_chip
from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import ConfusionMatrix
from miseg.interface import Batch
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.evaluation.closing import closing
from miseg.service.evaluation.evaluate import TrainedModel, check
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails, Workspace
from miseg.service.training import streams as ingest

SAME, OTHER, OWN = "labelled date", "other dates", "each image's own"


@dataclass(frozen=True)
class Draws:
    """Draws of labelled pixels that an evaluation repeats.

    Attributes:
        points: numbers of labelled pixels of each class.
        draws: how often they are drawn, with seeds 0, 1, …
        dates: those of the labels, for as many draws each as there are; none: all that are clear, at equal distances
            where they are more than the draws.
        comparisons: those that are measured; none: all that the method has.
        examples: where they are drawn: in the truth of one date, or in that of the very image that is mapped.
    """

    points: tuple[int, ...] = (1, 5, 10, 50)
    draws: int = 10
    dates: tuple[str, ...] = ()
    comparisons: tuple[str, ...] = ()
    examples: Literal["date", "image"] = field(default="date", repr=False)  # so that what was measured keeps its digest

    def __post_init__(self) -> None:
        if not self.points or min(self.points) < 1 or self.draws < 1:
            raise ValueError(f"points = {self.points}, draws = {self.draws}: use 1 or more of each")
        if self.examples == "image" and self.dates:
            raise ValueError(
                f"dates = {', '.join(self.dates)}: each image is mapped from labels of its own (examples = image); "
                "leave the dates out, or take --examples date"
            )

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that tell one setting from another."""
        text = repr(self) if self.examples == "date" else f"{self!r} of each image"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def date(self, draw: int, clear: Sequence[str | None]) -> str | None:
        """The date whose truth a draw's points are from."""
        dates = self.dates or clear
        return dates[draw * len(dates) // self.draws]


def check_takes_labels(experiment: Experiment) -> None:
    """Raise ValueError for a method that maps without labelled pixels."""
    if not experiment.takes_labelled_pixels:
        raise ValueError(f"{type(experiment.method).__name__} takes no labelled pixels: leave --points out")


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
        The MLflow run's id and a row for each number of points, comparison and kind of date (`SAME`, `OTHER`; `OWN`
        where each image is mapped from its own labels), with pixel accuracy and mean IoU as mean, lowest and highest
        over draws.

    Raises:
        ValueError: a method that takes no labelled pixels or has no such comparison, no clear chip, no label at such a
            date, or as `miseg.service.evaluation.evaluate.check`.
        CheckpointError: a damaged checkpoint.
    """
    dataset, tracking_uri, resources = PackedDataset.open(data), workspace.tracking_uri, workspace.resources
    manifest = check(model.folder, dataset, split)
    experiment = checkpoint_files.read_experiment(model.folder)
    check_takes_labels(experiment)
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
    rows: list[dict[str, Any]] = []
    draw_from = _DrawnLabels(dataset, split, experiment, settings, chips)
    for points in settings.points:
        for draw in range(settings.draws):
            matrices: dict[tuple[str, str, str], ConfusionMatrix] = {}
            for labels, date, kinds in draw_from(points, draw):
                method.fit_support(batch.to(device) for batch in labels)
                for name in settings.comparisons or method.comparisons():
                    for kind, batch in kinds:
                        assert batch.labels_NHW is not None
                        matrix = ConfusionMatrix(task.num_classes, task.ignore_index)
                        matrix = matrices.setdefault((date, name, kind), matrix)
                        matrix.update(method.predict_by(name, batch.images_NCHW).argmax(1), batch.labels_NHW)
            rows += [
                {
                    "points": points,
                    "draw": draw,
                    "labelled": date,
                    "comparison": name,
                    "dates": kind,
                    "pixel_accuracy": matrix.pixel_accuracy(),
                    "mean_iou": matrix.mean_iou(),
                }
                for (date, name, kind), matrix in matrices.items()
            ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _DrawnLabels:
    """Draws labelled pixels, and says which chips are mapped from them."""

    dataset: PackedDataset
    split: str
    experiment: Experiment
    settings: Draws
    chips: list[tuple[str | None, Batch]]

    def __call__(self, points: int, draw: int) -> Iterator[tuple[list[Batch], str, list[tuple[str, Batch]]]]:
        """Labels, the date that they are of, and the chips with their kind of date: `SAME`, `OTHER` or `OWN`."""
        if self.settings.examples == "image":
            for _, batch in self.chips:
                own = ingest.own_examples(batch, points, draw)
                assert own is not None, "every chip has a label"
                yield [own], "", [(OWN, batch)]
            return
        date = self.settings.date(draw, list(dict.fromkeys(when for when, _ in self.chips)))
        labels = ingest.examples(self.dataset, self.split, self.experiment, seed=draw, date=date, per_class=points)
        kinds = [(SAME if when == date else OTHER, batch) for when, batch in self.chips]
        yield labels, date or "", sorted(kinds, key=lambda kind: kind[0] != SAME)


def _clear(
    dataset: PackedDataset, split: str, min_valid: float, device: torch.device
) -> Iterator[tuple[str | None, Batch]]:
    """The date of every chip that is clear enough and has a label, with the chip."""
    for index, (_, _, date) in enumerate(dataset.index(split)):
        chip = open_chip(dataset, dataset.read(split, index))
        if chip.valid.mean() >= min_valid and (chip.labels != dataset.info.ignore_index).any():
            image = torch.from_numpy(chip.values).permute(2, 0, 1)[None]
            yield date, Batch(image, torch.from_numpy(chip.labels).long()[None], (chip.id,)).to(device)
