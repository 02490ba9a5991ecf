"""The dense CRF over a data set: decoding, prediction and refinement as one Ray Data pipeline."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import CalibrationError, ConfusionMatrix, ImageMeanIoU, dense_crf
from miseg.evaluation.clusters import of_classes
from miseg.interface import Task
from miseg.metric_names import SECONDS_PER_IMAGE, of_split
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.evaluation.scores import FurtherMeasures, Shapes
from miseg.service.training import streams as ingest
from miseg.service.training.artifacts import validation_metrics
from miseg.service.training.loop import resolve_precision
from miseg.service.training.scoring import Evaluation

ACTOR_CPUS = 0.25
"""CPUs that the predicting actor asks for: on a machine of one or two it must leave room for decoding and the CRF."""


@dataclass
class Refined:
    """Counts of the predictions after one setting of the CRF.

    Attributes:
        matrix: confusion matrix over the split.
        shapes: outlines and skeletons.
        image_iou: mean IoU of single images.
        calibration: of the probabilities that the CRF leaves.
        seconds: wall time that the CRF took over all images, in tasks of one thread each.
        images: number of images.
    """

    matrix: ConfusionMatrix
    shapes: Shapes
    image_iou: ImageMeanIoU
    calibration: CalibrationError
    seconds: float = 0.0
    images: int = 0

    @classmethod
    def of(cls, task: Task, thin: Sequence[str]) -> Refined:
        """Nothing counted yet."""
        classes = task.num_classes, task.ignore_index
        calibration = CalibrationError(ignore_index=task.ignore_index)
        return cls(ConfusionMatrix(*classes), Shapes.of(task, thin), ImageMeanIoU(*classes), calibration)

    def update(self, probabilities_KHW: np.ndarray, truth_HW: np.ndarray) -> None:
        """Count an image."""
        confidence_1HW, prediction_1HW = torch.as_tensor(probabilities_KHW)[None].max(1)
        truth_1HW = torch.as_tensor(truth_HW.astype(np.int64))[None]
        self.calibration.update(confidence_1HW, prediction_1HW, truth_1HW)
        self.matrix.update(prediction_1HW, truth_1HW)
        self.image_iou.update(prediction_1HW, truth_1HW)
        for counter in self.shapes.counters:
            counter.update(prediction_1HW, truth_1HW)

    @property
    def sums(self) -> list[torch.Tensor]:
        """All counts, which add up over images."""
        calibration = self.calibration.sums, self.calibration.undefined
        return [self.matrix.counts, self.image_iou.sums, *calibration, *self.shapes.sums]

    def scores(self, class_names: Sequence[str], prefix: str) -> dict[str, float]:
        """By their names in MLflow."""
        counted = Evaluation(self.matrix, [], {}, image_iou=self.image_iou, calibration=self.calibration)
        scores = validation_metrics(counted, class_names, prefix) | self.shapes.scores(prefix)
        return scores | {of_split(prefix, SECONDS_PER_IMAGE): self.seconds / max(1, self.images)}


def refine(
    files: Mapping[str, bytes],
    dataset: PackedDataset,
    split: str,
    measures: FurtherMeasures,
    resources: Resources,
    match: Sequence[int] | None = None,
) -> list[Refined]:
    """The labelled images of a split predicted, refined under each setting and counted.

    Args:
        files: a checkpoint's files by name.
        dataset: the packed data set, of three channels.
        split: which of its splits.
        measures: settings of the CRF, and thin classes.
        resources: whether a GPU is to be had, and how many threads the prediction takes.
        match: the class of each cluster, where the method emits clusters.

    Raises:
        ValueError: images of other than three channels of 8 bits.
    """
    if dataset.info.channels != 3:
        raise ValueError(f"{dataset.uri} has {dataset.info.channels} channels: the dense CRF takes colours, 3 channels")
    if dataset.info.dtype != "uint8":
        raise ValueError(f"{dataset.uri} has values of {dataset.info.dtype}: the dense CRF takes colours of 8 bits")
    task, experiment = ingest.task_of(dataset), checkpoint_files.experiment_in(files)
    predicted = ingest.evaluation_data(dataset, split, experiment).map_batches(
        ProbabilityActor,
        fn_constructor_args=(ray.put(dict(files)), dataset, experiment, resources.threads, match),
        batch_size=experiment.batch_size,
        concurrency=1,
        num_cpus=ACTOR_CPUS,
        num_gpus=int(resources.use_gpu),
    )
    counted = predicted.map_batches(
        functools.partial(_refine_rows, measures=measures, task=task), batch_size=1, num_cpus=ingest.TASK_CPUS
    )
    by_setting = [Refined.of(task, measures.thin) for _ in measures.crf]
    for row in counted.iter_rows():
        refined = by_setting[row["setting"]]
        of_image = torch.as_tensor(np.array(row["sums"])).split([sums.numel() for sums in refined.sums])
        for sums, part in zip(refined.sums, of_image, strict=True):
            sums += part.view_as(sums)
        refined.seconds += row["seconds"]
        refined.images += 1
    return by_setting


class ProbabilityActor:
    """Adds `probabilities`, float32 [N, K, H, W], to decoded rows; an actor, so that the network is read once."""

    def __init__(
        self,
        files: Any,
        dataset: PackedDataset,
        experiment: Experiment,
        threads: int,
        match: Sequence[int] | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self.match, self.classes = match, len(dataset.info.classes)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = resolve_precision(experiment.precision, self.device)
        self.convert = ingest.Converter(dataset, experiment)
        with tempfile.TemporaryDirectory() as folder:
            self.method, _, _ = checkpoint.open_method(
                checkpoint_files.unpack(ray.get(files), Path(folder)), self.device
            )

    @torch.no_grad()
    def __call__(self, columns: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The same rows with probabilities, images of one size together."""
        for rows in ingest.split_by_size(columns):
            batch = self.convert(rows).to(self.device, memory_format=torch.channels_last)
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
                probabilities_NKHW = self.method.predict(batch.images_NCHW)
            if self.match is not None:
                probabilities_NKHW = of_classes(probabilities_NKHW, torch.tensor(self.match), self.classes)
            yield rows | {"probabilities": probabilities_NKHW.float().cpu().numpy()}


def _refine_rows(columns: dict[str, Any], measures: FurtherMeasures, task: Task) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    if "labels" not in columns:
        return
    for image, labels, probabilities in zip(
        *(ingest.dense(columns[name]) for name in ("images", "labels", "probabilities")), strict=True
    ):
        for number, crf in enumerate(measures.crf):
            started = time.perf_counter()
            refined_KHW = dense_crf(image, probabilities.clip(0, 1), crf.iterations, settings=crf)
            seconds = time.perf_counter() - started
            of_image = Refined.of(task, measures.thin)
            of_image.update(refined_KHW, labels)
            yield {
                "setting": np.array([number]),
                "sums": torch.cat([sums.flatten() for sums in of_image.sums]).numpy()[None],
                "seconds": np.array([seconds]),
            }
