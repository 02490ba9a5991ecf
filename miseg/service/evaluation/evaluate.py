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

import ray
import torch

from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import match_clusters
from miseg.evaluation.pictures import PanelRow
from miseg.interface import Method
from miseg.metric_names import INFERENCE_SECONDS, of_split
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.evaluation import dense_crf
from miseg.service.evaluation.image_counts import write_images
from miseg.service.evaluation.scores import FurtherMeasures, Shapes, scores_of, write_scores
from miseg.service.journal.journal import Journal, journal_folder
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.pages import datasets
from miseg.service.tracking.run_store import RunDetails, Workspace
from miseg.service.training import streams as ingest
from miseg.service.training.artifacts import PANEL_ROWS, log_evaluation, watch_predictions, write_table
from miseg.service.training.loop import resolve_precision
from miseg.service.training.scoring import Counted, Evaluation, Scoring
from miseg.service.training.scoring import evaluate as evaluate_batches

THIN = "miseg.cldice"
"""Tag of an evaluation: the thin classes whose clDice it measured, a JSON list."""

CALIBRATION_COLUMNS = ("above", "up_to", "pixels", "mean_confidence", "share_right")


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
    measures: FurtherMeasures | None = None,
    tags: Mapping[str, str] | None = None,
) -> EvaluationReport:
    """Measure a trained model on a split, as an MLflow run below the one that trained it.

    Among the run's artifacts, `images/<split>-images.parquet` has each image's own confusion matrix (see
    `write_images`), `tables/scores-<split>.json` and `.csv` have the scores, and `tables/calibration-<split>.csv` the
    bins of the calibration error. The tag `THIN` names the classes whose clDice was measured.

    Args:
        model: what is measured.
        data: the packed data set.
        split: which of its splits.
        workspace: where the run is kept, and whether a GPU is to be had.
        measures: what is measured beside what every evaluation measures.
        tags: further tags of the run; an evaluation with other tags is another run.

    Raises:
        ValueError: as `check`.
        CheckpointError: a damaged checkpoint.
    """
    measures = measures or FurtherMeasures()
    dataset, tracking_uri, resources = PackedDataset.open(data), workspace.tracking_uri, workspace.resources
    manifest = check(model.folder, dataset, split)
    measures.check(dataset.info.classes, dataset.uri)
    task = ingest.task_of(dataset)
    experiment = checkpoint_files.read_experiment(model.folder)
    name = f"evaluate-{experiment.id}-{manifest['step']}-{split}-{dataset.fingerprint}-{model.run_id or 'folder'}"
    if tags:
        name += "-" + hashlib.sha256(json.dumps(dict(tags), sort_keys=True).encode()).hexdigest()[:8]
    details = RunDetails(
        f"{_measured_row(tags, experiment.seed)}on {split}, step {manifest['step']}",
        model.run_id,
        {"miseg.data": data, "miseg.data_fingerprint": dataset.fingerprint} | dict(tags or {}),
        {"split": split},
        datasets=datasets.inputs(dataset, data, {split: "test" if split == "test" else "evaluation"}),
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
        measured = worker.remote(files, data, split, measures.thin, journal, resources.threads)
        scores, panels, match, one_class = ray.get(measured)
        log = Journal(**journal)
        if measures.crf:
            refined = dense_crf.refine(files, dataset, split, measures, resources, match)
            for of_crf, settings in zip(refined, measures.crf, strict=True):
                prefix = f"{split}/crf_{settings.iterations}"
                scores |= of_crf.scores(task.class_names, prefix)
                if (only := of_crf.matrix.only_prediction()) is not None:
                    one_class[prefix] = task.class_names[only]
            log.metrics(manifest["step"], scores)
        about = {"run": run_id, "data": data, "data_fingerprint": dataset.fingerprint, "split": split}
        with tempfile.TemporaryDirectory() as folder:
            for path in write_scores(Path(folder), split, scores, about | {"step": manifest["step"]}):
                log.artifact(path, "tables")
        if measures.thin:
            log.tags({THIN: json.dumps(measures.thin)})
        log.close()
    except Exception as error:
        mlflow_runs.fail_run(tracking_uri, run_id, error)
        raise
    mlflow_runs.end_run(tracking_uri, run_id, "FINISHED", "finished")
    return EvaluationReport(run_id, scores, panels, one_class)


def _measured_row(tags: Mapping[str, str] | None, seed: int) -> str:
    """Start of an evaluation's name: the seed and row of a study's, else the seed alone."""
    row = (tags or {}).get("miseg.row", "")
    return f"seed {seed} {row} " if row else f"seed {seed} "


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
    files: dict[str, bytes], data: str, split: str, thin: Sequence[str], journal: dict[str, Any], threads: int
) -> tuple[dict[str, float], list[PanelRow], list[int] | None, dict[str, str]]:
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = PackedDataset.open(data)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint_folder = checkpoint_files.unpack(files, Path(folder))
        method, experiment, task = checkpoint.open_method(checkpoint_folder, device)
        step = checkpoint_files.verify(checkpoint_folder)["step"]
        precision = resolve_precision(experiment.precision, device)
        shapes = Shapes.of(ingest.task_of(dataset), thin)

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
        evaluation = score(split, Scoring(PANEL_ROWS, shapes.counters, match_K, image_counts=image_counts))
        scores = scores_of(evaluation, shapes, image_counts, task.class_names, split, match_K)
        if evaluation.samples:
            image_1CHW = evaluation.samples[0][0].images_NCHW[:1]
            scores[of_split(split, INFERENCE_SECONDS)] = inference_seconds(method, image_1CHW, device, precision)
        log = Journal(**journal)
        log.metrics(step, scores)
        images = Path(folder) / f"{split}-images.parquet"
        write_images(images, image_counts, evaluation.clusters, match_K)
        log.artifact(images, "images")
        if evaluation.calibration is not None:
            bins = Path(folder) / f"calibration-{split}.csv"
            write_table(bins, CALIBRATION_COLUMNS, evaluation.calibration.table())
            log.artifact(bins, "tables")
        if match_K is None and evaluation.clusters is not None:
            match_K = match_clusters(evaluation.clusters.counts)
        rows = log_evaluation(log, dataset, experiment, evaluation, step=step, split=split)
        only = watch_predictions(log, evaluation, task.class_names, step)
        log.close()
    return scores, rows, None if match_K is None else match_K.tolist(), {split: only} if only else {}


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
