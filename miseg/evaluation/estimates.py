"""Figures of estimates beside the mutual information that they are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


class Estimated(NamedTuple):
    """One estimator's estimates of one distribution over several samples of N.

    Attributes:
        estimator: its name, the panel's title.
        samples: N.
        truth: nats.
        nats: an estimate for each sample; nan or infinity counts as none.
    """

    estimator: str
    samples: int
    truth: float
    nats: Sequence[float]


def estimates_figure(rows: Sequence[Estimated], columns: int = 5) -> Figure:
    """Estimate (mean, lowest to highest) against truth, a panel for each estimator and a colour for each N.

    The diagonal is the truth. Dotted is ln N: no lower bound from N samples that holds for every distribution exceeds
    about that with confidence (McAllester and Stratos: Formal limitations on the measurement of mutual information,
    AISTATS 2020, theorem 3.1). What lies outside of a panel is a triangle at its edge. Both axes are linear up to one
    nat and logarithmic above.

    Args:
        rows: at least one, in the order of the panels.
        columns: panels beside each other.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("no rows: a figure shows at least one estimate")
    names = list(dict.fromkeys(row.estimator for row in rows))
    sizes = sorted({row.samples for row in rows})
    # Not the map's last colour: yellow points on white paper are hardly seen.
    colours = {size: colormaps["viridis"](index / len(sizes)) for index, size in enumerate(sizes)}
    bottom, top = -0.5, 1.3 * max([1.0, math.log(sizes[-1]), *(row.truth for row in rows)])
    ticks = [tick for tick in (0, 0.5, 1, 2, 5, 10, 20) if tick < top]
    columns = min(columns, len(names))
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * lines + 0.6), layout="constrained", dpi=110)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes, name in zip(grid.flat, names, strict=False):
        axes.set_title(name, fontsize=9)
        axes.plot([bottom, top], [bottom, top], color="0.6", linewidth=1, zorder=0)
        for size in sizes:
            axes.axhline(math.log(size), color=colours[size], linestyle=":", linewidth=1, zorder=0)
            _points(axes, [row for row in rows if row[:2] == (name, size)], colours[size], (bottom, top))
        axes.set(xscale="symlog", yscale="symlog")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set(xlim=(bottom, top), ylim=(bottom, top))
        axes.tick_params(labelsize=8)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("mutual information, nats", fontsize=9)
    figure.supylabel("estimate, nats", fontsize=9)
    keys = [Line2D([], [], color=colours[size], marker="o", linestyle="", label=f"N = {size:,}") for size in sizes]
    keys.append(Line2D([], [], color="0.3", linestyle=":", label="ln N"))
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), fontsize=8, frameon=False)
    return figure


def _points(axes: Axes, rows: Sequence[Estimated], colour: object, inside: tuple[float, float]) -> None:
    for row in rows:
        finite = [value for value in row.nats if math.isfinite(value)]
        if not finite:
            continue
        mean = sum(finite) / len(finite)
        if inside[0] <= mean <= inside[1]:
            axes.vlines(row.truth, min(finite), max(finite), color=colour, linewidth=1)
            axes.plot(row.truth, mean, "o", color=colour, markersize=3)
        else:
            low = mean < inside[0]
            axes.plot(
                row.truth,
                inside[0] if low else inside[1],
                "v" if low else "^",
                color=colour,
                markersize=5,
                clip_on=False,
            )


class Followed(NamedTuple):
    """Course of one quantity over the steps of a training.

    Attributes:
        model: the training, a row of panels.
        panel: the column of panels.
        quantity: the line's name.
        steps: optimiser steps.
        nats: a value for each step; nan where there is none.
    """

    model: str
    panel: str
    quantity: str
    steps: Sequence[int]
    nats: Sequence[float]


def followed_figure(lines: Sequence[Followed]) -> Figure:
    """Nats against the training step: a row of panels for each model, a line for each quantity.

    Raises:
        ValueError: no lines.
    """
    if not lines:
        raise ValueError("no lines: a figure shows at least one quantity")
    models, panels, quantities = (list(dict.fromkeys(line[field] for line in lines)) for field in range(3))
    colours = {quantity: colormaps["tab10"](index % 10) for index, quantity in enumerate(quantities)}
    size = (3.2 * len(panels), 2.3 * len(models) + 0.6)
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    grid = figure.subplots(len(models), len(panels), squeeze=False, sharex=True, sharey="col")
    for line in lines:
        axes = grid[models.index(line.model), panels.index(line.panel)]
        axes.plot(line.steps, line.nats, "o-", markersize=3, linewidth=1.2, color=colours[line.quantity])
    for row, model in enumerate(models):
        for column, panel in enumerate(panels):
            axes = grid[row, column]
            axes.set_title(f"{model}; measured {panel}" if len(panels) > 1 else model, fontsize=8)
            axes.axhline(0, color="0.8", linewidth=1, zorder=0)
            axes.tick_params(labelsize=8)
    figure.supxlabel("optimiser step", fontsize=9)
    figure.supylabel("nats, mean over classes", fontsize=9)
    keys = [
        Line2D([], [], color=colours[quantity], marker="o", markersize=3, label=quantity) for quantity in quantities
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), fontsize=8, frameon=False)
    return figure
