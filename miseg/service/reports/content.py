"""Content of a report, table by table: rows, figures, pictures, and how each row is run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.evaluation import report_figures as figures
from miseg.metric_names import VALIDATION_MEAN_IOU
from miseg.recipes.differences import DIFFERENCES, SettingsDifference
from miseg.service.reports.papers import Beside, beside
from miseg.service.reports.pictures import Pictures, pictures
from miseg.service.reports.reported_study import ReportedRow, ReportedStudy, ReportedTable
from miseg.service.reports.search import SearchFigure, searched
from miseg.service.reports.tables import Result, answer, results
from miseg.service.reports.words import data_and_labels, number

MOST_CLASS_PANELS = 8


@dataclass
class Section:
    """All about one table."""

    table: ReportedTable
    title: str
    rows: list[Result]
    differences: str = ""
    curves: str = ""
    classes: str = ""
    class_records: list[dict[str, object]] = field(default_factory=list)
    searches: list[SearchFigure] = field(default_factory=list)
    pictures: Pictures | None = None

    @property
    def has_baseline(self) -> bool:
        """Whether the baseline is measured."""
        return any(row.baseline for row in self.rows)


@dataclass
class Content:
    """All that a report says."""

    study: ReportedStudy
    answer: str
    sections: list[Section]
    papers: dict[str, list[Beside]]
    changed: list[SettingsDifference]
    """Differences of the papers that change a row of this report."""
    others: list[SettingsDifference]

    @property
    def rows(self) -> list[Result]:
        """Every row of every table."""
        return [row for section in self.sections for row in section.rows]

    @property
    def missing(self) -> list[str]:
        """Parts of the plan that MLflow does not have."""
        return [part for section in self.sections for part in section.table.missing]


def content(study: ReportedStudy) -> Content:
    """Everything, read and drawn."""
    client = MlflowClient(study.uri)
    sections = [_section(client, table) for table in study.tables]
    rows = [row for section in sections for row in section.rows]
    recipes = {cell.recipe for table in study.tables for cell in table.cells if cell.recipe}
    changed = [entry for entry in DIFFERENCES if any(entry.changes(recipe) for recipe in recipes)]
    others = [entry for entry in DIFFERENCES if entry not in changed]
    return Content(study, answer(study, rows), sections, beside(rows), changed, others)


def _section(client: MlflowClient, table: ReportedTable) -> Section:
    rows = results(table)
    title = data_and_labels(table)
    section = Section(table, title[:1].upper() + title[1:], rows)
    compared = [row for row in rows if row.difference is not None]
    if compared:
        intervals = [figures.Interval(row.line.name, row.points, row.half, row.told_apart) for row in compared]
        section.differences = figures.differences(intervals, table.baseline)
    lines = [row.line for row in rows]
    if curves := [curve for line in lines if (curve := _curve(client, line)) is not None]:
        section.curves = figures.learning_curves(curves, "mean IoU")
    section.class_records, section.classes = _classes(table, rows)
    section.searches = [search for cell in table.cells if (search := searched(cell)) is not None]
    section.pictures = pictures(client, table, rows)
    return section


def curve(client: MlflowClient, run: Run, metric: str = VALIDATION_MEAN_IOU) -> dict[int, float]:
    """A metric's values by step; of a step that was logged twice the last counts."""
    return {point.step: point.value for point in client.get_metric_history(run.info.run_id, metric)}


def _curve(client: MlflowClient, line: ReportedRow) -> figures.Curve | None:
    """Validations at the steps that every seed has."""
    histories = [curve(client, seeded.run) for seeded in line.seeds.values()]
    steps = sorted(set.intersection(*(set(history) for history in histories))) if histories else []
    if not steps:
        return None
    return figures.Curve(line.name, steps, [[100 * history[step] for history in histories] for step in steps])


def _classes(table: ReportedTable, rows: Sequence[Result]) -> tuple[list[dict[str, object]], str]:
    """The rows of `classes.csv`, and the figure: the baseline first, classes by its IoU."""
    by_row = {row.line.name: [seeded.per_class for seeded in row.line.seeds.values()] for row in rows}
    ordered = sorted(rows, key=lambda row: not row.baseline)
    means = {
        name: {
            key: fmean(of_seed[key] for of_seed in seeds if key in of_seed)
            for key in {key for of_seed in seeds for key in of_seed}
        }
        for name, seeds in by_row.items()
    }
    names = sorted({key for iou_of_rows in means.values() for key in iou_of_rows})
    if not names:
        return [], ""
    first = means[ordered[0].line.name]
    names.sort(key=lambda name: -first.get(name, -1))
    records: list[dict[str, object]] = []
    panels = []
    for row in ordered:
        values = [
            [100 * of_seed[name] for of_seed in by_row[row.line.name] if name in of_seed] or [np.nan] for name in names
        ]
        spans = ([pick(iou_of_rows) for iou_of_rows in values] for pick in (fmean, min, max))
        panels.append(figures.Classes(row.line.name, *spans))
        where = {"data": table.data, **table.labels, "split": table.split, "row": row.line.name}
        for name, iou_of_rows in zip(names, values, strict=True):
            spread = {"iou": fmean(iou_of_rows), "iou_lowest": min(iou_of_rows), "iou_highest": max(iou_of_rows)}
            records.append(where | {"class": name} | {key: number(value) for key, value in spread.items()})
    return records, figures.classes(names, panels[:MOST_CLASS_PANELS])


def address(uri: str, run: Run) -> str:
    """Address of a run's page; empty where MLflow is no server."""
    if not uri.startswith("http"):
        return ""
    return f"{uri.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
