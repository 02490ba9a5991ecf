"""Record of a study in MLflow: its plan, and which cells and evaluations are done.

In each data set's experiment a study has a run of its own, with the part of the plan that is on this data set; the
tunings are its children.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from miseg.data.packed.dataset import PackedDataset
from miseg.metric_names import CLASS_CLDICE
from miseg.recipes.study import StudyCell, StudyTable
from miseg.service.evaluation.evaluate import THIN
from miseg.service.study.plan import Devices, StudyPlan, from_file, to_file
from miseg.service.tracking import mlflow_runs, study_plan, views
from miseg.service.tracking.description import CONFIRMED, SPLIT
from miseg.service.tracking.description import SEEDS as SEEDS_PLANNED
from miseg.service.tracking.pages import datasets
from miseg.service.tracking.queries import all_pages
from miseg.service.tracking.run_store import RunDetails, RunStore
from miseg.service.training.run import FINISHED

SEEDS = "miseg.confirmed_seeds"
"""Tag of a cell's tuning that was finished: on how many seeds its rows were confirmed."""


BASELINES = "miseg.baselines"
"""Tag of a study's run: the row of each table that its others are measured against."""


def find(uri: str, name: str | None) -> StudyPlan | None:
    """The plan of the study called `name`, or of the one that was started last; None where there is none.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with mlflow_runs.reachable(uri):
        runs = _runs(uri, "tags.`miseg.kind` = 'study'" + (f" and tags.`miseg.study` = '{name}'" if name else ""))
        if not runs:
            return None
        latest = max(runs, key=lambda run: run.info.start_time).data.tags["miseg.study"]
        study_runs = [run for run in runs if run.data.tags["miseg.study"] == latest]
        client = MlflowClient(uri)
        files = [file for run in study_runs if (file := study_plan.read(client, run.info.run_id))]
    order = study_plan.data_order(files)
    parts = sorted(map(from_file, files), key=lambda part: order.index(part.data[0]))
    missing = set(order) - {data for part in parts for data in part.data}
    if missing or not parts:
        names = ", ".join(sorted(missing)) or "any data"
        print(f"study {latest} ended before its plan on {names} was kept: add it again with --data", flush=True)
    throughput = {cell: speed for part in parts for cell, speed in part.throughput.items()}
    created = min((part.created for part in parts), default="")
    return StudyPlan(latest, created, tuple(table for part in parts for table in part.tables), throughput)


def name_of(plan: StudyPlan) -> str:
    """Name of the study's runs."""
    return f"study-{plan.study}"


def open_run(
    store: RunStore, plan: StudyPlan, data: str, devices: Devices, split: str, dataset: PackedDataset | None = None
) -> str:
    """The id of the study's run on one data set, set running, with its part of the plan, and with its splits."""
    part = plan.of_data(data)
    cells = [name for _, _, name in part.cells]
    details = RunDetails(
        f"study {plan.study}",
        tags={"miseg.kind": "study", "miseg.study": plan.study, "miseg.data": data, SPLIT: split},
        params=_parameters(part, data) | {"split": split},
        description=f"{len(cells)} cells: {', '.join(cells)}",
        datasets=() if dataset is None else _inputs(dataset, part, data, split),
    )
    uri = store.tracking_uri
    run_id = mlflow_runs.open_run(store, mlflow_runs.experiment_name(data), name_of(plan), details)
    # Parameters do not change, and these grow with the study.
    grown = {
        SEEDS_PLANNED: "; ".join(f"{table.id}: {table.confirm_seeds}" for table in part.tables),
        BASELINES: "; ".join(f"{table.id}: {table.baseline_row}" for table in part.tables),
    }
    mlflow_runs.log_metrics(uri, run_id, {}, tags=grown | {SPLIT: split})
    study_plan.log(uri, run_id, to_file(plan, data, devices, split))
    mlflow_runs.patiently(uri, f"the view of study {plan.study}", partial(views.save, uri, run_id))
    return run_id


def _inputs(dataset: PackedDataset, part: StudyPlan, data: str, split: str) -> list[DatasetInput]:
    """Entries of the splits that a study trains, validates and measures on."""
    validations = (cell.base.validation_split(dataset.splits) for _, cell, _ in part.cells)
    splits = {"train": "train"} | {validation: "validation" for validation in validations if validation}
    return datasets.inputs(dataset, data, {split: "test"} | splits)


def _parameters(part: StudyPlan, data: str) -> dict[str, str]:
    """Parameters of a study's run: what its tables on one data set were planned with, none of which can change."""
    parameters: dict[str, object] = {"data": data}
    for table in part.tables:
        budget = budget_name(table)
        settings = ("trials", "seed", "selection")
        parameters |= {f"{budget}/{name}": getattr(table, name) for name in settings}
        parameters |= {f"{budget}/{cell.method}/steps": cell.base.steps for cell in table.cells}
    return {name: str(value) for name, value in parameters.items()}


