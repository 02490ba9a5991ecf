"""A trained model measured on a split, as a run of its own in MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ray
import torch

from miseg.data.packed import PackedDataset
from miseg.service import checkpoint, ingest, tracking
from miseg.service.cluster import Resources
from miseg.service.journal import Journal, journal_folder
from miseg.service.loop import evaluate as evaluate_batches
from miseg.service.loop import resolve_precision
from miseg.service.reporting import PANEL_ROWS, log_evaluation, validation_metrics


def evaluate(
    folder: str | Path,
    data: str,
    split: str,
    *,
    storage: str,
    tracking_uri: str,
    resources: Resources,
    parent: str | None = None,
) -> tuple[str, dict[str, float]]:
    """Measure the checkpoint in `folder` on a split; the MLflow run's id and the scores by metric name.

    Args:
        folder: a checkpoint.
        data: the packed data set.
        split: which of its splits.
        storage: where the journal goes.
        tracking_uri: the MLflow server or store.
        resources: whether a GPU is to be had.
        parent: the MLflow run that trained the checkpoint.

    Raises:
        ValueError: no such split, or classes or channels that differ from those the checkpoint was trained for.
        CheckpointError: a damaged checkpoint.
    """
    dataset = PackedDataset.open(data)
    dataset.size(split)
    manifest = checkpoint.verify(folder)
    task = ingest.task_of(dataset)
    trained = manifest["task"]
    if (trained["num_classes"], trained["in_channels"]) != (task.num_classes, task.in_channels):
        raise ValueError(
            f"{folder} was trained for {trained['num_classes']} classes of {trained['in_channels']} channels; "
            f"{data} has {task.num_classes} of {task.in_channels}"
        )
    experiment = checkpoint.read_experiment(folder)
    run_id = tracking.open_run(
        tracking_uri,
        tracking.experiment_name(experiment.data),
        f"evaluate-{experiment.id}-{manifest['step']}-{split}-{dataset.fingerprint}-{parent or 'folder'}",
        storage=storage,
        display=f"evaluate {split} {experiment.id} step {manifest['step']}",
        parent=parent,
        tags={
            "miseg.kind": "evaluation",
            "miseg.experiment_id": experiment.id,
            "miseg.method": type(experiment.method).__name__,
            "miseg.data": data,
            "miseg.data_fingerprint": dataset.fingerprint,
        },
        params=tracking.parameters(experiment) | {"split": split},
    )
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name in manifest["sha256"]}
    files[checkpoint.MANIFEST] = (Path(folder) / checkpoint.MANIFEST).read_bytes()
    files.pop("training.pt", None)
    journal = {"folder": journal_folder(storage), "tracking_uri": tracking_uri, "run_id": run_id}
    worker = ray.remote(_measure).options(num_cpus=resources.per_worker["CPU"], num_gpus=int(resources.use_gpu))
    try:
        scores = ray.get(worker.remote(files, data, split, journal, resources.threads))
    except Exception as error:
        tracking.end_run(tracking_uri, run_id, "FAILED", str(error))
        raise
    tracking.end_run(tracking_uri, run_id, "FINISHED", "finished")
    return run_id, scores


def _measure(files: dict[str, bytes], data: str, split: str, journal: dict[str, Any], threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = PackedDataset.open(data)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "checkpoint"
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
        method, experiment, task = checkpoint.open_method(place, device)
        step = checkpoint.verify(place)["step"]
        batches = ingest.evaluation_stream(dataset, split, experiment)
        precision = resolve_precision(experiment.precision, device)
        found = evaluate_batches(method, task, batches, device=device, precision=precision, keep=PANEL_ROWS)
        scores = validation_metrics(found, task.class_names, split)
        log = Journal(**journal)
        log.metrics(step, scores)
        log_evaluation(log, dataset, experiment, found, Path(folder), step=step, split=split)
        log.close()
    return scores
