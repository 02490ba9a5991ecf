"""Output of a training for the person who started it: all that `miseg train` prints is here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ray.train import UserCallback

from miseg.metric_names import scores_text
from miseg.service.training.run import FINISHED, TrainingOutcome

if TYPE_CHECKING:
    from miseg.recipes.experiment import Experiment
    from miseg.service.command.start import Job


class Say(UserCallback):
    """Prints a line for each validation: what a person sees while a run trains."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Ray Train calls this with each rank's report."""
        report = metrics[0]
        scores = scores_text(report["mean_iou"], report["score"])
        print(f"step {report['step']:>6}/{self.steps}  {scores}", flush=True)


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

    def callbacks(self, experiment: Experiment) -> list[UserCallback]:
        """Callbacks of Ray Train that follow the training of an experiment."""
        return [Say(experiment.steps)] if self.shown else []

    def ended(self, outcome: TrainingOutcome) -> None:
        """Say why a training ended, and its scores."""
        if not math.isnan(outcome.best_mean_iou):
            scores = f"mean IoU {outcome.mean_iou:.4f} (best {outcome.best_mean_iou:.4f})"
        else:
            scores = scores_text(outcome.mean_iou, outcome.score) if outcome.ended == FINISHED else "no validation"
        self.say(f"{outcome.ended} at step {outcome.step}: {scores}")

    def recorded(self, job: Job, run_id: str) -> None:
        """Say where a training's run is."""
        self.say(f"MLflow run {run_id} at {job.tracking_uri}; look at it with: {job.look(run_id)}")
