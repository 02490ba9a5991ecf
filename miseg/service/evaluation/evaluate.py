"""A trained model measured on a split, as a run of its own in MLflow."""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import BoundaryIoU, ClusterCounts, ConfusionMatrix, DenseCRF, match_clusters
from miseg.evaluation.pictures import PanelRow
from miseg.interface import Method
from miseg.metric_names import BOUNDARY_IOU, INFERENCE_SECONDS, SECONDS_PER_IMAGE, TRAIN_MATCH, of_split
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.evaluation import dense_crf
from miseg.service.journal.journal import Journal, journal_folder
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails, Workspace
from miseg.service.training import streams as ingest
from miseg.service.training.artifacts import PANEL_ROWS, log_evaluation, validation_metrics, watch_predictions
from miseg.service.training.loop import resolve_precision
from miseg.service.training.scoring import Counted, Evaluation, Scoring
from miseg.service.training.scoring import evaluate as evaluate_batches

IMAGES_AT_ONCE = 256
"""Images whose confusion matrices are written together."""


@dataclass(frozen=True)
class TrainedModel:
    """A checkpoint, and the MLflow run that trained it, where that is known."""

    folder: str | Path
    run_id: str | None = None


class EvaluationReport(NamedTuple):
    """Result of an evaluation.

    Attributes:
        run_id: its MLflow run.
        scores: by metric name.
        panels: rows of the run's pictures: image, truth and prediction.
        one_class: the only class that is predicted, by the prefix of the scores of which that is so: the split, or
            that of a dense CRF below it.
    """

    run_id: str
    scores: dict[str, float]
    panels: list[PanelRow]
    one_class: Mapping[str, str] = MappingProxyType({})


def evaluate(
    model: TrainedModel,
    data: str,
    split: str,
    workspace: Workspace,
    crf: Sequence[DenseCRF] = (),
    tags: Mapping[str, str] | None = None,
) -> EvaluationReport:
    """Measure a trained model on a split, as an MLflow run below the one that trained it.

    The run's artifact `images/<split>-images.parquet` has each image's own confusion matrix: see `write_images`.

    Args:
        model: what is measured.
        data: the packed data set.
        split: which of its splits.
        workspace: where the run is kept, and whether a GPU is to be had.
        crf: settings of the dense CRF under which the predictions are measured once more, each.
        tags: further tags of the run; an evaluation with other tags is another run.

    Raises:
        ValueError: as `check`.
        CheckpointError: a damaged checkpoint.
    """
    dataset, tracking_uri, resources = PackedDataset.open(data), workspace.tracking_uri, workspace.resources
    manifest = check(model.folder, dataset, split)
    task = ingest.task_of(dataset)
    experiment = checkpoint_files.read_experiment(model.folder)
    name = f"evaluate-{experiment.id}-{manifest['step']}-{split}-{dataset.fingerprint}-{model.run_id or 'folder'}"
    if tags:
        name += "-" + hashlib.sha256(json.dumps(dict(tags), sort_keys=True).encode()).hexdigest()[:8]
    details = RunDetails(
        f"evaluate {split} {experiment.id} step {manifest['step']}",
        model.run_id,
        {"miseg.data": data, "miseg.data_fingerprint": dataset.fingerprint} | dict(tags or {}),
        {"split": split},
    )
    run_id = mlflow_runs.open_model_run(workspace, experiment, name, "evaluation", details)
    files = checkpoint_files.files_of(model.folder)
    journal: dict[str, Any] = {
        "folder": journal_folder(workspace.storage),
        "tracking_uri": tracking_uri,
        "run_id": run_id,
    }
    worker = ray.remote(_measure).options(num_cpus=resources.per_worker["CPU"], num_gpus=int(resources.use_gpu))
    try:
        scores, panels, match, one_class = ray.get(worker.remote(files, data, split, journal, resources.threads))
        if crf:
            refined = dense_crf.refine(files, dataset, split, crf, resources, match)
            scores |= _crf_scores(refined, crf, task.class_names, split)
            one_class |= {
                f"{split}/crf_{settings.iterations}": task.class_names[only]
                for of_crf, settings in zip(refined, crf, strict=True)
                if (only := of_crf.matrix.only_prediction()) is not None
            }
            log = Journal(**journal)
            log.metrics(manifest["step"], scores)
            log.close()
    except Exception as error:
        mlflow_runs.fail_run(tracking_uri, run_id, error)
        raise
    mlflow_runs.end_run(tracking_uri, run_id, "FINISHED", "finished")
    return EvaluationReport(run_id, scores, panels, one_class)


def check(folder: str | Path, dataset: PackedDataset, split: str) -> dict[str, Any]:
    """The manifest of the checkpoint in `folder`, which can be measured on the split.

    Raises:
        ValueError: no such split, or classes or channels that differ from those the checkpoint was trained for.
        CheckpointError: a damaged checkpoint.
    """
    dataset.size(split)
    if not dataset.info.classes:
        raise ValueError(f"{dataset.uri} has no labels to measure with; `miseg segment` maps scenes from your own")
    manifest = checkpoint_files.verify(folder)
    task, trained = ingest.task_of(dataset), manifest["task"]
    if (trained["num_classes"], trained["in_channels"]) != (task.num_classes, task.in_channels):
        raise ValueError(
            f"{folder} was trained for {trained['num_classes']} classes of {trained['in_channels']} channels; "
            f"{dataset.uri} has {task.num_classes} of {task.in_channels}"
        )
    return manifest


