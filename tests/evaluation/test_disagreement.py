"""Who is right where, from two pictures of panels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from miseg.evaluation.disagreement import BOTH, FIRST, NEITHER, SECOND, disagreement
from miseg.evaluation.pictures import GAP, IGNORED, TEXT, PanelRow, panels

COLOURS, CLASSES = ((10, 100, 200), (200, 60, 10)), ("sky", "road")


def rows(*predictions: np.ndarray) -> list[PanelRow]:
    rng = np.random.default_rng(0)
    found = []
    for prediction in predictions:
        truth = np.zeros(prediction.shape, np.int64)
        truth[:, : prediction.shape[1] // 2] = 1
        truth[0] = 255
        found.append(PanelRow(rng.integers(0, 256, (*prediction.shape, 3), dtype=np.uint8), truth, prediction))
    return found


def test_every_pixel_says_who_is_right() -> None:
    # 192 pixels high: shown at its own size. Quarters by columns: both, only one, only the other, neither.
    truth = np.zeros((192, 256), np.int64)
    truth[:, :128] = 1
    one, other = truth.copy(), truth.copy()
    other[:, 64:128] = 0
    one[:, 128:192] = 1
    one[:, 192:], other[:, 192:] = 1, 1
    small = np.zeros((100, 250), np.int64)
    first, second = panels(rows(one, small), COLOURS, CLASSES), panels(rows(other, small), COLOURS, CLASSES)
    picture, apart = disagreement(first, second, ("RMI", "BCE"))
    sheet = np.asarray(picture)
    step = (sheet.shape[1] - GAP) // 5
    top, left = 2 * GAP + TEXT, GAP + 4 * step
    shown = sheet[top : top + 192, left : left + 256]
    assert np.array_equal(shown[0], np.full((256, 3), IGNORED))
    for start, colour in ((0, BOTH), (64, FIRST), (128, SECOND), (192, NEITHER)):
        assert np.array_equal(shown[1:, start : start + 64], np.broadcast_to(colour, (191, 64, 3))), colour
    # The second image is the same for both: its left half, of class 1, is missed by both.
    counted = 191 * 256 + 99 * 250
    assert apart == pytest.approx(191 * 128 / counted)
    # Image and truth are the originals', and the predictions each model's own.
    assert np.array_equal(sheet[top : top + 192, GAP : GAP + 256], rows(one)[0].image)
    predicted = sheet[top : top + 192, GAP + 3 * step : GAP + 3 * step + 256]
    assert np.array_equal(predicted, np.asarray(COLOURS, np.uint8)[other])


def test_pictures_that_do_not_belong_together_are_refused() -> None:
    prediction = np.zeros((192, 200), np.int64)
    first = panels(rows(prediction), COLOURS, CLASSES)
    with pytest.raises(ValueError, match="different images"):
        disagreement(first, panels(rows(prediction, prediction), COLOURS, CLASSES), ("a", "b"))
    with pytest.raises(ValueError, match="different images"):
        other = [PanelRow(255 - row.image, row.truth, row.prediction) for row in rows(prediction)]
        disagreement(first, panels(other, COLOURS, CLASSES), ("a", "b"))
    with pytest.raises(ValueError, match="none of the panels"):
        disagreement(Image.new("RGB", (300, 300), "white"), first, ("a", "b"))
