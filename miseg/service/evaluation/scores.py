"""Scores of an evaluation by their names in MLflow, and as files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from miseg.evaluation import BoundaryIoU, CenterlineDice, DenseCRF, match_clusters
from miseg.extras import require
from miseg.interface import Task
from miseg.metric_names import BOUNDARY_IOU, CLASS_CLDICE, MEAN_CLDICE, TRAIN_MATCH, of_split
from miseg.service.evaluation.image_counts import image_mean_iou
from miseg.service.training.artifacts import validation_metrics, write_table
from miseg.service.training.scoring import Counted, Evaluation, ShapeCounter


@dataclass(frozen=True)
class FurtherMeasures:
    """Measurements that an evaluation makes where they are asked for.

    Attributes:
        crf: settings of the dense CRF under which the predictions are measured once more, each.
        thin: names of thin classes, whose clDice is measured.
    """

    crf: tuple[DenseCRF, ...] = ()
    thin: tuple[str, ...] = ()

    def check(self, class_names: Sequence[str], uri: str) -> None:
        """Raise ValueError where a thin class is none of the data set at `uri`, MissingExtraError without its extra."""
        if unknown := [name for name in self.thin if name not in class_names]:
            raise ValueError(f"--cldice {' '.join(unknown)}: {uri} has the classes {', '.join(class_names)}")
        if len(set(self.thin)) < len(self.thin):
            raise ValueError(f"--cldice {' '.join(self.thin)}: name each class once")
        if self.thin:
            require("cldice", "--cldice", "skimage")


@dataclass(frozen=True)
class Shapes:
    """Counts of outlines, and of the skeletons of thin classes."""

    boundary: BoundaryIoU
    centerlines: CenterlineDice | None
    thin: tuple[str, ...]

    @classmethod
    def of(cls, task: Task, thin: Sequence[str]) -> Shapes:
        """Nothing counted yet, for the classes of a task and those of them that are thin."""
        numbers = [task.class_names.index(name) for name in thin]
        centerlines = CenterlineDice(numbers, task.ignore_index) if numbers else None
        return cls(BoundaryIoU(task.num_classes, task.ignore_index), centerlines, tuple(thin))

    @property
    def counters(self) -> tuple[ShapeCounter, ...]:
        """Counters, to be updated by each batch."""
        return (self.boundary,) if self.centerlines is None else (self.boundary, self.centerlines)

    @property
    def sums(self) -> list[torch.Tensor]:
        """The counts themselves."""
        own = [self.boundary.intersections, self.boundary.unions]
        return own if self.centerlines is None else [*own, self.centerlines.sums]

    def scores(self, prefix: str) -> dict[str, float]:
        """By their names in MLflow; a thin class that does not occur is left out."""
        scores = {of_split(prefix, BOUNDARY_IOU): self.boundary.mean()}
        if self.centerlines is not None:
            scores[of_split(prefix, MEAN_CLDICE)] = self.centerlines.mean()
            by_class = zip(self.thin, self.centerlines.dice_per_class(), strict=True)
            scores |= {of_split(prefix, f"{CLASS_CLDICE}/{name}"): v for name, v in by_class if not math.isnan(v)}
        return scores


def scores_of(
    evaluation: Evaluation, shapes: Shapes, image_counts: Counted, class_names: Sequence[str], split: str,
    match_K: torch.Tensor | None,
) -> dict[str, float]:  # fmt: skip
    """All scores of a split; of clusters by the match on its own images, and by one made on others.

    Args:
        evaluation: of the split.
        shapes: of the same predictions; of clusters, by `match_K`.
        image_counts: of each image of the split.
        class_names: in label order.
        split: how the names begin.
        match_K: the class of each cluster by other images; None where there is no such match.
    """
    if evaluation.clusters is None:
        return validation_metrics(evaluation, class_names, split) | shapes.scores(split)
    own_K = match_clusters(evaluation.clusters.counts)
    own = evaluation._replace(
        matrix=evaluation.clusters.matched(own_K), image_iou=image_mean_iou(image_counts, len(class_names), own_K)
    )
    scores = validation_metrics(own, class_names, split)
    if match_K is None:
        return scores
    prefix = of_split(split, TRAIN_MATCH)
    by_train = Evaluation(evaluation.matrix, [], {}, image_iou=image_mean_iou(image_counts, len(class_names), match_K))
    return scores | validation_metrics(by_train, class_names, prefix) | shapes.scores(prefix)


def write_scores(folder: Path, split: str, scores: Mapping[str, float], about: Mapping[str, object]) -> list[Path]:
    """Write the scores as CSV and JSON; their paths.

    Args:
        folder: where.
        split: the files' names hold it.
        scores: by name; nan is null in JSON, and empty in CSV.
        about: further entries of the JSON beside `scores`, such as the step.
    """
    table, record = folder / f"scores-{split}.csv", folder / f"scores-{split}.json"
    known = {name: None if math.isnan(value) else value for name, value in scores.items()}
    write_table(table, ("score", "value"), (("" if v is None else v for v in row) for row in known.items()))
    record.write_text(json.dumps({**about, "scores": known}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [table, record]
