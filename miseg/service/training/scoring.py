"""Scores of a method over batches of labelled images: torch and the contracts, nothing of Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from miseg.evaluation import (
    CalibrationError,
    ClusterCounts,
    ConfusionMatrix,
    ImageMeanIoU,
    count_images,
    match_clusters,
)
from miseg.interface import Batch, HeldOut, Method, Task
from miseg.optimisation.shared_outputs import shared_outputs
from miseg.service.terminal.messages import say

Samples = list[tuple[Batch, Tensor]]
"""Batches with the labels [N, H, W] predicted for them."""

Counted = list[tuple[str, ConfusionMatrix | ClusterCounts]]
"""The pixels of single images, by the images' ids."""


class ShapeCounter(Protocol):
    """Counts of the shapes of labels, such as `BoundaryIoU` and `CenterlineDice`."""

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Count integer labels [N, H, W]."""


class Evaluation(NamedTuple):
    """Scores of an evaluation, with its first predictions.

    Attributes:
        matrix: the confusion matrix of the method's predictions; of clusters, by the match that was given, or by the
            best on these very images.
        samples: the first batches with the predicted classes for them.
        others: the confusion matrices of the method's further predictors, by name.
        clusters: how often each cluster met each class, where the method emits clusters.
        objective: what training raises, on these images: −loss, where the method learns without labels.
        image_iou: mean IoU of single images by the method's predictions; None of clusters, whose match comes later.
        loss: training loss of a method that learns from labels, on these images; None where it was not asked for, or is
            not defined here.
        calibration: of the method's probabilities; None of clusters, and of methods that map by their nearest labels.
    """

    matrix: ConfusionMatrix
    samples: Samples
    others: dict[str, ConfusionMatrix]
    clusters: ClusterCounts | None = None
    objective: float | None = None
    image_iou: ImageMeanIoU | None = None
    calibration: CalibrationError | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Scoring:
    """Options of an evaluation beside the confusion matrices.

    Attributes:
        keep: images whose predictions are kept (on the CPU) for pictures.
        shapes: count the shapes of the method's predictions on this rank too; of clusters, with `match_K` alone.
        match_K: the class of each cluster; None: the best match on these images.
        objective: whether the objective of a method that emits clusters is computed, at the cost of a training's
            forward pass.
        loss: whether the training loss of a method that learns from labels is computed; its networks run once for
            predictions and loss.
        image_counts: is given the counts of every labelled image of this rank by itself.
    """

    keep: int = 0
    shapes: Sequence[ShapeCounter] = ()
    match_K: Tensor | None = None
    objective: bool = True
    loss: bool = False
    image_counts: Counted | None = None


@torch.no_grad()
def evaluate(
    method: Method,
    task: Task,
    batches: Iterable[Batch],
    device: torch.device,
    precision: torch.dtype = torch.float32,
    scoring: Scoring | None = None,
) -> Evaluation:
    """The confusion matrices over the batches of all ranks, and the first batches of at least `keep` images here.

    Args:
        method: what predicts; its training mode is restored.
        task: classes and ignore index.
        batches: this rank's share of a split.
        device: where `method` is.
        precision: the type the network computes in.
        scoring: what else is counted and kept.
    """
    scoring = scoring or Scoring()
    match_K = scoring.match_K
    was_training = method.training
    method.eval()
    predictors = {"": method.predict} | method.others()
    tally = _Clusters(method, task) if method.emits == "clusters" else _Classes(method, task)
    held_out = _LabelledLoss(method) if scoring.loss and method.supervision == "dense" else None
    samples: Samples = []
    for batch in batches if held_out is None else held_out.beside(batches):
        batch = batch.to(device, memory_format=torch.channels_last)
        for name, predict in predictors.items():
            with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
                confidence_NHW, prediction_NHW = predict(batch.images_NCHW).max(1)
                if isinstance(tally, _Clusters):
                    tally.update(batch, prediction_NHW, objective=scoring.objective)
            if isinstance(tally, _Classes):
                tally.update(name, batch, prediction_NHW, confidence_NHW)
            if name:
                continue
            if held_out is not None:
                with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
                    held_out.update(batch)
            if batch.labels_NHW is not None:
                if isinstance(tally, _Classes) or match_K is not None:
                    classes_NHW = prediction_NHW if match_K is None else match_K.to(device)[prediction_NHW]
                    for counter in scoring.shapes:
                        counter.update(classes_NHW, batch.labels_NHW)
                if scoring.image_counts is not None:
                    scoring.image_counts.extend(_count_images(batch, prediction_NHW, method, task))
            if sum(len(earlier.ids) for earlier, _ in samples) < scoring.keep:
                samples.append((batch.to("cpu"), prediction_NHW.cpu()))
    method.train(was_training)
    if isinstance(tally, _Classes):
        evaluation = tally.evaluation(samples, device)
        return evaluation if held_out is None else evaluation._replace(loss=held_out.loss())
    tally.counts.counts = _summed(tally.counts.counts, device)
    match_K = match_clusters(tally.counts.counts) if match_K is None else match_K.cpu()
    samples = [(batch, match_K[prediction_NHW]) for batch, prediction_NHW in samples]
    objective = tally.objective() if scoring.objective else None
    return Evaluation(tally.counts.matched(match_K), samples, {}, tally.counts, objective)


def _count_images(batch: Batch, prediction_NHW: Tensor, method: Method, task: Task) -> Counted:
    assert batch.labels_NHW is not None
    counted: Counted = []
    for name, prediction_HW, truth_HW in zip(batch.ids, prediction_NHW, batch.labels_NHW, strict=True):
        counts: ConfusionMatrix | ClusterCounts = (
            ConfusionMatrix(task.num_classes, task.ignore_index)
            if method.emits == "classes"
            else ClusterCounts(method.num_clusters, task.num_classes, task.ignore_index)
        )
        counts.update(prediction_HW, truth_HW)
        counted.append((name, counts))
    return counted


class _Classes:
    """Pixels by true and predicted class for each predictor; for the method's own by image and by confidence too."""

    def __init__(self, method: Method, task: Task) -> None:
        self.matrices = {name: ConfusionMatrix(task.num_classes, task.ignore_index) for name in ("", *method.others())}
        self.image_iou = ImageMeanIoU(task.num_classes, task.ignore_index)
        # A map by the nearest labels has votes for probabilities, 0 or 1 with one neighbour.
        dense = method.supervision == "dense"
        self.calibration = CalibrationError(ignore_index=task.ignore_index) if dense else None

    def update(self, name: str, batch: Batch, prediction_NHW: Tensor, confidence_NHW: Tensor) -> None:
        """Count a batch as the predictor of that name sees it; nothing where the batch has no labels."""
        if batch.labels_NHW is None:
            return
        matrix = self.matrices[name]
        counts_NKK = count_images(prediction_NHW, batch.labels_NHW, matrix.num_classes, matrix.ignore_index)
        matrix.add(counts_NKK)
        if name:
            return
        self.image_iou.add(counts_NKK)
        if self.calibration is not None:
            self.calibration.update(confidence_NHW, prediction_NHW, batch.labels_NHW)

    def evaluation(self, samples: Samples, device: torch.device) -> Evaluation:
        """The counts of all ranks."""
        for matrix in self.matrices.values():
            matrix.counts = _summed(matrix.counts, device)
        self.image_iou.sums = _summed(self.image_iou.sums, device)
        if self.calibration is not None:
            self.calibration.sums = _summed(self.calibration.sums, device)
            self.calibration.undefined = _summed(self.calibration.undefined, device)
        own = self.matrices.pop("")
        return Evaluation(own, samples, self.matrices, image_iou=self.image_iou, calibration=self.calibration)


