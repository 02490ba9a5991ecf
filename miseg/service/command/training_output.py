"""Output of a training for the person who started it: all that `miseg train` prints is here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from miseg.metric_names import scores_text
from miseg.service.terminal.display import TrainingDisplay
from miseg.service.terminal.library_lines import JobLog, worker_lines_to
from miseg.service.training.run import FINISHED, TrainingOutcome

if TYPE_CHECKING:
    from miseg.recipes.experiment import Experiment
    from miseg.service.command.start import Job

LAST_LINES_S = 3.0
"""Seconds that a training's last lines may take from its workers to the driver."""


class TrainingOutput:
    """Lines on a training for the terminal.

    Args:
        shown: whether they are printed; False: by nobody, neither here nor by the training's own processes.
    """

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown

    def say(self, text: str) -> None:
        """Print a text."""
        if self.shown:
            print(text, flush=True)

    def announce(self, experiment: Experiment) -> None:
        """Say what will be trained, before anything slow begins."""
        method = experiment.method
        network = getattr(getattr(method, "network", None), "architecture", "")
        parts = [
            f"{type(method).__name__} on {experiment.data}",
            *([str(network)] if network else []),
            f"{experiment.steps:,} steps of {experiment.batch_size} images",
            f"seed {experiment.seed}",
            f"experiment {experiment.id}",
        ]
        self.say(f"training: {', '.join(parts)}")

    def opened(self, name: str, job: Job, run_id: str) -> None:
        """Say where a training's page is, as soon as there is one."""
        self.say(f"run {name}; its page: {job.look(run_id)}")

    @contextlib.contextmanager
    def fitting(self, steps: int) -> Iterator[None]:
        """While the context lasts, show where the training is, and nothing of what libraries print."""
        if not self.shown or JobLog.log is None:
            yield
            return
        with TrainingDisplay(steps) as display, worker_lines_to(JobLog.log, display.say, display.take):
            yield
            display.wait_for_last(LAST_LINES_S)

    def ended(self, outcome: TrainingOutcome) -> None:
        """Say why a training ended, and its scores."""
        if not math.isnan(outcome.best_mean_iou):
            scores = f"mean IoU {outcome.mean_iou:.4f} (best {outcome.best_mean_iou:.4f})"
        else:
            scores = scores_text(outcome.mean_iou, outcome.score) if outcome.ended == FINISHED else "no validation"
        if outcome.ended == FINISHED:
            self.say(f"finished at step {outcome.step}: {scores}")
        elif outcome.step:  # a sentence of its own
            self.say(f"ended at step {outcome.step} ({scores}): {outcome.ended}")
        else:
            self.say(f"ended without a checkpoint that can be read: {outcome.ended}")

    def recorded(self, job: Job, run_id: str) -> None:
        """Say where a training's run is."""
        self.say(f"MLflow run {run_id} at {job.tracking_uri}; look at it with: {job.look(run_id)}")
