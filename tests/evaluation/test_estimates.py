"""Figures of estimates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from miseg.evaluation.estimates import Estimated, Followed, estimates_figure, followed_figure


def test_every_estimate_is_in_its_panel_and_what_lies_outside_is_at_the_edge() -> None:
    rows = [
        Estimated("ksg", 100, 0.5, [0.4, 0.6]),
        Estimated("ksg", 1000, 2.0, [1.5, math.nan, 1.7]),
        Estimated("kde", 100, 0.5, [400.0]),
        Estimated("kde", 1000, 0.5, [math.nan]),
    ]
    figure = estimates_figure(rows)
    ksg, kde = (axes for axes in figure.axes if axes.get_visible())
    assert [ksg.get_title(), kde.get_title()] == ["ksg", "kde"]
    points = sorted(tuple(line.get_xydata()[0].round(9).tolist()) for line in ksg.lines if line.get_marker() == "o")
    assert points == [(0.5, 0.5), (2.0, 1.6)]
    edges = [line for line in kde.lines if line.get_marker() == "^"]
    assert len(edges) == 1 and edges[0].get_ydata()[0] == kde.get_ylim()[1] < 400
    heights = {round(float(line.get_ydata()[0]), 6) for line in ksg.lines if line.get_linestyle() == ":"}
    assert heights == {round(math.log(100), 6), round(math.log(1000), 6)}
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert np.asarray(canvas.buffer_rgba()).std() > 0


def test_lines_are_followed_over_steps_in_a_panel_for_each_model_and_region() -> None:
    lines = [
        Followed(model, panel, quantity, [10, 20], [0.1, 0.2])
        for model in ("λ = 0", "λ = 1")
        for panel in ("R = 1", "R = 3")
        for quantity in ("gaussian", "ksg")
    ]
    figure = followed_figure(lines)
    assert len(figure.axes) == 4
    assert [line.get_xdata().tolist() for line in figure.axes[3].lines if line.get_marker() == "o"] == [[10, 20]] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gaussian", "ksg"]


def test_nothing_to_show_is_told() -> None:
    with pytest.raises(ValueError, match="no rows"):
        estimates_figure([])
    with pytest.raises(ValueError, match="no lines"):
        followed_figure([])
