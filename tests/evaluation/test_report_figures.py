"""The figures of a report: vector graphics that need nothing from outside, whatever the names hold."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from miseg.evaluation import report_figures as figures

STRANGE = "<script>alert('x')</script> & $\\frac{1}{$ ⟨λ⟩"
NOT_FETCHED = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return draw()


def draw() -> dict[str, str]:
    nan = math.nan
    intervals = [figures.Interval(STRANGE, 3.0, 1.0, True), figures.Interval("b", -1.0, nan, False)]
    curves = [
        figures.Curve(STRANGE, [10, 20, 30], [[1, 2], [3, 4], [5, 5.5]]),
        *(figures.Curve(f"row {n}", [30], [[n]]) for n in range(9)),
    ]
    trials = [
        figures.Tried({"rate": 10.0**-n, "kind": STRANGE if n % 2 else "b", "size": n}, n, n > 2, n == 0)
        for n in range(6)
    ]
    knobs = [figures.Knob("rate", 0.7, True), figures.Knob("kind", 0.3, False), figures.Knob("size", None, False)]
    rows = [figures.Classes(name, [50, nan], [40, nan], [60, nan]) for name in (STRANGE, "b", "c", "d", "e")]
    return {
        "differences": figures.differences(intervals, STRANGE),
        "curves": figures.learning_curves(curves, "mean IoU"),
        "knobs": figures.knobs(knobs, trials, "mean IoU, %"),
        "classes": figures.classes([STRANGE, "pole"], rows),
    }


def test_a_figure_is_svg_that_fetches_nothing(drawn: dict[str, str]) -> None:
    for name, svg in drawn.items():
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg", name
        for element in root.iter():
            assert element.tag.rpartition("}")[2] not in ("script", "image", "foreignObject", "metadata"), name
            for key, value in element.attrib.items():
                assert not key.rpartition("}")[2].startswith("on"), name
                if key.rpartition("}")[2] == "href":
                    assert value.startswith("#"), name
        assert set(re.findall(r"https?://[^\s\"'<>]+", svg)) <= NOT_FETCHED, name


def test_a_figure_is_the_same_whenever_it_is_drawn(drawn: dict[str, str]) -> None:
    assert draw() == drawn


def test_a_difference_is_drawn_where_it_lies() -> None:
    rows = [figures.Interval("a", 2.0, 0.5, True), figures.Interval("b", 2.0, 0.5, False)]
    figure = figures.differences.__wrapped__(rows, "base")
    axes = figure.axes[0]
    zero, first, dot, second, hollow = axes.lines
    low, high = axes.get_xlim()
    assert low < 0 and high > 2.5
    assert list(zero.get_xdata()) == [0, 0]
    assert list(first.get_xdata()) == [1.5, 2.5] and list(dot.get_xdata()) == [2.0]
    assert list(second.get_ydata()) == [1, 1]
    assert dot.get_markerfacecolor() == figures.COLOURS[0] and hollow.get_markerfacecolor() == "white"


def test_an_interval_without_end_does_not_hide_the_others() -> None:
    rows = [figures.Interval(name, 2.0, half, False) for name, half in (("a", 0.5), ("b", 0.6), ("c", 40.0))]
    axes = figures.differences.__wrapped__(rows, "base").axes[0]
    low, high = axes.get_xlim()
    assert -1 < low < 0 and 4 < high < 5  # 2 ± 4 * 0.6 and a margin
    assert [line.get_marker() for line in axes.lines if line.get_marker() in "<>"] == ["<", ">"]
    # Without another to compare it with, a wide interval is shown whole.
    low, high = figures.differences.__wrapped__(rows[2:], "base").axes[0].get_xlim()
    assert low < -38 and high > 42


def test_a_curve_is_the_mean_over_seeds() -> None:
    figure = figures.learning_curves.__wrapped__([figures.Curve("a", [1, 2], [[10, 20], [30, 50]])], "mean IoU")
    (line,) = figure.axes[0].lines
    assert list(line.get_xdata()) == [1, 2] and list(line.get_ydata()) == [15, 40]
    (band,) = figure.axes[0].collections
    assert np.array_equal(band.get_paths()[0].get_extents().bounds, (1, 10, 1, 40))


@pytest.mark.parametrize("first", range(7))
def test_colours_differ_in_lightness_or_hue_for_every_vision(first: int) -> None:
    """Seen without red and green (by Viénot, Brettel and Mollon's matrix for deuteranopes, 1999) all still differ."""
    deuteranope = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])

    def seen(colour: str) -> np.ndarray:
        linear = (np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255) ** 2.2
        return np.clip(deuteranope @ linear, 0, 1) ** (1 / 2.2)

    for other in range(first + 1, 7):
        apart = np.abs(seen(figures.COLOURS[first]) - seen(figures.COLOURS[other])).max()
        assert apart > 0.1, (figures.COLOURS[first], figures.COLOURS[other])
