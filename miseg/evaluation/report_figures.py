"""Figures of a report: differences with their intervals, learning curves, what knobs did, and classes.

Colours are those of Okabe and Ito (Color Universal Design, 2008), told apart with any colour vision; markers and dashes
repeat them for print in grey. Text is drawn as it is: a name with a dollar sign is no formula.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")

WIDTH = 7.6
"""Inches: the width of a page's text."""

_INK, _FAINT, _GRID = "#222222", "#9a9a9a", "#e6e6e6"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "miseg",
}
LONGEST_NAME = 34


class Interval(NamedTuple):
    """A difference in points of mean IoU; `half` is nan where it is not known."""

    name: str
    estimate: float
    half: float
    told_apart: bool


class Curve(NamedTuple):
    """A method's validations: `values` in % by seed and step, for the steps that all seeds have."""

    name: str
    steps: Sequence[int]
    values: Sequence[Sequence[float]]


class Tried(NamedTuple):
    """A trial: its parameters, its score in % (or in nats), and whether it was trained to its last step."""

    params: Mapping[str, Any]
    score: float
    whole: bool
    published: bool


class Knob(NamedTuple):
    """A parameter that was searched and its importance, 0..1; None where it could not be told."""

    name: str
    importance: float | None
    log: bool


class Classes(NamedTuple):
    """A method's IoU by class, in %: mean, lowest and highest over seeds; nan where a class does not occur."""

    name: str
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def styled(draw: Callable[..., Figure]) -> Callable[..., str]:
    """The function with its figure as SVG text, without a prologue, metadata or anything that points outside."""

    @wraps(draw)
    def drawn(*args: Any, **settings: Any) -> str:
        with mpl.rc_context(_STYLE):
            text = io.StringIO()
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            draw(*args, **settings).savefig(text, format="svg", metadata=nothing)
        svg = text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]
        return svg.replace("<defs>", f"<style>{_dark()}</style>\n <defs>", 1)

    return drawn


_AT_NIGHT = {_INK: "#ececf0", _GRID: "#33343a", "#ffffff": "#17181c", "#000000": "#ececf0", "#0072b2": "#3d9fdd"}
"""Colours of a dark page, by those of a bright one."""


def _dark() -> str:
    """Style of an SVG where the reader's pages are dark; Matplotlib's own styles stand in its elements."""
    rules = [
        f'[style*="{kind}: {colour}"]{{{kind}:{dark} !important}}'
        for colour, dark in _AT_NIGHT.items()
        for kind in ("fill", "stroke")
    ]
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


@styled
def differences(rows: Sequence[Interval], baseline: str) -> Figure:
    """A line for each method: the difference and its interval beside the line of the baseline; filled: told apart.

    An interval that is far wider than the others ends in an arrow at the edge.
    """
    names = [wrapped(row.name) for row in rows]
    # A line of a name takes 0.15 inches.
    height = sum(max(0.36, 0.15 * len(name.splitlines()) + 0.1) for name in names)
    figure = Figure(figsize=(WIDTH, height + 0.9), layout="constrained")
    axes = figure.add_subplot()
    low, high = _window(rows)
    axes.set_xlim(low, high)
    axes.axvline(0, color=_INK, linewidth=1)
    for line, row in enumerate(rows):
        colour = COLOURS[0] if row.estimate >= 0 else COLOURS[1]
        if not math.isnan(row.half):
            ends = row.estimate - row.half, row.estimate + row.half
            axes.plot(ends, [line, line], color=colour, linewidth=2)
            for end, edge, arrow in ((ends[0] < low, low, "<"), (ends[1] > high, high, ">")):
                if end:
                    axes.plot(edge, line, arrow, color=colour, markersize=8, clip_on=False)
        face = colour if row.told_apart else "white"
        axes.plot(row.estimate, line, "o", color=colour, markerfacecolor=face, markersize=7, markeredgewidth=1.6)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(wrapped(f"mean IoU less that of {baseline}, points", 90))
    return figure


