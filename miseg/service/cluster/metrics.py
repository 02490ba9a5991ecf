"""Metrics for Prometheus: counters and gauges that Ray exports on the metrics port of every node.

Names and units are Prometheus' (base units; a ratio is 0..1; a time is in seconds since 1970). Ray puts `ray_` before
them and `_total` behind counters. A counter keeps its value on the node when its process ends. Ray exports a gauge only
where it was set in the last ten seconds, so a thread sets those again that `put` was told, until `forget` or the end of
the process: a run that stalls would else vanish in place of showing. Where this process has no Ray, nothing is counted
and nothing fails.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from miseg.file_names import last_name
from miseg.metric_names import MEAN_IOU, OBJECTIVE, PIXEL_ACCURACY, of_split

if TYPE_CHECKING:
    from miseg.recipes.experiment import Experiment

logger = logging.getLogger(__name__)

RUN = ("study", "tuning", "run", "method", "data")
"""Labels of what belongs to a run. `run` is its name in storage, which MLflow has as the tag `miseg.run`; where that is
not known, MLflow's id."""

TUNING = ("study", "tuning", "phase", "data")
"""Labels of what belongs to a tuning; `phase` is search or confirm."""

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "miseg_training_steps": ("Optimiser steps made.", RUN),
    "miseg_training_images": ("Images trained on, by all workers of a run.", RUN),
    "miseg_training_seconds": (
        "Wall time of a training by part: data (waiting for batches), compute (until the losses are read from the "
        "device), record (writing them down), validation.",
        (*RUN, "part"),
    ),
    "miseg_checkpoints": ("Checkpoints written.", RUN),
    "miseg_checkpoint_seconds": ("Time that writing checkpoints took, beside the training.", RUN),
    "miseg_faults": (
        "What went wrong, by kind: non_finite_loss (it ended the run), skipped_step, empty_step (no pixel counted), "
        "preemption, restart (taken up again from a checkpoint), storage (a checkpoint could not be written), "
        "trial_failure, trial_retry, controller.",
        (*RUN, "kind"),
    ),
    "miseg_tracking_failures": ("Times that MLflow was asked in vain to take what a run logs.", RUN),
    "miseg_decoded_images": ("Images that decoding tasks delivered.", ("data",)),
    "miseg_decoding_seconds": ("Time that decoding tasks worked: reading, decoding, augmenting.", ("data",)),
}

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "miseg_run_active": ("1 while a run trains, then 0; `run_id` is MLflow's.", (*RUN, "run_id")),
    "miseg_run_progress_ratio": ("Share of its steps that a run has made.", RUN),
    "miseg_run_progress_timestamp_seconds": ("When a run last got on: a step's losses, or a validation.", RUN),
    "miseg_training_loss": ("The loss of the last step that was read.", RUN),
    "miseg_learning_rate": ("The learning rate of that step.", RUN),
    "miseg_validation_mean_iou_ratio": ("Mean IoU of the last validation.", (*RUN, "split")),
    "miseg_validation_pixel_accuracy_ratio": ("Pixel accuracy of the last validation.", (*RUN, "split")),
    "miseg_validation_objective": ("The objective on held-out images, of methods without labels.", (*RUN, "split")),
    "miseg_gpu_memory_bytes": (
        "What PyTorch holds of the first worker's GPU, by kind: allocated, or its peak since the training began.",
        (*RUN, "kind"),
    ),
    "miseg_tracking_backlog_bytes": ("What MLflow does not have of a run's journal.", RUN),
    "miseg_tracking_waiting_timestamp_seconds": ("When the oldest of it was written; 0 where nothing waits.", RUN),
    "miseg_tuning_active": ("1 while a tuning's phase is at work, then 0.", TUNING),
    "miseg_tuning_planned_trials": ("Trials of the whole phase.", TUNING),
    "miseg_tuning_trials": ("Trials by state: pending, running, done, stopped (early), failed.", (*TUNING, "state")),
    "miseg_tuning_best_mean_iou_ratio": ("The best mean IoU that a trial has reported.", TUNING),
    "miseg_tuning_progress_timestamp_seconds": ("When a trial last started, reported or ended.", TUNING),
}

Item = TypeVar("Item")

REFRESH_S = 5.0
"""Seconds between two settings of a gauge whose value stays."""

_metrics: dict[str, Any] = {}
_gauge_values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
"""The gauges' values, by name and labels."""
_refreshing: list[threading.Thread] = []
_lock = threading.Lock()


def run_labels(name: str, experiment: Experiment, tags: Mapping[str, str]) -> dict[str, str]:
    """Labels of `RUN` for the run `name` with its tags in MLflow."""
    return {
        "study": tags.get("miseg.study", ""),
        "tuning": tags.get("miseg.tuning", ""),
        "run": name,
        "method": type(experiment.method).__name__,
        "data": data_label(experiment.data),
    }


def data_label(name: str) -> str:
    """Label of a data set: its name, or the last part of its folder's path or URI."""
    return last_name(name)


def ascii_label(text: str) -> str:
    """A label's value as Ray takes it, which knows ASCII alone: `Straße` as `Stra\\xdfe`."""
    return text.encode("ascii", "backslashreplace").decode()


