"""Description of a tuning's MLflow run: what was tried, what came of it, and how to do it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from miseg.service.remarks import counted
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.description import command, order_text
from miseg.service.tuning import tables

if TYPE_CHECKING:
    from miseg.service.tuning.tuning import Tuning

SHOWN = 10
"""Trials in the description; all are in trials.csv. MLflow takes 8,000 characters."""


def planned(tuning: Tuning) -> str:
    """Description of a tuning before it runs."""
    base = tuning.base
    manner = "a grid of" if tuning.grid is not None else "TPE and ASHA over"
    command_line = command()
    trials, seeds = counted(tuning.points, "trial"), counted(tuning.confirm_seeds, "seed")
    return (
        f"**{type(base.method).__name__}** on **{base.data}**: {manner} {trials} of {counted(base.steps, 'step')}, "
        f"compared by {_selected(tuning)}, then confirmed on {seeds} that no trial used."
        + (f"\n\nRun with\n\n```\n{command_line}\n```" if command_line else "")
        + f"\n\nIts runs side by side: the view *tuning {tuning.name}* in the menu of views of the runs table."
    )


def finished(
    tuning: Tuning, trials: pd.DataFrame, confirmation: pd.DataFrame, registered: Sequence[str], concurrent: int
) -> str:
    """Description of a finished tuning: the confirmed rows, the best trials, the models and how to repeat each.

    `concurrent` is the number of trials at a time, at most, since it was begun.
    """
    parts = [planned(tuning), order_text(str(concurrent), grid=tuning.grid is not None)]
    for score, summary in tables.summaries(confirmation).items():
        parts.append(
            f"### {tables.SCORES[score].rstrip(',')} after step {tuning.base.steps}, fresh seeds\n\n{_table(summary)}"
        )
    if sentences := tables.one_class_text(confirmation):
        parts.append(sentences)
    shown = trials.rename(columns=lambda name: name.removeprefix("params/"))
    order = tables.METRIC if tables.METRIC in shown else "mean_iou"
    knobs = [name.removeprefix("params/") for name in trials.columns if name.startswith("params/")]
    shown = shown.sort_values(order, ascending=False)[[*knobs, *dict.fromkeys((order, "mean_iou")), "step", "ended"]]
    parts.append(f"### Best {min(SHOWN, len(shown))} of {len(shown)} trials\n\n{_table(shown.head(SHOWN))}")
    parts += [f"### Models\n\n{_list(registered)}"] if registered else []
    again = [f"`miseg train --from-run {run}` trains {row} once more" for row, run in _first_runs(confirmation)]
    parts.append(f"### Again\n\n{_list(again)}")
    text = "\n\n".join(parts)
    return text if len(text) <= mlflow_runs.LONGEST_TAG else f"{text[: mlflow_runs.LONGEST_TAG - 2]} …"


def _selected(tuning: Tuning) -> str:
    return "mean IoU on val" if tuning.selection == "labels" else "the objective on held-out images"


def _first_runs(confirmation: pd.DataFrame) -> list[tuple[str, str]]:
    return [(row, runs["run_id"].iloc[0]) for row, runs in confirmation.groupby("row") if runs["run_id"].iloc[0]]


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(frame: pd.DataFrame) -> str:
    """A table in Markdown."""
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
