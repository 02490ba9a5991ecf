"""Lines of progress while a tuning runs: one for each validation and each trial's end."""

from __future__ import annotations

import contextlib
import logging
import pickle
import time
from pathlib import Path
from typing import Any

from ray import tune

from miseg.metric_names import scores_text
from miseg.service.cluster.preemption import PreemptedError


def _is_news(record: logging.LogRecord) -> bool:
    """Whether Tune's log says what `TuningProgress` does not: a preempted trial's whole trace, too."""
    return not (record.exc_info and isinstance(record.exc_info[1], PreemptedError))


logging.getLogger("ray.tune.execution.tune_controller").addFilter(_is_news)


_job_started = time.monotonic()
"""Time at which this job began: search and confirmation, and all cells of a study, have one clock."""


class TuningProgress(tune.Callback):
    """Prints trials as they go.

    Args:
        total: trials expected.
        steps: optimiser steps of a whole trial.
    """

    def __init__(self, total: int, steps: int) -> None:
        self.total, self.steps = total, steps

    def setup(self, *args: Any, total_num_samples: int | None = None, **info: Any) -> None:
        """Tune begins or goes on, perhaps with more trials than were expected."""
        self.total = max(self.total, total_num_samples or 0)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial starts or starts again."""
        self._say(trials, trial, f"starts: {_short(trial.config)}")

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A validation was reported."""
        if "mean_iou" in result:
            self._say(trials, trial, f"step {result.get('step', 0):>5}/{self.steps}  {_scores(result)}")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial ended or was stopped."""
        result = trial.last_result or {}
        early = result.get("step", 0) < self.steps
        self._say(trials, trial, f"{'stopped early' if early else 'done'} at {_scores(result)}")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial failed for good or will be tried again."""
        self._say(trials, trial, f"failed: see {trial.error_file or trial.local_path}")

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial failed or was preempted, and will be tried again."""
        # Tune's own `get_pickled_error` looks in storage, where the file is not yet.
        error: Any = None
        if trial.pickled_error_file:
            with contextlib.suppress(Exception):  # of a type that this process cannot read: no reason to end a tuning
                # It is from this Ray's own folder, where this driver's workers wrote it.
                error = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # noqa: S301
        cause = getattr(error, "cause", error)
        reason = str(cause) if isinstance(cause, PreemptedError) else f"failed: see {trial.error_file}"
        self._say(trials, trial, f"{reason}; it will go on from its last checkpoint")

    def _say(self, trials: list, trial: Any, text: str) -> None:
        # The place in Tune's own list: it stays the same when a tuning is resumed.
        number = next((position for position, other in enumerate(trials, 1) if other.trial_id == trial.trial_id), 0)
        minutes, seconds = divmod(int(time.monotonic() - _job_started), 60)
        print(f"[{minutes:02d}:{seconds:02d}] trial {number}/{self.total}  {text}", flush=True)


def _scores(result: dict[str, Any]) -> str:
    mean_iou, score = (result.get(name, float("nan")) for name in ("mean_iou", "score"))
    return scores_text(mean_iou, score)


def _short(config: dict[str, Any]) -> str:
    return "  ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in config.items()
    )
