"""A study, or a tuning without one, as a report sees it: tables of cells of rows of trained seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from mlflow.entities import Run

from miseg.evaluation.paired import ImageCounts
from miseg.metric_names import (
    CLASS_IOU,
    FURTHER_SCORES,
    IMAGE_MEAN_IOU,
    OVERLAP_SCORES,
    TRAIN_MATCH_MEAN_IOU,
    WORST_CLASS_IOU,
    WORST_QUARTER_IOU,
    of_split,
)
from miseg.one_class import class_of

SCORES = (*OVERLAP_SCORES, TRAIN_MATCH_MEAN_IOU, *FURTHER_SCORES)


@dataclass
class TrainedSeed:
    """One row trained on one seed, and its measurement."""

    run: Run
    """The training."""
    evaluation: Run | None = None
    """The measurement on the table's split; None where the scores are those of the training's last validation."""
    images: ImageCounts | None = None
    """Counts in each image; None where they were not kept."""
    split: str = "val"

    @property
    def scores(self) -> dict[str, float]:
        """Scores in 0..1 by the names of `SCORES`, as far as they were logged.

        Those of images and of the worst classes are computed for runs that did not log them yet.
        """
        metrics = (self.evaluation or self.run).data.metrics
        logged = {name: metrics[key] for name in SCORES if (key := of_split(self.split, name)) in metrics}
        computed: dict[str, float] = {}
        if self.images is not None and (of_images := [iou for iou in self.images.image_iou() if not math.isnan(iou)]):
            computed[IMAGE_MEAN_IOU] = float(fmean(of_images))
        if ious := sorted(self.per_class.values()):
            computed |= {WORST_CLASS_IOU: ious[0], WORST_QUARTER_IOU: fmean(ious[: -(-len(ious) // 4)])}
        return computed | {name: value for name, value in logged.items() if not math.isnan(value)}

    @property
    def one_class(self) -> str:
        """Name of the only class that is predicted; "" where there are several, or it is not known."""
        return class_of((self.evaluation or self.run).data.tags)

    @property
    def per_class(self) -> dict[str, float]:
        """IoU in 0..1 by class."""
        prefix = f"{self.split}/{CLASS_IOU}/"
        metrics = (self.evaluation or self.run).data.metrics
        return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


@dataclass
class ReportedRow:
    """A row of a table, by seed."""

    name: str
    cell: str
    method: str
    recipe: str
    seeds: dict[int, TrainedSeed] = field(default_factory=dict)


@dataclass
class ReportedCell:
    """A method family under one budget: its search, and what the plan says of it."""

    id: str
    method: str
    recipe: str
    rows: tuple[str, ...]
    trials: int | None = None
    steps: int | None = None
    confirm_seeds: int | None = None
    tuning: Run | None = None
    tried: list[Run] = field(default_factory=list)


@dataclass
class ReportedTable:
    """All that was run on one data set with one budget of labels."""

    data: str
    budget: str
    supervision: str
    baseline: str
    cells: list[ReportedCell] = field(default_factory=list)
    lines: list[ReportedRow] = field(default_factory=list)
    split: str = "val"
    missing: list[str] = field(default_factory=list)
    """Parts of the plan that MLflow does not have, in words."""
    alike: dict[str, str] = field(default_factory=dict)
    """Conditions that all its rows share, by name."""
    network: str = ""
    """Network of all its methods, as the study was asked for it; "": the recipes'."""

    @property
    def labels(self) -> dict[str, str]:
        """The unit of the label budget, for tables: images with labels, or labelled pixels of each class; and the
        network that a study was asked for."""
        return {
            "network": self.network,
            "budget": self.budget,
            "labelled_images": self.budget if self.supervision == "dense" else "",
            "labelled_pixels_per_class": self.budget if self.supervision == "few" else "",
        }


@dataclass
class ReportedStudy:
    """A study, or a tuning as a study of one cell."""

    name: str
    kind: str
    uri: str
    tables: list[ReportedTable]
    created: str = ""
    cost: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Expected cost, by data set."""
