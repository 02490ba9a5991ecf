"""The tables of a tuning: its trials and what was confirmed, as they are read and printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from miseg.metric_names import MEAN_IOU, PIXEL_ACCURACY, TITLES, TRAIN_MATCH_MEAN_IOU, TRAIN_MATCH_PIXEL_ACCURACY
from miseg.one_class import phrase
from miseg.service.terminal.fitted_tables import fitted
from miseg.service.training.run import FINISHED

METRIC = "score"
"""Score that trials report and are compared by: mean IoU, or, without labels, the objective; see `Selection`."""

SAME_AS_TUNED = " (= tuned)"
"""End of a confirmed row's name that has the settings of the search's winner."""

MANY_TO_ONE = " (many to one)"
"""End of a confirmed row's name whose clusters were matched with classes so."""

SCORES = {
    name: TITLES[name][0].upper() + TITLES[name][1:]
    for name in (MEAN_IOU, PIXEL_ACCURACY, TRAIN_MATCH_MEAN_IOU, TRAIN_MATCH_PIXEL_ACCURACY)
}
"""Titles of the columns of a confirmation; all but the first are there for clusters alone."""


def one_class_text(confirmation: pd.DataFrame) -> str:
    """Sentences on the confirmed rows that predict one class everywhere, which their scores do not show; "": none."""
    if "one_class" not in confirmation:
        return ""
    finished = confirmation[confirmation["ended"] == FINISHED]
    phrases = {row: phrase(list(seeds["one_class"].fillna(""))) for row, seeds in finished.groupby("row")}
    sentences = [f"{row} {text}." for row, text in phrases.items() if text]
    if len(sentences) > 1 and finished["one_class"].fillna("").all():
        sentences.append("So this table compares no methods: train for more steps.")
    return "\n".join(sentences)


def best_trial(trials: pd.DataFrame, steps: int) -> dict[str, Any] | None:
    """The parameters of the best trial that was trained to its last step; None where none was, or none has a score."""
    whole = trials[(trials["step"] == steps) & (trials["ended"] == FINISHED) & trials[METRIC].notna()]
    if whole.empty:
        return None
    row = whole.loc[whole[METRIC].idxmax()]
    params = {key.removeprefix("params/"): row[key] for key in trials.columns if key.startswith("params/")}
    # Pandas keeps whole numbers as NumPy's, which no description of an experiment may hold.
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}


def agreement(trials: pd.DataFrame, steps: int) -> float | None:
    """Spearman's rank correlation, −1..1, of what selected and mean IoU over the trials that were trained whole.

    None where labels selected (there is no score beside mean IoU then), fewer than two trials were whole, or all alike.
    """
    whole = trials[(trials["step"] == steps) & (trials["ended"] == FINISHED)]
    if METRIC not in trials or len(whole) < 2:
        return None
    if min(whole[METRIC].nunique(), whole[MEAN_IOU].nunique()) < 2:
        return None
    return float(whole[METRIC].corr(whole[MEAN_IOU], method="spearman"))


def summary(confirmation: pd.DataFrame, score: str = MEAN_IOU) -> pd.DataFrame:
    """Mean and range of every confirmed row, best first, over the seeds that were trained whole.

    `score` is one of `SCORES`. The last validation of a training that failed on its way is of fewer steps.
    """
    scores = _of_whole(confirmation, score).groupby(confirmation["row"])
    table = scores.agg(["mean", "min", "max", "count"]).rename(columns={"count": "seeds"})
    return table.sort_values("mean", ascending=False).reset_index()


def _of_whole(rows: pd.DataFrame, score: str) -> pd.Series:
    """The score of the trainings that got to their last step; nan of the others."""
    return rows[score].where(rows["ended"] == FINISHED) if "ended" in rows else rows[score]


def summaries(confirmation: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`summary` of every score that the confirmation has, by the score's column."""
    return {score: summary(confirmation, score) for score in SCORES if score in confirmation}


SAY_THEMSELVES = ("downsampling", "patch", "z")
"""Parameters whose value stands without its name where trials are named."""


def describe(params: Mapping[str, Any]) -> str:
    """A trial's parameters in a few characters, for a run's name and a line of progress."""
    short = {"lambda": "λ", "downsampling_factor": "DF", "region_size": "R", "learning_rate": "lr"}
    short |= {"alpha": "α", "beta": "β", "gamma": "γ", "tau": "τ", "features": "P", "clusters": "K"}
    values = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in params.items()}
    return " ".join(text if key in SAY_THEMSELVES else f"{short.get(key, key)}={text}" for key, text in values.items())


def trials_text(trials: pd.DataFrame) -> str:
    """The trials as a table for the terminal, best first, with their numbers."""
    of_clusters = [score for score in SCORES if score != MEAN_IOU and score in trials]
    shown = trials.rename(columns=lambda name: name.removeprefix("params/")).drop(columns=["run_id", *of_clusters])
    if "one_class" in shown:
        shown = shown.assign(one_class=shown["one_class"].fillna(""))
    # As the lines of progress number them; behind the scores, for tools read those as the first columns.
    shown.insert(shown.columns.get_loc("step") + 1, "trial", range(1, len(shown) + 1))
    shown = shown.sort_values(METRIC if METRIC in shown else MEAN_IOU, ascending=False)
    return fitted(shown.rename(columns={METRIC: "objective"}), "{:.4g}", "trial")


def grid_text(trials: pd.DataFrame) -> str:
    """A grid's scores for the terminal: manner, λ and DF down, R across; nan where a trial was not trained whole."""
    rows = ["downsampling", "lambda", "downsampling_factor"]
    shown = trials.assign(**{MEAN_IOU: _of_whole(trials, MEAN_IOU)})
    shown = shown.rename(columns=lambda name: name.removeprefix("params/"))
    table = shown.pivot_table(index=rows, columns="region_size", values=MEAN_IOU, dropna=False)
    return table.to_string(float_format="{:.4f}".format)


def summary_text(table: pd.DataFrame) -> str:
    """A `summary` for the terminal."""
    return fitted(table, "{:.4f}")