class _LabelledLoss:
    """Training loss over labelled images that training does not see, from the outputs that the predictions are of."""

    def __init__(self, method: Method) -> None:
        self.method, self.held_out = method, HeldOut(method)
        self.problem = ""

    def beside(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, each of which the method's networks see once, whatever they are asked for."""
        with shared_outputs(self.method) as forget:
            for batch in batches:
                yield batch
                forget()

    def update(self, batch: Batch) -> None:
        """Add a batch; where the loss is not defined on it, or takes more memory than there is, there is none."""
        if batch.labels_NHW is None or self.problem:
            return
        try:
            self.held_out.add(self.method(batch))
        except (ValueError, torch.OutOfMemoryError) as error:  # no reason to stop a training
            self.problem = str(error).splitlines()[0]
            say(f"warning: the loss on validation images cannot be computed: {self.problem}")

    def loss(self) -> float | None:
        """Over the batches of all ranks; None where one of them has none."""
        loss, problems = self.held_out.loss(_gathered), _gathered(self.problem)
        return None if any(problems) or math.isnan(loss) else loss


class _Clusters:
    """Clusters against classes, and the loss on images that training does not see."""

    def __init__(self, method: Method, task: Task) -> None:
        self.method, self.task = method, task
        self.counts = ClusterCounts(method.num_clusters, max(1, task.num_classes), task.ignore_index)
        self.held_out = method.held_out()

    def update(self, batch: Batch, clusters_NHW: Tensor, *, objective: bool) -> None:
        if objective:
            self.held_out.update(batch.without_labels(self.task.ignore_index))
        if batch.labels_NHW is not None:
            self.counts.update(clusters_NHW, batch.labels_NHW)

    def objective(self) -> float:
        """−loss over the batches of all ranks."""
        return -self.held_out.loss(_gathered)


def _gathered(value: Any) -> list[Any]:
    """The values of all ranks, in their order."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _summed(values: Tensor, device: torch.device) -> Tensor:
    """Their sum over all ranks, on the CPU."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return values
    values = values.to(device)
    dist.all_reduce(values)
    return values.cpu()
