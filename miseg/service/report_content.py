"""What a report shows of each table: its rows, figures and pictures, and how each row is run again."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from PIL import Image

from miseg.evaluation import report_figures as figures
from miseg.evaluation.disagreement import disagreement
from miseg.evaluation.paired import ImageCounts
from miseg.recipes.differences import DIFFERENCES, Difference
from miseg.service import report_runs
from miseg.service.report_runs import Cell, Found, Line, Table
from miseg.service.report_tables import Beside, Result, answer, baseline_of, beside, number, place, results

ENOUGH_TRIALS = 4
"""Whole trials below which importances would be of chance alone."""

LOG_RANGE = 20
"""A positive parameter whose trials lie further apart than this factor is shown on a log scale."""

MOST_CLASS_PANELS = 8

EXTREMES = 3
"""Images named on each side where two rows differ most."""


@dataclass
class Search:
    """What a cell's trials say of its parameters."""

    cell: Cell
    figure: str
    note: str


@dataclass
class Pictures:
    """Two rows on the same images."""

    row: str
    baseline: str
    seed: int
    picture: str = ""
    """A data URI."""
    apart: float | None = None
    """Share of counted pixels where one is right and the other is not, 0..1."""
    images: list[dict[str, object]] = field(default_factory=list)
    """Rows of `images.csv`: every image, the largest gain over the baseline first."""


@dataclass
class Section:
    """All about one table."""

    table: Table
    title: str
    rows: list[Result]
    differences: str = ""
    curves: str = ""
    classes: str = ""
    class_records: list[dict[str, object]] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    pictures: Pictures | None = None

    @property
    def has_baseline(self) -> bool:
        """Whether the baseline is measured."""
        return any(row.baseline for row in self.rows)


@dataclass
class Content:
    """All that a report says."""

    found: Found
    answer: str
    sections: list[Section]
    papers: dict[str, list[Beside]]
    changed: list[Difference]
    """Differences of the papers that change a row of this report."""
    others: list[Difference]

    @property
    def rows(self) -> list[Result]:
        """Every row of every table."""
        return [row for section in self.sections for row in section.rows]

    @property
    def missing(self) -> list[str]:
        """What the plan has and MLflow has not."""
        return [what for section in self.sections for what in section.table.missing]


def content(found: Found) -> Content:
    """Everything, read and drawn."""
    client = MlflowClient(found.uri)
    sections = [_section(client, table) for table in found.tables]
    rows = [row for section in sections for row in section.rows]
    recipes = {cell.recipe for table in found.tables for cell in table.cells if cell.recipe}
    changed = [one for one in DIFFERENCES if any(one.changes(recipe) for recipe in recipes)]
    others = [one for one in DIFFERENCES if one not in changed]
    return Content(found, answer(found, rows), sections, beside(rows), changed, others)


def data_uri(kind: str, data: bytes) -> str:
    """A file as the address of itself."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _section(client: MlflowClient, table: Table) -> Section:
    rows = results(table)
    title = place(table)
    section = Section(table, title[:1].upper() + title[1:], rows)
    compared = [row for row in rows if row.difference is not None]
    if compared:
        intervals = [figures.Interval(row.line.name, row.points, row.half, row.told_apart) for row in compared]
        section.differences = figures.differences(intervals, table.baseline)
    lines = [row.line for row in rows]
    if curves := [curve for line in lines if (curve := _curve(client, line)) is not None]:
        section.curves = figures.learning_curves(curves, "mean IoU")
    section.class_records, section.classes = _classes(table, rows)
    section.searches = [search for cell in table.cells if (search := _search(cell)) is not None]
    section.pictures = _pictures(client, table, rows)
    return section


def _curve(client: MlflowClient, line: Line) -> figures.Curve | None:
    """Validations at the steps that every seed has."""
    histories = [report_runs.curve(client, seeded.run) for seeded in line.seeds.values()]
    steps = sorted(set.intersection(*(set(history) for history in histories))) if histories else []
    if not steps:
        return None
    return figures.Curve(line.name, steps, [[100 * history[step] for history in histories] for step in steps])


def _classes(table: Table, rows: Sequence[Result]) -> tuple[list[dict[str, object]], str]:
    """The rows of `classes.csv`, and the figure: the baseline first, classes by its IoU."""
    by_row = {row.line.name: [seeded.per_class for seeded in row.line.seeds.values()] for row in rows}
    ordered = sorted(rows, key=lambda row: not row.baseline)
    means = {
        name: {key: fmean(one[key] for one in seeds if key in one) for key in {key for one in seeds for key in one}}
        for name, seeds in by_row.items()
    }
    names = sorted({key for found in means.values() for key in found})
    if not names:
        return [], ""
    first = means[ordered[0].line.name]
    names.sort(key=lambda name: -first.get(name, -1))
    records: list[dict[str, object]] = []
    panels = []
    for row in ordered:
        values = [[100 * one[name] for one in by_row[row.line.name] if name in one] or [np.nan] for name in names]
        spans = ([pick(found) for found in values] for pick in (fmean, min, max))
        panels.append(figures.Classes(row.line.name, *spans))
        where = {"data": table.data, "budget": table.budget, "split": table.split, "row": row.line.name}
        for name, found in zip(names, values, strict=True):
            spread = {"iou": fmean(found), "iou_lowest": min(found), "iou_highest": max(found)}
            records.append(where | {"class": name} | {key: number(value) for key, value in spread.items()})
    return records, figures.classes(names, panels[:MOST_CLASS_PANELS])


def _search(cell: Cell) -> Search | None:
    names, metric = report_runs.tried(cell)
    runs = [run for run in cell.tried if metric in run.data.metrics]
    if not runs or not names:
        return None
    base = cell.tuning.data.tags.get("miseg.experiment_id") if cell.tuning is not None else None
    percent = 1.0 if metric == "val/objective" else 100.0
    trials = [
        figures.Tried(
            {name: _value(run.data.params[name]) for name in names if name in run.data.params},
            percent * run.data.metrics[metric],
            run.data.tags.get("miseg.ended") == "finished",
            run.data.tags.get("miseg.experiment_id") == base,
        )
        for run in runs
    ]
    whole = [trial for trial in trials if trial.whole]
    importances = _importances(names, whole) if len(whole) >= ENOUGH_TRIALS else {}
    ranges = {name: _range(name, trials) for name in names}
    logs = {name for name, kind in ranges.items() if isinstance(kind, FloatDistribution) and kind.log}
    found = [figures.Knob(name, importances.get(name), name in logs) for name in names]
    found.sort(key=lambda knob: -(knob.importance or 0))
    score = "objective, nats" if metric == "val/objective" else "mean IoU on validation, %"
    note = f"{len(trials)} trials, {len(whole)} of them trained to the last step. "
    if importances:
        note += (
            "Importances, which add up to 1, are of the whole trials, by PED-ANOVA (Watanabe, Bansal and Hutter, 2023)."
        )
    else:
        note += f"Importances take at least {ENOUGH_TRIALS} whole trials with different scores, so there are none."
    return Search(cell, figures.knobs(found, trials, score), note)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _range(name: str, trials: Sequence[figures.Tried]) -> BaseDistribution:
    """The range that a parameter's trials span, which stands for the one that was searched."""
    values = [trial.params[name] for trial in trials if name in trial.params]
    if any(isinstance(value, str) for value in values):
        return CategoricalDistribution(sorted({str(value) for value in values}))
    low, high = min(values), max(values)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=low > 0 and high > LOG_RANGE * low)