def budget_name(table: StudyTable) -> str:
    """A table's labels and network in names of parameters and metrics, such as all-dense: see `StudyTable.id`."""
    start = table.cell_id(table.cells[0]).rpartition("/")[0]
    return f"{start.removeprefix(f'{table.name}/')}-{table.supervision}"


def done(uri: str, plan: StudyPlan) -> dict[str, int]:
    """On how many seeds each cell that was tuned to its end was confirmed, by the cells' ids."""
    tunings = _runs(uri, f"tags.`miseg.kind` = 'tuning' and tags.`miseg.study` = '{plan.study}'")
    return {
        run.data.tags["miseg.cell"]: int(run.data.tags[SEEDS])
        for run in tunings
        if run.info.status == "FINISHED" and SEEDS in run.data.tags
    }


def confirmations(uri: str, plan: StudyPlan, table: StudyTable, cell: StudyCell) -> list[Run]:
    """The runs that confirmed a cell and got to their last step, on the seeds that are planned."""
    name = table.cell_id(cell)
    seeds = {str(cell.base.seed + 1 + index) for index in range(table.confirm_seeds)}
    return [
        run
        for run in _confirmed(uri, plan)
        if run.data.tags.get("miseg.cell") == name
        and run.data.tags.get("miseg.ended") == FINISHED
        and run.data.params.get("seed") in seeds
    ]


def evaluations(uri: str, plan: StudyPlan) -> dict[str, Run]:
    """The study's finished evaluations, by the confirmation that each measured; the latest of one, as in its report."""
    filter_string = f"tags.`miseg.kind` = 'evaluation' and tags.`miseg.study` = '{plan.study}'"
    runs = sorted(_runs(uri, filter_string), key=lambda run: run.info.start_time)
    return {run.data.tags["mlflow.parentRunId"]: run for run in runs if run.info.status == "FINISHED"}


def thin(evaluation: Run) -> list[str]:
    """The classes whose clDice an evaluation has."""
    named: list[str] = json.loads(evaluation.data.tags.get(THIN, "[]"))
    # Without the tag, of an earlier version: a thin class that does not occur has no score.
    scored = [metric.rsplit("/", 1)[1] for metric in evaluation.data.metrics if f"/{CLASS_CLDICE}/" in metric]
    return [*named, *(name for name in scored if name not in named)]


def rows_confirmed(uri: str, plan: StudyPlan) -> dict[str, int]:
    """Numbers of rows that cells confirmed so far, by the cells' ids: 1 where the default won its own search."""
    rows: dict[str, set[str]] = {}
    for run in _confirmed(uri, plan):
        rows.setdefault(run.data.tags["miseg.cell"], set()).add(run.data.tags["miseg.row"])
    return {cell: len(names) for cell, names in rows.items()}


def results(uri: str, plan: StudyPlan, split: str, data: str) -> list[tuple[StudyTable, pd.DataFrame]]:
    """Results of the evaluations on a data set: for each table a frame with `row`, `seed` and the scores.

    A row is of those that stand in it now: where trials were repeated, another may have won than was measured before.
    """
    row_of = {run.info.run_id: run.data.tags["miseg.row"] for run in _confirmed(uri, plan)}
    measured = [(row_of[parent], run) for parent, run in evaluations(uri, plan).items() if parent in row_of]
    tables = []
    for table in plan.of_data(data).tables:
        cells = {table.cell_id(cell) for cell in table.cells}
        rows: list[dict[str, Any]] = [
            {"row": row, "seed": int(run.data.params["seed"])}
            | {key.removeprefix(f"{split}/"): value for key, value in run.data.metrics.items()}
            for row, run in measured
            if run.data.tags["miseg.cell"] in cells
        ]
        tables.append((table, pd.DataFrame(rows)))
    return tables


def _confirmed(uri: str, plan: StudyPlan) -> list[Run]:
    """The confirmations that stand in a row of a study's tables."""
    trials = _runs(uri, f"tags.`miseg.kind` = 'trial' and tags.`miseg.study` = '{plan.study}'")
    return [run for run in trials if run.data.tags.get(CONFIRMED) == "yes"]


def _runs(uri: str, filter_string: str) -> list[Run]:
    """In all experiments."""
    client = MlflowClient(uri)
    with mlflow_runs.reachable(uri):
        experiments = [experiment.experiment_id for experiment in all_pages(client.search_experiments)]
        if not experiments:
            return []
        return all_pages(client.search_runs, experiment_ids=experiments, filter_string=filter_string)