def add(name: str, labels: Mapping[str, str], value: float = 1.0) -> None:
    """Count `value` more; nothing where it is not above 0.

    Args:
        name: one of `COUNTERS`.
        labels: of this metric's; those that are left out are empty.
        value: in the metric's unit.
    """
    if value > 0 and _connected():
        _record(name, labels, value)


def put(name: str, labels: Mapping[str, str], value: float) -> None:
    """Set one of `GAUGES` to `value`, until `forget`; nothing where it is not finite."""
    if math.isfinite(value) and _connected():
        with _lock:
            _gauge_values[name, frozenset(labels.items())] = value
            if not _refreshing:
                _refreshing.append(threading.Thread(target=_refresh, name="miseg-metrics", daemon=True))
                _refreshing[0].start()
        _record(name, labels, value)


def forget(labels: Mapping[str, str], prefix: str = "") -> None:
    """Export the gauges with these labels, and names that start so, no longer."""
    with _lock:
        for name, gauge_labels in list(_gauge_values):
            if gauge_labels >= labels.items() and name.startswith(prefix):
                del _gauge_values[name, gauge_labels]


def _refresh() -> None:
    while True:
        time.sleep(REFRESH_S)
        if _connected():
            _set_again()


def _set_again() -> None:
    with _lock:
        values = list(_gauge_values.items())
    for (name, labels), value in values:
        if _gauge_values.get((name, labels)) == value:  # not forgotten, nor set anew, since
            _record(name, dict(labels), value)


def _connected() -> bool:
    # Not imported here: what knows no Ray does not come to know it by being counted.
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _record(name: str, labels: Mapping[str, str], value: float) -> None:
    try:
        metric, keys = _metric(name)
        tags = {key: ascii_label(labels.get(key, "")) for key in keys}
        metric.inc(value, tags) if name in COUNTERS else metric.set(value, tags)
    except Exception as error:  # a number for a dashboard is no reason to stop a training
        logger.warning("the metric %s is not exported: %s", name, error)


def _metric(name: str) -> tuple[Any, tuple[str, ...]]:
    # Only where something is measured: it brings Ray along.
    from ray.util import metrics

    description, keys = (COUNTERS | GAUGES)[name]
    with _lock:
        if name not in _metrics:
            make = metrics.Counter if name in COUNTERS else metrics.Gauge
            _metrics[name] = make(name, description, keys)
    return _metrics[name], keys


class Waited(Generic[Item]):
    """Hands items on, and sums up how long was waited for them.

    Attributes:
        seconds: waited so far.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        started = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - started


class RunMetrics:
    """A training's own metrics.

    Args:
        labels: of `RUN`.
        run_id: MLflow's.
    """

    def __init__(self, labels: Mapping[str, str], run_id: str) -> None:
        self.labels = {"run": run_id} | dict(labels)
        self._run_id_labels = self.labels | {"run_id": run_id}
        put("miseg_run_active", self._run_id_labels, 1)
        self._mark_progress()

    def flushed(self, progress: float, steps: int, images: int, last: Mapping[str, float]) -> None:
        """The training got on.

        Args:
            progress: share of its steps that it has made, 0..1.
            steps: made since the last call.
            images: trained on since then.
            last: the last step's losses and learning rate, by their names in MLflow.
        """
        add("miseg_training_steps", self.labels, steps)
        add("miseg_training_images", self.labels, images)
        put("miseg_run_progress_ratio", self.labels, progress)
        for name, key in (("miseg_training_loss", "train/loss"), ("miseg_learning_rate", "train/learning_rate")):
            put(name, self.labels, last.get(key, math.nan))
        self._mark_progress()
        self._gpu_memory()

    def spent(self, **seconds: float) -> None:
        """So much of the training's time went by since the last call, by part: see `COUNTERS`."""
        for part, value in seconds.items():
            add("miseg_training_seconds", self.labels | {"part": part}, value)

    def validated(self, scores: Mapping[str, float], split: str = "val") -> None:
        """A validation's scores, by their names in MLflow."""
        for name, key in (
            ("miseg_validation_mean_iou_ratio", MEAN_IOU),
            ("miseg_validation_pixel_accuracy_ratio", PIXEL_ACCURACY),
            ("miseg_validation_objective", OBJECTIVE),
        ):
            put(name, self.labels | {"split": split}, scores.get(of_split(split, key), math.nan))
        self._mark_progress()

    def fault(self, kind: str) -> None:
        """Something went wrong; `kind` is one of those that `COUNTERS` describes."""
        add("miseg_faults", self.labels | {"kind": kind})

    def wrote_checkpoint(self, seconds: float) -> None:
        """A checkpoint is written; it took so long."""
        add("miseg_checkpoints", self.labels)
        add("miseg_checkpoint_seconds", self.labels, seconds)

    def close(self) -> None:
        """The training has ended here; its process may go on with the next one."""
        put("miseg_run_active", self._run_id_labels, 0)
        forget({"run": self.labels["run"]})

    def _mark_progress(self) -> None:
        put("miseg_run_progress_timestamp_seconds", self.labels, time.time())

    def _gpu_memory(self) -> None:
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return
        kinds = {"allocated": torch.cuda.memory_allocated(), "peak": torch.cuda.max_memory_allocated()}
        for kind, value in kinds.items():
            put("miseg_gpu_memory_bytes", self.labels | {"kind": kind}, value)
