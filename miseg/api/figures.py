"""Figures of results: made without pyplot, so that no backend is chosen and no window opens."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from miseg.evaluation.report_figures import COLOURS

DOTS = 100
"""Dots an inch of a picture that a notebook shows."""


class ShownFigure(Figure):
    """A matplotlib figure that a notebook shows as a picture, whatever backend there is."""

    def _repr_png_(self) -> bytes:
        """The picture in PNG, for IPython."""
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=DOTS)
        return picture.getvalue()


def _figure(panels: int, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    figure = ShownFigure(figsize=(4.2 * panels, height), layout="constrained")
    axes = [figure.add_subplot(1, panels, number + 1) for number in range(panels)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def training(history: pd.DataFrame, score: str) -> Figure:
    """The loss by step, and beside it a score where it was measured."""
    panels = [("train/loss", "loss", ""), (score, "mean IoU on val", "o")]
    panels = [panel for panel in panels if panel[0] in history and history[panel[0]].notna().any()]
    figure, axes = _figure(max(1, len(panels)))
    for axis, (name, label, marker) in zip(axes, panels, strict=False):
        values = history[name].dropna()
        axis.plot(values.index, values.to_numpy(), marker=marker, color=COLOURS[0])
        axis.set(xlabel="step", ylabel=label)
    return figure


def tuning(trials: pd.DataFrame, score: str, table: pd.DataFrame) -> Figure:
    """Trials by number, and the confirmed rows as means with their ranges over seeds."""
    figure, (left, right) = _figure(2, max(2.4, 0.35 * len(table) + 1.2))
    left.plot(range(1, len(trials) + 1), trials[score].to_numpy(), "o", color=COLOURS[0])
    left.set(xlabel="trial", ylabel="mean IoU on val" if score == "mean_iou" else score)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    rows = table.iloc[::-1]
    below, above = rows["mean"] - rows["min"], rows["max"] - rows["mean"]
    right.errorbar(rows["mean"], range(len(rows)), xerr=[below, above], fmt="o", color=COLOURS[0], capsize=3)
    right.set_yticks(range(len(rows)), rows["row"], parse_math=False)
    right.set(xlabel="mean IoU on val: mean, lowest and highest seed", ylim=(-0.6, len(rows) - 0.4))
    return figure


def differences(table: pd.DataFrame) -> Figure:
    """Rows beside their baseline: differences in points with intervals; those without an interval are left open."""
    rows = table[pd.to_numeric(table["difference"], errors="coerce").notna()].iloc[::-1]
    figure, (axis,) = _figure(1, max(2.0, 0.35 * len(rows) + 1.2))
    points = pd.to_numeric(rows["difference"])
    half = pd.to_numeric(rows["half_width"], errors="coerce")
    axis.errorbar(points, range(len(rows)), xerr=half.fillna(0), fmt="o", color=COLOURS[0], capsize=3)
    axis.axvline(0, color="#9a9a9a", linewidth=1)
    names = [f"{row}, {data}" for row, data in zip(rows["row"], rows["data"], strict=True)]
    axis.set_yticks(range(len(rows)), names, parse_math=False)
    baseline = ", ".join(dict.fromkeys(table["baseline"]))
    axis.set(xlabel=f"points of mean IoU over {baseline}", ylim=(-0.6, max(len(rows), 1) - 0.4))
    return figure


def picture(image: object, labels: object, colours: list[tuple[int, int, int]], names: tuple[str, ...]) -> Figure:
    """A class map with its legend, beside the image where there is one."""
    values = np.asarray(labels)
    colour_map = np.full((256, 3), 255, np.uint8)
    colour_map[: len(colours)] = colours
    panels = [colour_map[values]] if image is None else [np.asarray(image), colour_map[values]]
    figure, axes = _figure(len(panels), 3.2)
    for axis, shown in zip(axes, panels, strict=True):
        axis.imshow(shown, cmap="gray" if shown.ndim == 2 else None, interpolation="nearest")
        axis.set_axis_off()
    for number in np.unique(values[values < len(names)]):
        colour = tuple(channel / 255 for channel in colours[number])
        axes[-1].plot([], [], "s", color=colour, label=names[number])
    legend = axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure
