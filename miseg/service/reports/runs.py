"""A study, or a tuning without one, as MLflow holds it: nothing that a report is made of is read from elsewhere."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from miseg.data.parquet import check_types
from miseg.evaluation.paired import ImageCounts
from miseg.metric_names import MEAN_IOU, of_split
from miseg.service.reports.alike import keep_alike
from miseg.service.reports.reported_study import ReportedCell, ReportedRow, ReportedStudy, ReportedTable, TrainedSeed
from miseg.service.tracking import study_plan
from miseg.service.tracking.connection import is_away, reachable
from miseg.service.tracking.description import CONFIRMED, SEEDS, TRIALS
from miseg.service.tracking.queries import RUN_KEY, all_pages

# A line a file would bury what the report says.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

SAME = re.compile(r" \((= tuned|many to one)\)$")
"""Pattern of what a tuning adds to the name of a row; see `miseg.service.tuning.tune`."""


def read(uri: str, study: str | None = None, tuning: str | None = None, baseline: str | None = None) -> ReportedStudy:
    """The study or tuning of that name; with neither name the last study, or, where there is none, the last tuning.

    Raises:
        ValueError: there is none, or no row is called as the baseline.
        TrackingError: MLflow does not answer.
    """
    client = MlflowClient(uri)
    with reachable(uri):
        experiment_ids = [
            experiment.experiment_id
            for experiment in all_pages(client.search_experiments)
            if "miseg/" in experiment.name
        ]
        if tuning is None:
            runs = _runs(client, experiment_ids, "tags.`miseg.kind` = 'study'")
            studies = list(dict.fromkeys(run.data.tags.get("miseg.study", "") for run in runs))
            if study is not None and study not in studies:
                raise ValueError(f"no study {study!r} at {uri}; there are: {', '.join(sorted(studies)) or 'none'}")
            if studies:
                name = studies[0] if study is None else study
                return _study(client, uri, name, [run for run in runs if run.data.tags.get("miseg.study") == name])
        runs = _runs(client, experiment_ids, "tags.`miseg.kind` = 'tuning'")
        if tuning is not None:
            runs = [run for run in runs if run.data.tags.get(RUN_KEY) == tuning]
        if not runs:
            subject = f"tuning {tuning!r}" if tuning is not None else "study or tuning"
            raise ValueError(f"no {subject} at {uri}: run `miseg study` or `miseg tune-rmi` first")
        return _tuning(client, uri, runs[0], baseline)


def _study(client: MlflowClient, uri: str, name: str, parents: Sequence[Run]) -> ReportedStudy:
    study = ReportedStudy(name, "study", uri, [])
    tables: dict[tuple[str, str, str, str], ReportedTable] = {}
    plans = [plan for parent in reversed(parents) if (plan := _plan(client, parent))]
    if not plans:
        ids = ", ".join(parent.info.run_id for parent in parents)
        raise ValueError(
            f"study {name!r}, run {ids}, holds no plan.json: `miseg study --resume --name {name}` writes it"
        )
    order = study_plan.data_order(plans)
    for plan in plans:
        study.created = min(filter(None, (study.created, plan.created)), default="")
        for planned in plan.tables:
            labels = planned.data, str(planned.budget), planned.supervision
            table = ReportedTable(*labels, planned.baseline, network=planned.network)
            study.cost.setdefault(table.data, dict(plan.cost))
            table.cells += [
                ReportedCell(
                    cell.id, cell.method, cell.recipe, tuple(cell.rows), cell.trials, cell.steps, cell.confirm_seeds
                )
                for cell in planned.cells
            ]
            tables.setdefault((*labels, table.network), table)
    experiment_ids = list({parent.info.experiment_id for parent in parents})
    runs = [
        run for run in _runs(client, experiment_ids, "tags.`miseg.study` != ''") if run.data.tags["miseg.study"] == name
    ]
    for table in tables.values():
        for cell in table.cells:
            own = [run for run in runs if run.data.tags.get("miseg.cell") == cell.id]
            cell.tuning = next((run for run in own if run.data.tags.get("miseg.kind") == "tuning"), None)
            if cell.tuning is not None:
                cell.tried = [run for run in _children(client, cell.tuning) if CONFIRMED not in run.data.tags]
            _add_lines(table, cell, [run for run in own if _confirmed(run)])
        _measure(client, table, [run for run in runs if run.data.tags.get("miseg.kind") == "evaluation"])
        keep_alike(table)
        _name_missing(table)
    study.tables = sorted(
        tables.values(), key=lambda table: order.index(table.data) if table.data in order else len(order)
    )
    return study


def _tuning(client: MlflowClient, uri: str, parent: Run, baseline: str | None) -> ReportedStudy:
    seed = parent.data.params.get("seed", "0")
    children = _children(client, parent)
    searched = [run for run in children if run.data.params.get("seed") == seed]
    # Those of a winner that an extension overtook are in no row any more; before, confirmations had no tag.
    confirmed = [
        run for run in children if run.data.params.get("seed") != seed and run.data.tags.get(CONFIRMED, "yes") == "yes"
    ]
    data = parent.data.tags.get("miseg.data", "")
    cell = ReportedCell(parent.data.tags.get(RUN_KEY, ""), "", "", (), tuning=parent, tried=searched)
    for name, tag in (("trials", TRIALS), ("confirm_seeds", SEEDS)):
        if (text := parent.data.tags.get(tag, parent.data.params.get(name, ""))).isdigit():
            setattr(cell, name, int(text))
    table = ReportedTable(data, "all", "dense", "", [cell])
    _add_lines(table, cell, confirmed)
    cell.rows = tuple(line.name for line in table.lines)
    keep_alike(table)
    own = [
        line.name for line in table.lines if not re.search(r" (tuned|as published|as planned|by default)\b", line.name)
    ]
    table.baseline = baseline or next(iter(own or cell.rows), "")
    if baseline is not None and SAME.sub("", baseline) not in {SAME.sub("", name) for name in cell.rows}:
        raise ValueError(f"--baseline {baseline!r}: no row of {cell.id} is called so; {', '.join(cell.rows) or 'none'}")
    _name_missing(table)
    return ReportedStudy(cell.id, "tuning", uri, [table])


def _add_lines(table: ReportedTable, cell: ReportedCell, runs: Sequence[Run]) -> None:
    """A line for each row of the cell that was trained to its end on some seed; of a seed's runs the latest."""
    lines: dict[str, ReportedRow] = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        seed = run.data.params.get("seed", "")
        if run.data.tags.get("miseg.ended") != "finished" or not seed.isdigit():
            continue
        name = run.data.tags.get("miseg.row") or _row_of(run.info.run_name, seed)
        method = run.data.tags.get("miseg.method", cell.method)
        line = lines.setdefault(name, ReportedRow(name, cell.id, method, cell.recipe))
        line.seeds[int(seed)] = TrainedSeed(run)
    table.lines += lines.values()


