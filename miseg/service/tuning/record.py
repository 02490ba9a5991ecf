"""A tuning's own run in MLflow: how it is opened, its tables and its description, and the models that it found."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from mlflow import MlflowClient

from miseg.data.packed.dataset import PackedDataset
from miseg.metric_names import MEAN_IOU, validation_metric
from miseg.recipes.experiment import Experiment
from miseg.recipes.planning.plan import PLAN
from miseg.service.checkpoints.fencing import Writer
from miseg.service.journal import generations
from miseg.service.journal.journal import CLOSING_TIMEOUT, Journal, journal_folder
from miseg.service.journal.registering import register as register_model
from miseg.service.remarks import remark
from miseg.service.tracking import mlflow_runs, queries, registry, views
from miseg.service.tracking.description import CONFIRMED, parameter_name
from miseg.service.tracking.pages import datasets
from miseg.service.tracking.pages import tables as logged_tables
from miseg.service.tracking.run_store import RunDetails
from miseg.service.training.run import FINISHED
from miseg.service.tuning import description, resuming
from miseg.service.tuning.tables import MANY_TO_ONE, METRIC, SAME_AS_TUNED, summaries

if TYPE_CHECKING:
    from miseg.service.tuning.tuning import Tuning


def open_run(tuning: Tuning) -> str:
    """The id of the tuning's MLflow run, set running, with its view; waits for a server that is away."""
    details = RunDetails(
        parent=tuning.parent,
        tags={
            "miseg.kind": "tuning",
            "miseg.data": tuning.base.data,
            "miseg.experiment_id": tuning.base.id,
            views.SEARCHED: ",".join(parameter_name(knob, tuning.base) for knob in tuning.grid or tuning.default_point),
        }
        | ({PLAN: tuning.plan} if tuning.plan else {})
        | dict(tuning.tags),
        params={"trials": str(tuning.points), "confirm_seeds": str(tuning.confirm_seeds), "seed": str(tuning.seed)}
        | {"selection": tuning.selection, views.STEPS: str(tuning.base.steps)},
        description=description.planned(tuning),
        datasets=datasets.of_training(PackedDataset.open(tuning.data), tuning.base),
    )
    experiment_name = mlflow_runs.experiment_name(tuning.base.data)
    opened = partial(mlflow_runs.open_run, tuning.store, experiment_name, tuning.name, details)
    run_id = mlflow_runs.patiently(tuning.tracking_uri, f"opening tuning {tuning.name}", opened)
    begun = partial(resuming.log, tuning.tracking_uri, run_id, tuning)
    mlflow_runs.patiently(tuning.tracking_uri, f"the settings of {tuning.name}", begun)
    mlflow_runs.patiently(tuning.tracking_uri, f"taking up {tuning.name}", partial(_take_up, tuning, run_id))
    viewed = partial(views.save, tuning.tracking_uri, run_id)
    mlflow_runs.patiently(tuning.tracking_uri, f"the view of {tuning.name}", viewed)
    return run_id


def _take_up(tuning: Tuning, run_id: str) -> None:
    """Count this opening: an end that an earlier one logged, and that waits on another machine, ends it no more."""
    taken = generations.GenerationStart(_drive(tuning, run_id).generation)
    MlflowClient(tuning.tracking_uri).set_tag(run_id, generations.TAG, taken.tag)


def _drive(tuning: Tuning, run_id: str) -> Writer:
    path = Path(journal_folder(tuning.storage)) / f"{run_id}.jsonl"
    return generations.drive(tuning.below(tuning.name), path, tuning.tracking_uri, run_id)


def name_rows(tuning: Tuning, parent: str, confirmation: pd.DataFrame) -> None:
    """Give each confirmed run the row that it now stands in, and take out those of a winner that is none any more.

    A tuning that was extended may have another winner: its table in MLflow then says the same as the one printed.
    """
    uri, experiment_name = tuning.tracking_uri, mlflow_runs.experiment_name(tuning.base.data)
    rows = dict(zip(confirmation["run_id"], confirmation["row"].str.removesuffix(MANY_TO_ONE), strict=True))
    for run in queries.children(uri, experiment_name, parent):
        if run.data.tags.get(CONFIRMED) is None:
            continue
        row = rows.get(run.info.run_id)
        tags = {CONFIRMED: "no"} if row is None else {CONFIRMED: "yes", "miseg.row": row}
        if any(run.data.tags.get(key) != value for key, value in tags.items()):
            mlflow_runs.log_metrics(uri, run.info.run_id, {}, tags=tags)