def _measure(
    files: dict[str, bytes], data: str, split: str, journal: dict[str, Any], threads: int
) -> tuple[dict[str, float], list[PanelRow], list[int] | None, dict[str, str]]:
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = PackedDataset.open(data)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint_folder = checkpoint_files.unpack(files, Path(folder))
        method, experiment, task = checkpoint.open_method(checkpoint_folder, device)
        step = checkpoint_files.verify(checkpoint_folder)["step"]
        precision = resolve_precision(experiment.precision, device)
        boundary = BoundaryIoU(task.num_classes, task.ignore_index)

        def score(name: str, scoring: Scoring) -> Evaluation:
            stream = ingest.evaluation_stream(dataset, name, experiment)
            batches = ingest.given_examples(method, dataset, name, experiment, stream)
            return evaluate_batches(method, task, batches, device, precision, scoring)

        match_K = None
        if method.emits == "clusters" and "train" in dataset.splits:
            counted = score("train", Scoring(objective=False)).clusters
            assert counted is not None
            match_K = match_clusters(counted.counts)
        image_counts: Counted = []
        evaluation = score(split, Scoring(PANEL_ROWS, boundary, match_K, image_counts=image_counts))
        scores = _scores(evaluation, boundary, task.class_names, split, matched_on_train=match_K is not None)
        if evaluation.samples:
            image_1CHW = evaluation.samples[0][0].images_NCHW[:1]
            scores[of_split(split, INFERENCE_SECONDS)] = inference_seconds(method, image_1CHW, device, precision)
        log = Journal(**journal)
        log.metrics(step, scores)
        images = Path(folder) / f"{split}-images.parquet"
        write_images(images, image_counts, evaluation.clusters, match_K)
        log.artifact(images, "images")
        if match_K is None and evaluation.clusters is not None:
            match_K = match_clusters(evaluation.clusters.counts)
        rows = log_evaluation(log, dataset, experiment, evaluation, step=step, split=split)
        only = watch_predictions(log, evaluation, task.class_names, step)
        log.close()
    return scores, rows, None if match_K is None else match_K.tolist(), {split: only} if only else {}


def write_images(
    path: Path, image_counts: Counted, clusters: ClusterCounts | None, match_K: torch.Tensor | None
) -> None:
    """Write the images' confusion matrices as Parquet, one row an image.

    Columns: `id` and `counts`, the K * K counts of pixels with truth in rows, row by row, whose sum over images is the
    split's own matrix. Of clusters (in `clusters`, over all images) that is by the match made on these images; a third
    column, `counts_train_match`, is by `match_K`, where it was made on others.
    """
    own_K = None if clusters is None else match_clusters(clusters.counts)
    matches = {"counts": own_K} | ({} if own_K is None or match_K is None else {"counts_train_match": match_K})
    kinds = [pa.field("id", pa.string()), *(pa.field(name, pa.list_(pa.int64())) for name in matches)]
    with pq.ParquetWriter(path, pa.schema(kinds), compression="zstd") as file:
        for start in range(0, len(image_counts), IMAGES_AT_ONCE):
            part = image_counts[start : start + IMAGES_AT_ONCE]
            columns = {
                name: [_matrix(counts, match).counts.flatten().tolist() for _, counts in part]
                for name, match in matches.items()
            }
            file.write_table(pa.table({"id": [name for name, _ in part]} | columns, pa.schema(kinds)))


def _matrix(counts: ConfusionMatrix | ClusterCounts, match_K: torch.Tensor | None) -> ConfusionMatrix:
    if isinstance(counts, ConfusionMatrix):
        return counts
    assert match_K is not None
    return counts.matched(match_K)


def _scores(
    evaluation: Evaluation, boundary: BoundaryIoU, class_names: Sequence[str], split: str, *, matched_on_train: bool
) -> dict[str, float]:
    if evaluation.clusters is None:
        return validation_metrics(evaluation, class_names, split) | {of_split(split, BOUNDARY_IOU): boundary.mean()}
    own = evaluation._replace(matrix=evaluation.clusters.matched(match_clusters(evaluation.clusters.counts)))
    scores = validation_metrics(own, class_names, split)
    if not matched_on_train:
        return scores
    prefix = of_split(split, TRAIN_MATCH)
    by_train = validation_metrics(Evaluation(evaluation.matrix, [], {}), class_names, prefix)
    return scores | by_train | {of_split(prefix, BOUNDARY_IOU): boundary.mean()}


@torch.no_grad()
def inference_seconds(
    method: Method, image_1CHW: torch.Tensor, device: torch.device, precision: torch.dtype, repetitions: int = 7
) -> float:
    """Median wall time of one image's prediction, seconds, warm, with the device's queue empty before and after."""
    image_1CHW = image_1CHW.to(device, memory_format=torch.channels_last)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    seconds = []
    for _ in range(2 + repetitions):
        wait()
        started = time.perf_counter()
        with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
            method.predict(image_1CHW)
        wait()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])


def _crf_scores(
    by_setting: Sequence[dense_crf.Refined], crf: Sequence[DenseCRF], class_names: Sequence[str], split: str
) -> dict[str, float]:
    scores: dict[str, float] = {}
    for refined, settings in zip(by_setting, crf, strict=True):
        prefix = f"{split}/crf_{settings.iterations}"
        scores |= validation_metrics(Evaluation(refined.matrix, [], {}), class_names, prefix)
        scores |= {
            of_split(prefix, BOUNDARY_IOU): refined.boundary.mean(),
            of_split(prefix, SECONDS_PER_IMAGE): refined.seconds / max(1, refined.images),
        }
    return scores
