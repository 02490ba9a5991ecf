"""The pictures and tables of one evaluation, as artifacts of its run."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch

from miseg import one_class
from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import ClusterCounts, match_clusters
from miseg.evaluation.pictures import PanelRow, confusion_picture, panels
from miseg.metric_names import (
    CALIBRATION_ERROR,
    CLASS_IOU,
    CLUSTER_ENTROPY,
    CONFUSION,
    IMAGE_MEAN_IOU,
    LOSS,
    MEAN_IOU,
    MICRO_IOU,
    OBJECTIVE,
    PANELS,
    PIXEL_ACCURACY,
    UNUSED_CLUSTERS,
    WORST_CLASS_IOU,
    WORST_QUARTER_IOU,
    of_split,
)
from miseg.recipes.experiment import Experiment
from miseg.service.journal.journal import Journal
from miseg.service.terminal.messages import say
from miseg.service.tracking.pages import images, tables
from miseg.service.training.scoring import Evaluation
from miseg.service.training.streams import Converter

PANEL_ROWS = 4
"""Validation images shown in a run's pictures."""


def validation_metrics(evaluation: Evaluation, class_names: Iterable[str], split: str) -> dict[str, float]:
    """An evaluation's scores under their MLflow names; a further predictor's are `<split>/<its name>/…`."""
    names = tuple(class_names)
    scores: dict[str, float] = {}
    for prefix, matrix in {
        split: evaluation.matrix,
        **{f"{split}/{name}": m for name, m in evaluation.others.items()},
    }.items():
        scores |= {
            of_split(prefix, MEAN_IOU): matrix.mean_iou(),
            of_split(prefix, MICRO_IOU): matrix.micro_iou(),
            of_split(prefix, PIXEL_ACCURACY): matrix.pixel_accuracy(),
            of_split(prefix, WORST_CLASS_IOU): matrix.worst_class_iou(),
            of_split(prefix, WORST_QUARTER_IOU): matrix.worst_quarter_iou(),
        }
        per_class = zip(names, matrix.iou_per_class(), strict=True)
        scores |= {of_split(prefix, f"{CLASS_IOU}/{name}"): float(value) for name, value in per_class if value == value}
    if evaluation.image_iou is not None:
        scores[of_split(split, IMAGE_MEAN_IOU)] = evaluation.image_iou.mean()
    if evaluation.calibration is not None:
        scores[of_split(split, CALIBRATION_ERROR)] = evaluation.calibration.error()
    if evaluation.clusters is not None:
        scores |= {
            of_split(split, CLUSTER_ENTROPY): evaluation.clusters.entropy(),
            of_split(split, UNUSED_CLUSTERS): float(len(evaluation.clusters.unused())),
        }
    further = {OBJECTIVE: evaluation.objective, LOSS: evaluation.loss}
    return scores | {of_split(split, name): value for name, value in further.items() if value is not None}


def watch_predictions(journal: Journal, evaluation: Evaluation, class_names: Sequence[str], step: int) -> str:
    """Tag the run where all pixels are predicted as one class, or nearly all are in one cluster; the only class or "".

    A collapse of clusters is a warning too, and how they were matched is a tag.
    """
    matrix = evaluation.matrix
    if evaluation.clusters is not None:
        matrix = evaluation.clusters.matched(match_clusters(evaluation.clusters.counts))
        _watch_collapse(journal, evaluation.clusters, step)
    tags = one_class.tag_of(matrix.only_prediction(), class_names, step)
    journal.tags(tags)
    return one_class.class_of(tags)


def _watch_collapse(journal: Journal, clusters: ClusterCounts, step: int) -> None:
    collapse = clusters.collapsed()
    if collapse is not None:
        say(f"warning: the clusters have collapsed at step {step}: {collapse}")
    manner = "many to one" if clusters.num_clusters > clusters.num_classes else "one to one"
    journal.tags(
        {
            "miseg.collapsed": "no" if collapse is None else f"step {step}: {collapse}",
            "miseg.match": f"{manner}, {clusters.num_clusters} clusters with {clusters.num_classes} classes",
        }
    )


def log_evaluation(
    journal: Journal,
    dataset: PackedDataset,
    experiment: Experiment,
    evaluation: Evaluation,
    *,
    step: int,
    split: str = "val",
) -> list[PanelRow]:
    """Keep the panels and the confusion matrix by step, and the last table of classes; the panels' rows."""
    info = dataset.info
    mean_C, std_C = Converter(dataset, experiment).constants
    rows = []
    for batch, prediction_NHW in evaluation.samples:
        if batch.labels_NHW is None:
            continue
        if experiment.learns_from_pairs or info.dtype != "uint8":
            # Scenes are standardised each by itself; of 16 bits or float nobody knows what is white.
            shown_NCHW = _stretched(batch.images_NCHW.cpu())
        else:
            shown_NCHW = batch.images_NCHW.cpu() * std_C + mean_C
        images_NHWC = (shown_NCHW * 255).round().clamp(0, 255).to(torch.uint8)
        for image_CHW, truth_HW, prediction_HW in zip(images_NHWC, batch.labels_NHW.cpu(), prediction_NHW, strict=True):
            shown = image_CHW[:3] if image_CHW.shape[0] >= 3 else image_CHW[:1]
            # Bytes, as they were packed: a worker ships the rows of an evaluation to the job.
            labels = (labels_HW.to(torch.uint8).numpy() for labels_HW in (truth_HW, prediction_HW))
            rows.append(PanelRow(shown.permute(1, 2, 0).numpy(), *labels))
    rows = rows[:PANEL_ROWS]
    pictures = {CONFUSION: confusion_picture(evaluation.matrix, info.classes)}
    if rows:
        pictures[PANELS] = panels(rows, info.colours, info.classes)
    # Of one name for all steps and runs: MLflow compares runs by tables of one name, and has each class by step.
    iou = [round(float(value), 6) for value in evaluation.matrix.iou_per_class()]
    table = pd.DataFrame({"class": list(info.classes), "iou": iou, "step": step})
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in pictures.items():
            for path in images.write(Path(folder), picture, of_split(split, name), step):
                journal.artifact(path, images.FOLDER)
        journal.artifact(tables.write(Path(folder), f"iou-{split}", table), "tables")
    journal.tags(images.TAG | tables.tag([f"tables/iou-{split}.json"]))
    return rows


def _stretched(images_NCHW: torch.Tensor) -> torch.Tensor:
    """Scenes for the eye: each band from its 2nd to its 98th percentile, as 0..1."""
    low, high = (images_NCHW.flatten(2).quantile(q, dim=2)[..., None, None] for q in (0.02, 0.98))
    return (images_NCHW - low) / (high - low).clamp_min(1e-6)


def write_table(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