def _row_of(name: str, seed: str) -> str:
    """Row in the name of a confirmation without its tag, in the order of before too."""
    return name.removesuffix(f" seed {seed}").removeprefix(f"seed {seed} ")


def _measure(client: MlflowClient, table: ReportedTable, evaluations: Sequence[Run]) -> None:
    """Put the measurements of the table's split beside their trainings; without any the validations stand."""
    cells = {cell.id for cell in table.cells}
    own = [run for run in evaluations if run.data.tags.get("miseg.cell") in cells]
    own = [run for run in own if of_split(run.data.params.get("split", ""), MEAN_IOU) in run.data.metrics]
    if not own:
        return
    splits = Counter(run.data.params["split"] for run in own)
    table.split = "test" if "test" in splits else splits.most_common(1)[0][0]
    by_training = {}
    for run in sorted(own, key=lambda run: run.info.start_time):
        if run.data.params["split"] == table.split:
            by_training[run.data.tags.get("mlflow.parentRunId")] = run
    for line in table.lines:
        for seeded in line.seeds.values():
            seeded.evaluation, seeded.split = by_training.get(seeded.run.info.run_id), table.split
            if seeded.evaluation is not None:
                seeded.images = _images(client, seeded.evaluation, table.split)
        line.seeds = {seed: seeded for seed, seeded in line.seeds.items() if seeded.evaluation is not None}
    table.lines = [line for line in table.lines if line.seeds]


def _images(client: MlflowClient, run: Run, split: str) -> ImageCounts | None:
    name = f"{split}-images.parquet"
    try:
        if not any(Path(file.path).name == name for file in client.list_artifacts(run.info.run_id, "images")):
            return None
        with tempfile.TemporaryDirectory() as folder:
            columns = pq.read_table(client.download_artifacts(run.info.run_id, f"images/{name}", folder))
            check_types(columns.schema, "id", "counts")
    except (MlflowException, OSError, ValueError, KeyError, pa.ArrowException) as error:
        if is_away(error):
            raise
        print(f"run {run.info.run_id}: images/{name} cannot be read ({str(error).splitlines()[0]})", flush=True)
        return None
    return ImageCounts.of(columns["id"].to_pylist(), columns["counts"].to_pylist())


def _name_missing(table: ReportedTable) -> None:
    for cell in table.cells:
        if cell.tuning is None:
            table.missing.append(f"{cell.id}: not begun")
            continue
        lines = {SAME.sub("", line.name): line for line in table.lines if line.cell == cell.id}
        same = any(line.name.endswith("(= tuned)") for line in table.lines if line.cell == cell.id)
        for row in cell.rows:
            line = lines.get(SAME.sub("", row))
            if line is None and not (same and row.endswith(" tuned")):
                table.missing.append(f"{cell.id}: {row}: no seed measured")
            elif line is not None and cell.confirm_seeds and len(line.seeds) < cell.confirm_seeds:
                table.missing.append(f"{cell.id}: {row}: {len(line.seeds)} of {cell.confirm_seeds} seeds")


def _plan(client: MlflowClient, run: Run) -> study_plan.PlanFile | None:
    """A part of a study's plan; None where a kill came before it was written."""
    try:
        plan, reason = study_plan.read(client, run.info.run_id), "it was not written to its end"
    except (MlflowException, OSError) as error:
        if is_away(error):
            raise
        plan, reason = None, str(error).splitlines()[0]
    if plan is None:
        print(f"study run {run.info.run_id}: no plan.json that can be read ({reason})", flush=True)
    return plan


def _confirmed(run: Run) -> bool:
    return run.data.tags.get(CONFIRMED) == "yes"


def _children(client: MlflowClient, parent: Run) -> list[Run]:
    which = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = _runs(client, [parent.info.experiment_id], which)
    return sorted(
        (run for run in children if run.data.tags.get("miseg.kind") == "trial"), key=lambda r: r.info.start_time
    )


def _runs(client: MlflowClient, experiment_ids: Sequence[str], filter_string: str) -> list[Run]:
    """Every run that a filter finds, the latest first."""
    if not experiment_ids:
        return []
    return all_pages(
        client.search_runs,
        experiment_ids=list(experiment_ids),
        filter_string=filter_string,
        order_by=["start_time DESC"],
    )
