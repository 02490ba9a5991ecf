"""One validation of a training: what is measured on the validation split, and how clusters are matched with classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import match_clusters
from miseg.interface import Batch, Method
from miseg.metric_names import TRAIN_MATCH, VALIDATION_OBJECTIVE, of_split
from miseg.service.checkpoints.storage_failures import StorageError
from miseg.service.training import streams as ingest
from miseg.service.training.artifacts import PANEL_ROWS, validation_metrics
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import Recorder
from miseg.service.training.run import Selection
from miseg.service.training.scoring import Evaluation

Watched = Callable[[Iterator[Batch]], Iterator[Batch]]
"""Hands batches on, with an eye on whether there is time for them."""


def validation_due(loop: Loop) -> bool:
    """Whether a validation belongs to the step that `loop` has just made."""
    return loop.step > 0 and (loop.step % loop.experiment.validate_every == 0 or loop.step == loop.experiment.steps)


def validate(
    loop: Loop, dataset: PackedDataset, recorder: Recorder | None, selection: Selection, watched: Watched
) -> dict[str, Any]:
    """Validate on all ranks, and keep on rank 0 what was found, with a checkpoint.

    Args:
        loop: the training as it is now.
        dataset: what is trained on.
        recorder: of rank 0; None on others.
        selection: what tells a better checkpoint.
        watched: hands on the batches that are read.

    Returns:
        `step`, `mean_iou` (nan where there are no labels) and `score`, by which checkpoints and trials are compared:
        0 where there is neither a label nor an objective.

    Raises:
        StorageError: the checkpoint cannot be written, and the training shall stop then; on every rank.
    """
    labelled = loop.task.num_classes > 0
    evaluation = _validated(loop, dataset, watched) if labelled or loop.method.emits == "clusters" else None
    scores = {} if evaluation is None or not labelled else validation_metrics(evaluation, loop.task.class_names, "val")
    match_K = None
    if evaluation is not None and evaluation.objective is not None:
        scores[VALIDATION_OBJECTIVE] = evaluation.objective
    if labelled and evaluation is not None and evaluation.clusters is not None:
        match_K = match_clusters(evaluation.clusters.counts)
        if loop.step == loop.experiment.steps:
            # At the end alone, for it takes a pass over the training images.
            match_K = _match_on_train(loop, dataset, watched)
            by_train = Evaluation(evaluation.clusters.matched(match_K), [], {})
            scores |= validation_metrics(by_train, loop.task.class_names, of_split("val", TRAIN_MATCH))
    mean_iou = evaluation.matrix.mean_iou() if labelled and evaluation is not None else math.nan
    objective = None if evaluation is None or selection == "labels" else evaluation.objective
    # Of checkpoints that are equally good the latest is kept: with nothing to score by, that is the last.
    score = objective if objective is not None else mean_iou if labelled else 0.0
    metrics = {"step": loop.step, "mean_iou": mean_iou, "score": score}
    stopped = [""]
    if recorder is not None:
        try:
            recorder.validation(loop, metrics, scores, evaluation if labelled else None, match_K)
        except StorageError as error:
            stopped = [str(error)]
    if loop.world > 1:
        dist.broadcast_object_list(stopped)  # a rank that ended alone would leave the others waiting for it
    if stopped[0]:
        raise StorageError(stopped[0])
    return metrics


def _validated(loop: Loop, dataset: PackedDataset, watched: Watched) -> Evaluation:
    split, method = loop.experiment.validation_split(dataset.splits), loop.evaluated
    loop.share_buffers()
    if method.supervision == "none" and type(method).fit_support is not Method.fit_support:
        images = watched(_stream(loop, dataset, "train"))
        method.fit_support(batch.to(loop.device).without_labels(loop.task.ignore_index) for batch in images)
    batches = ingest.given_examples(method, dataset, split, loop.experiment, watched(_stream(loop, dataset, split)))
    return loop.evaluate(batches, keep=PANEL_ROWS if loop.rank == 0 else 0)


def _match_on_train(loop: Loop, dataset: PackedDataset, watched: Watched) -> torch.Tensor:
    """The class of each cluster by the training images' labels."""
    evaluation = loop.evaluate(watched(_stream(loop, dataset, "train")), objective=False)
    assert evaluation.clusters is not None
    return match_clusters(evaluation.clusters.counts)


def _stream(loop: Loop, dataset: PackedDataset, split: str) -> Iterator[Batch]:
    return ingest.evaluation_stream(dataset, split, loop.experiment, rank=loop.rank, world=loop.world)
