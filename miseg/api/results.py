"""Results of the Python interface: what a run recorded in MLflow, as pandas frames and matplotlib figures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
from mlflow import MlflowClient

from miseg.api import figures
from miseg.api.models import SegmentationModel, opened
from miseg.metric_names import MEAN_IOU, VALIDATION_MEAN_IOU
from miseg.one_class import TELLS, class_of, phrase
from miseg.service.tracking import queries
from miseg.service.training.run import FINISHED
from miseg.service.tuning.tables import METRIC, summaries

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Run

    from miseg.recipes.experiment import Experiment

KEPT = ("train/", "val/")
"""Beginnings of the names of metrics that a history holds; the others are of the machine."""

TROUBLES = {
    "miseg.skipped": "steps were left out, ",
    "miseg.empty": "steps taught nothing, ",
    "miseg.not_compiled": "the networks are not compiled and train as they are: ",
}
"""Tags of a run that tell what a training's own process warned of -> how the sentence begins."""


@dataclass(frozen=True)
class TrainingResult:
    """A training in MLflow.

    Attributes:
        tracking_uri: the MLflow server or store.
        storage: folder or URI of checkpoints.
        run_id: id of its MLflow run.
        experiment: what was trained.
        reused: whether it was trained before, and nothing now.
        plan: the settings that were planned from the data, each with its reason; "" where none was.
    """

    tracking_uri: str
    storage: str
    run_id: str
    experiment: Experiment
    reused: bool = False
    plan: str = field(default="", repr=False)

    @cached_property
    def _run(self) -> Run:
        return MlflowClient(self.tracking_uri).get_run(self.run_id)

    @property
    def name(self) -> str:
        """The run's name, under which a training that was stopped goes on."""
        return str(self._run.data.tags.get(queries.RUN_KEY, ""))

    @property
    def ended(self) -> str:
        """Why it ended: "finished" after its last step."""
        return str(self._run.data.tags.get("miseg.ended", ""))

    @property
    def step(self) -> int:
        """Optimiser steps of its last checkpoint."""
        return int(self._run.data.metrics.get("step", 0))

    @cached_property
    def scores(self) -> dict[str, float]:
        """Scores of the last validation by their names in MLflow, such as "val/mean_iou", in 0..1."""
        return {name: value for name, value in sorted(self._run.data.metrics.items()) if name.startswith("val/")}

    @cached_property
    def history(self) -> pd.DataFrame:
        """Losses and scores by step, a column a metric; NaN at steps at which it was not measured."""
        client = MlflowClient(self.tracking_uri)
        columns = {}
        for name in sorted(self._run.data.metrics):
            if name.startswith(KEPT):
                # Of a step that was logged twice, after a worker was lost, the last counts.
                points = sorted(client.get_metric_history(self.run_id, name), key=lambda point: point.timestamp)
                columns[name] = {point.step: point.value for point in points}
        return pd.DataFrame(columns).sort_index().rename_axis("step")

    @property
    def remarks(self) -> list[str]:
        """Sentences on what went wrong on the way, or makes the scores worthless; empty: nothing."""
        tags = self._run.data.tags
        sentences = [f"{begin}{tags[tag]}" for tag, begin in TROUBLES.items() if tag in tags]
        if only := class_of(tags):
            sentences.append(f"after the last step the model {phrase([only])}: {TELLS}")
        if self.ended != FINISHED:
            sentences.insert(0, f"ended at step {self.step} of {self.experiment.steps}: {self.ended}")
        return sentences

    def plot(self) -> Figure:
        """The loss and the validations' mean IoU by step; without labels the loss alone."""
        return figures.training(self.history, VALIDATION_MEAN_IOU)

    def model(self, role: Literal["best", "last"] = "best") -> SegmentationModel:
        """The trained model, as `miseg.load` opens it: of its best validation, or of its last."""
        return opened(f"runs:/{self.run_id}", role, self.storage, self.tracking_uri)


@dataclass(frozen=True)
class TuningResult:
    """A tuning in MLflow.

    Attributes:
        tracking_uri, storage: as of `TrainingResult`.
        run_id: id of its MLflow run; trials and confirmations are the children.
        name: under which it goes on, with `settings={"resume": True, "name": …}`.
        trials: a row for each trial: its parameters, its score, the step at which it ended, and why.
        confirmation: a row for each confirmed method and seed, with its run's id.
        reused: whether the same was tuned before, and nothing now.
    """

    tracking_uri: str
    storage: str
    run_id: str
    name: str
    trials: pd.DataFrame = field(repr=False)
    confirmation: pd.DataFrame = field(repr=False)
    reused: bool = False

    @property
    def table(self) -> pd.DataFrame:
        """Mean IoU of the confirmed methods over fresh seeds, the best first: mean, min, max and number of seeds.

        Of a seed whose training failed on its way there is no score.
        """
        return self.tables[MEAN_IOU]

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The same of every score; of clusters there are several."""
        return summaries(self.confirmation)

    @property
    def failures(self) -> list[str]:
        """Confirmations that failed, in words."""
        rows = self.confirmation[["row", "seed", "ended"]].itertuples(index=False)
        return [f"{row} seed {seed}: {ended}" for row, seed, ended in rows if ended != FINISHED]

    def plot(self) -> Figure:
        """The score of each trial in its order, and beside it the confirmed methods with their ranges over seeds."""
        return figures.tuning(self.trials, METRIC if METRIC in self.trials else MEAN_IOU, self.table)

    def model(self, row: str | None = None) -> SegmentationModel:
        """The confirmed model with the highest mean IoU, of one row of `table` or of all.

        Raises:
            ValueError: no such row, or none that was trained to its end.
        """
        runs = self.confirmation[(self.confirmation["ended"] == FINISHED) & self.confirmation[MEAN_IOU].notna()]
        runs = runs if row is None else runs[runs["row"] == row]
        if runs.empty:
            rows = ", ".join(self.confirmation["row"].unique())
            raise ValueError(f"row = {row!r}: no finished run of it; there are {rows}")
        return opened(f"runs:/{runs.loc[runs[MEAN_IOU].idxmax(), 'run_id']}", "last", self.storage, self.tracking_uri)


@dataclass(frozen=True)
class StudyResult:
    """A study and its report.

    Attributes:
        tracking_uri: the MLflow server or store.
        name: under which it goes on, with `settings={"resume": True, "name": …}`.
        answer: the report's first paragraph.
        table: a row for each method on each data set: scores in %, the difference to the baseline in points, half the
            width of its interval, and the verdict; as results.csv of the report.
        report: the report's page, in a folder with Markdown, figures and CSV.
        failed: cells whose tuning or measurement failed.
        missing: parts of the plan that are not there.
    """

    tracking_uri: str
    name: str
    answer: str
    table: pd.DataFrame = field(repr=False)
    report: Path
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table of the report by its file's name: results, classes, images, papers, as far as there are."""
        return {path.stem: pd.read_csv(path) for path in sorted(self.report.parent.glob("*.csv"))}

    def plot(self) -> Figure:
        """Differences of mean IoU to the baseline, in points, with their intervals."""
        return figures.differences(self.table)


def recorded_tables(tracking_uri: str, run_id: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trials and the confirmation that a finished tuning keeps in MLflow."""
    client = MlflowClient(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        paths = (client.download_artifacts(run_id, f"{name}.csv", folder) for name in ("trials", "confirmation"))
        trials, confirmation = map(pd.read_csv, paths)
    return trials, confirmation