def _window(rows: Sequence[Interval]) -> tuple[float, float]:
    """Limits of the axis: every estimate, and at most four times the usual interval, or one row hides the others."""
    halves = sorted(row.half for row in rows if not math.isnan(row.half))
    most = 4 * halves[(len(halves) - 1) // 2] if halves else 0.0
    reach = [(row.estimate, 0.0 if math.isnan(row.half) else min(row.half, most)) for row in rows]
    low, high = min(0.0, *(e - half for e, half in reach)), max(0.0, *(e + half for e, half in reach))
    margin = 0.05 * (high - low) or 1.0
    # No difference of mean IoU is larger than 100 points.
    return max(low - margin, -100.0), min(high + margin, 100.0)


@styled
def learning_curves(curves: Sequence[Curve], score: str) -> Figure:
    """Validations by step: the mean over seeds, and a band from the lowest seed to the highest."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for index, curve in enumerate(curves):
        colour, means = COLOURS[index % len(COLOURS)], [sum(values) / len(values) for values in curve.values]
        axes.plot(
            curve.steps,
            means,
            linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            linewidth=1.6,
            color=colour,
            label=wrapped(curve.name),
        )
        if any(len(values) > 1 for values in curve.values):
            low, high = ([pick(values) for values in curve.values] for pick in (min, max))
            axes.fill_between(curve.steps, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.set(xlabel="optimiser step", ylabel=f"{score} on validation, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


@styled
def knobs(parameters: Sequence[Knob], trials: Sequence[Tried], score: str) -> Figure:
    """A panel for each parameter: every trial's score over its value. Hollow: stopped early; star: the first point."""
    columns = min(4, len(parameters))
    lines = math.ceil(len(parameters) / columns)
    figure = Figure(figsize=(WIDTH, 2.1 * lines + 0.3), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, knob in zip(grid.flat, parameters, strict=False):
        _slice(axes, knob, trials)
        importance = "" if knob.importance is None else f"\nimportance {knob.importance:.2f}"
        axes.set_title(wrapped(knob.name, 22) + importance, fontsize=8.5)
    for axes in grid.flat[len(parameters) :]:
        axes.set_visible(False)
    figure.supylabel(score, fontsize=9)
    return figure


def _slice(axes: Axes, knob: Knob, trials: Sequence[Tried]) -> None:
    known = [trial for trial in trials if knob.name in trial.params]
    values = [trial.params[knob.name] for trial in known]
    if not all(isinstance(value, int | float) for value in values):
        names = sorted({str(value) for value in values})
        axes.set_xticks(range(len(names)), [short(name, 14) for name in names], rotation=20, ha="right")
        axes.set_xlim(-0.5, len(names) - 0.5)
        values = [names.index(str(value)) for value in values]
    elif knob.log:
        axes.set_xscale("log")
        first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        decades = range(first, last + 1, max(1, (last - first) // 3))
        axes.xaxis.set_major_locator(FixedLocator([10.0**power for power in decades]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif all(isinstance(value, int) for value in values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for value, trial in zip(values, known, strict=True):
        axes.plot(
            value,
            trial.score,
            "*" if trial.published else "o",
            markersize=10 if trial.published else 5,
            color=COLOURS[1] if trial.published else COLOURS[0],
            markerfacecolor=None if trial.whole else "white",
            zorder=3 if trial.published else 2,
        )
    axes.tick_params(labelsize=7.5)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)


@styled
def classes(names: Sequence[str], rows: Sequence[Classes]) -> Figure:
    """A panel for each method, a bar for each class with a line from the lowest seed to the highest.

    The first row is the baseline, which every other panel repeats as ticks.
    """
    columns = min(4, len(rows))
    lines = math.ceil(len(rows) / columns)
    title = max(len(wrapped(row.name, 24).splitlines()) for row in rows)
    figure = Figure(figsize=(WIDTH, lines * (0.2 * len(names) + 0.42 + 0.14 * title) + 0.35), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    positions = range(len(names))
    for index, (axes, row) in enumerate(zip(grid.flat, rows, strict=False)):
        colour = _FAINT if index == 0 else COLOURS[0]
        axes.barh(positions, row.mean, color=colour, height=0.7)
        axes.hlines(positions, row.low, row.high, color=_INK, linewidth=0.9)
        if index:
            axes.plot(rows[0].mean, positions, "|", color=COLOURS[1], markersize=8, markeredgewidth=1.8)
        axes.set_title(wrapped(row.name, 24), fontsize=8.5)
        axes.tick_params(labelsize=7.5, length=0)
        axes.grid(axis="x", color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlim(0, 100)
    grid[0, 0].set_yticks(positions, list(names))
    grid[0, 0].invert_yaxis()
    for axes in grid.flat[len(rows) :]:
        axes.set_visible(False)
    figure.supxlabel("IoU, %", fontsize=9)
    return figure


def wrapped(name: str, longest: int = LONGEST_NAME) -> str:
    """The whole name in lines that fit beside an axis."""
    return "\n".join(textwrap.wrap(name, longest)) or name


def short(name: str, longest: int = LONGEST_NAME) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
