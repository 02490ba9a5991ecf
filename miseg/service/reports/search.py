"""Effect of the parameters of a cell, from its trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from miseg.evaluation import report_figures as figures
from miseg.metric_names import VALIDATION_OBJECTIVE, validation_metric
from miseg.service.reports.reported_study import ReportedCell

ENOUGH_TRIALS = 4
"""Whole trials below which importances would be of chance alone."""

LOG_RANGE = 20
"""A positive parameter whose trials lie further apart than this factor is shown on a log scale."""


@dataclass
class SearchFigure:
    """Effect of the parameters of a cell, from its trials."""

    cell: ReportedCell
    figure: str
    note: str


def searched(cell: ReportedCell) -> SearchFigure | None:
    """The figure of a cell's trials; None where there are none, or nothing was varied."""
    names, metric = tried(cell)
    runs = [run for run in cell.tried if math.isfinite(run.data.metrics.get(metric, math.nan))]
    if not runs or not names:
        return None
    base = cell.tuning.data.tags.get("miseg.experiment_id") if cell.tuning is not None else None
    percent = 1.0 if metric == VALIDATION_OBJECTIVE else 100.0
    trials = [
        figures.Tried(
            {_short(name): _value(run.data.params[name]) for name in names if name in run.data.params},
            percent * run.data.metrics[metric],
            run.data.tags.get("miseg.ended") == "finished",
            run.data.tags.get("miseg.experiment_id") == base,
        )
        for run in runs
    ]
    names = [_short(name) for name in names]
    whole = [trial for trial in trials if trial.whole]
    importance_by_name = importances(names, whole) if len(whole) >= ENOUGH_TRIALS else {}
    ranges = {name: _range(name, trials) for name in names}
    logs = {name for name, kind in ranges.items() if isinstance(kind, FloatDistribution) and kind.log}
    knobs = [figures.Knob(name, importance_by_name.get(name), name in logs) for name in names]
    knobs.sort(key=lambda knob: -(knob.importance or 0))
    score = "objective, nats" if metric == VALIDATION_OBJECTIVE else "mean IoU on validation, %"
    note = f"{len(trials)} trials, {len(whole)} of them trained to the last step. "
    if importance_by_name:
        note += "Importances, which add up to 1, are of these, by PED-ANOVA (Watanabe, Bansal and Hutter, 2023)."
    else:
        note += f"Importances take at least {ENOUGH_TRIALS} whole trials with different scores, so there are none."
    return SearchFigure(cell, figures.knobs(knobs, trials, score), note)


def _short(name: str) -> str:
    """A parameter's name without the part of the experiment that it belongs to."""
    return name.removeprefix("optimiser.").removeprefix("method.")


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


def importances(names: Sequence[str], trials: Sequence[figures.Tried]) -> dict[str, float]:
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


def tried(cell: ReportedCell) -> tuple[list[str], str]:
    """The parameters that a search varied, and the metric that compared its trials."""
    seen: dict[str, set[str]] = {}
    for run in cell.tried:
        for name, value in run.data.params.items():
            seen.setdefault(name, set()).add(value)
    names = sorted(name for name, values in seen.items() if len(values) > 1 and name != "seed")
    selection = "labels" if cell.tuning is None else cell.tuning.data.params.get("selection", "labels")
    return names, validation_metric(selection)