def register(tuning: Tuning, confirmation: pd.DataFrame, rows: Mapping[str, Experiment]) -> dict[str, str]:
    """Register, of each method that was confirmed, the model with the best score; the runs by the models' names.

    Not the trials': their seed is the one that they were selected on, and there are many of them.
    """
    method = {row: type(experiment.method).__name__ for row, experiment in rows.items()}
    finished_runs = confirmation[(confirmation["ended"] == FINISHED) & confirmation[METRIC].notna()]
    runs_by_name = {}
    for method_name, runs in finished_runs.groupby(finished_runs["row"].str.removesuffix(MANY_TO_ONE).map(method)):
        name = registry.name_of(str(method_name), tuning.base.data)
        run_id = str(runs.loc[runs[METRIC].idxmax(), "run_id"])
        register_model(
            tuning.storage, tuning.tracking_uri, run_id, name, tuning.data, validation_metric(tuning.selection)
        )
        runs_by_name[name] = run_id
    return runs_by_name


def results(trials: pd.DataFrame, confirmation: pd.DataFrame, tuned: str) -> dict[str, float]:
    """Results of a tuning as metrics of its own run.

    Returns:
        `confirmed/<score>/<row>`, the mean over seeds of each row, and `search/mean_iou`, the highest of a whole
        trial, whose seed it was selected on; without what is not known. A row that is the winner too has both names,
        the winner's being `tuned`, so that tunings are compared by the same metrics.
    """
    metrics = {
        f"confirmed/{score}/{name}": mean
        for score, table in summaries(confirmation).items()
        for row, mean in zip(table["row"], table["mean"], strict=True)
        for name in _names_of(row, tuned)
    }
    if MEAN_IOU in trials:
        metrics[f"search/{MEAN_IOU}"] = trials.loc[trials["ended"] == FINISHED, MEAN_IOU].max()
    return {name: float(value) for name, value in metrics.items() if not math.isnan(value)}


def _names_of(row: str, tuned: str) -> list[str]:
    own, same, end = row.partition(SAME_AS_TUNED)
    return [own + end, tuned + end] if same else [row]


def record(
    tuning: Tuning,
    parent: str,
    trials: pd.DataFrame,
    confirmation: pd.DataFrame,
    rank_correlation: float | None,
    registered: Sequence[str],
) -> None:
    """Keep the tables and close the parent run; a server that is away gets them later, and the user sees them now."""
    labels = tuning.labels | {"run": tuning.name}
    writer = _drive(tuning, parent)
    journal = Journal(journal_folder(tuning.storage), tuning.tracking_uri, parent, labels=labels, writer=writer)
    tables = {"trials": trials, "confirmation": confirmation}
    for score, table in summaries(confirmation).items():
        tables["summary" if score == "mean_iou" else f"summary-{score.replace('/', '-')}"] = table
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            path = Path(folder) / f"{name}.csv"
            table.to_csv(path, index=False)
            journal.artifact(path)
            journal.artifact(logged_tables.write(Path(folder), name, table))
    journal.tags(logged_tables.tag(f"{name}.json" for name in tables))
    scores = {} if rank_correlation is None else {"rank_correlation": rank_correlation}
    journal.metrics(0, scores | results(trials, confirmation, tuning.tuned))
    concurrent = resuming.concurrent(tuning, parent)
    models = [f"`models:/{name}@{registry.BEST}`" for name in registered]
    journal.tags({"mlflow.note.content": description.finished(tuning, trials, confirmation, models, concurrent)})
    journal.end("FINISHED", FINISHED)
    if not journal.close(CLOSING_TIMEOUT):
        remark(f"{journal.problem}: `miseg sync` sends the tables later")
