"""Metrics of a tuning for Prometheus, while its driver runs it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray import tune

from miseg.service.cluster import metrics

STATES = ("pending", "running", "done", "stopped", "failed")


class TuningMetrics(tune.Callback):
    """Counts the trials of one phase of a tuning.

    Args:
        labels: of `metrics.TUNING`.
        total: trials expected.
        steps: optimiser steps of a whole trial.
    """

    def __init__(self, labels: Mapping[str, str], total: int, steps: int) -> None:
        self.labels, self.total, self.steps = dict(labels), total, steps
        self._best = -math.inf

    def setup(self, *args: Any, total_num_samples: int | None = None, **info: Any) -> None:
        """Tune begins or goes on, perhaps with more trials than were expected."""
        self.total = max(self.total, total_num_samples or 0)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial starts or starts again."""
        self._count(trials)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A validation was reported."""
        self._best = max(self._best, result.get("mean_iou", -math.inf))
        # Without labels there is none.
        if math.isfinite(self._best):
            metrics.put("miseg_tuning_best_mean_iou_ratio", self.labels, self._best)
        self._count(trials)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial ended or was stopped."""
        self._count(trials)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial failed for good."""
        metrics.add("miseg_faults", self.labels | {"kind": "trial_failure"})
        self._count(trials)

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial failed or was preempted, and will be tried again."""
        metrics.add("miseg_faults", self.labels | {"kind": "trial_retry"})
        self._count(trials)

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        """The phase is over; its driver may go on to the next."""
        self._count(trials)
        metrics.put("miseg_tuning_active", self.labels, 0)
        metrics.forget(self.labels, "miseg_tuning")

    def _count(self, trials: list) -> None:
        metrics.put("miseg_tuning_active", self.labels, 1)
        metrics.put("miseg_tuning_planned_trials", self.labels, self.total)
        metrics.put("miseg_tuning_progress_timestamp_seconds", self.labels, time.time())
        counts = Counter(map(self._state, trials))
        for state in STATES:
            metrics.put("miseg_tuning_trials", self.labels | {"state": state}, counts[state])

    def _state(self, trial: Any) -> str:
        if trial.status == "RUNNING":
            return "running"
        if trial.status == "ERROR":
            return "failed"
        if trial.status != "TERMINATED":
            return "pending"
        whole = (trial.last_result or {}).get("step", 0) >= self.steps
        return "done" if whole else "stopped"