def _importances(names: Sequence[str], trials: Sequence[figures.Tried]) -> dict[str, float]:
    """Each parameter's, from a study built again from whole trials; empty where all score alike."""
    if len({trial.score for trial in trials}) < 2:
        return {}
    ranges = {name: _range(name, trials) for name in names}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        params = {
            name: str(value) if isinstance(ranges[name], CategoricalDistribution) else value
            for name, value in trial.params.items()
        }
        used = {name: ranges[name] for name in params}
        study.add_trial(optuna.create_trial(params=params, distributions=used, value=trial.score))
    return optuna.importance.get_param_importances(study)


def _pictures(client: MlflowClient, table: Table, rows: Sequence[Result]) -> Pictures | None:
    """The best row beside the baseline (beside the second where it is the baseline itself), on their first seed."""
    base = baseline_of(table)
    best = next((row.line for row in rows if row.line is not base), None)
    if base is None or best is None or not (seeds := sorted(base.seeds.keys() & best.seeds.keys())):
        return None
    seed = seeds[0]
    one, other = best.seeds[seed], base.seeds[seed]
    shown = Pictures(best.name, base.name, seed)
    if one.images is not None and other.images is not None:
        shown.images = _of_images(table, shown, one.images, other.images)
    sheets = [report_runs.panels(client, seeded) for seeded in (one, other)]
    if sheets[0] is not None and sheets[1] is not None:
        names = [figures.short(name, 24) for name in (best.name, base.name)]
        try:
            picture, shown.apart = disagreement(sheets[0], sheets[1], names)
        except ValueError as error:
            print(f"{table.data}: {best.name} and {base.name} are not shown side by side: {error}", flush=True)
        else:
            shown.picture = data_uri("image/png", _png(picture))
    return shown if shown.picture or shown.images else None


def _of_images(table: Table, shown: Pictures, one: ImageCounts, other: ImageCounts) -> list[dict[str, object]]:
    ids = [name for name in one.ids if name in set(other.ids)]
    if not ids:
        return []
    scores = [100 * counts.of_images(ids).image_iou() for counts in (one, other)]
    gains = scores[0] - scores[1]
    where = {"data": table.data, "budget": table.budget, "split": table.split, "row": shown.row}
    where |= {"baseline": shown.baseline, "seed": str(shown.seed)}
    return [
        where
        | {"image": ids[i], "iou": number(scores[0][i]), "baseline_iou": number(scores[1][i])}
        | {"difference": number(gains[i])}
        for i in np.argsort(-gains, kind="stable")
        if not np.isnan(gains[i])
    ]


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    # Flat colours and few of them, but for the photographs: a palette makes the page four times smaller.
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(data, "png", optimize=True)
    return data.getvalue()


def address(uri: str, run: Run) -> str:
    """Where a browser finds a run; empty where MLflow is no server."""
    if not uri.startswith("http"):
        return ""
    return f"{uri.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
