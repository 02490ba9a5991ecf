"""Scores in words."""

from __future__ import annotations

import math

import pytest

from miseg.metric_names import scores_text


@pytest.mark.parametrize(
    ("mean_iou", "score", "text"),
    [
        (0.25, 0.25, "mean_iou 0.2500"),
        (0.25, -1.5, "mean_iou 0.2500  objective -1.5000"),
        (math.nan, 0.0, "no labels to score by"),
        (math.nan, -1.5, "no labels to score by  objective -1.5000"),
    ],
)
def test_a_validation_without_labels_has_no_score_of_0(mean_iou, score, text):
    assert scores_text(mean_iou, score) == text
