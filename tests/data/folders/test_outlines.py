"""Outlines as COCO's files have them, drawn on pixels."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from miseg.data.folders.outlines import OutlineError, draw_outline
from tests.support.layouts import box, crowd


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_of_numbers_and_of_letters(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 60, 2).tolist()
    covered = rng.random((height, width)) < rng.choice([0.02, 0.5, 0.98])
    assert np.array_equal(draw_outline(crowd(covered)["segmentation"], height, width), covered)
    letters = coco_mask.encode(np.asfortranarray(covered.astype(np.uint8)))
    outline = {"size": [height, width], "counts": letters["counts"].decode()}
    assert np.array_equal(draw_outline(outline, height, width), covered)


def test_polygons_cover_what_they_surround():
    expected = np.zeros((9, 12), bool)
    expected[2:5, 3:7] = True
    polygon = box(2, 3, 5, 7)["segmentation"]
    assert np.array_equal(draw_outline(polygon, 9, 12), expected)
    assert np.array_equal(draw_outline(polygon[0], 9, 12), expected), "without the outer list"
    expected[8, 0] = True
    assert np.array_equal(draw_outline([*polygon, *box(8, 0, 9, 1)["segmentation"]], 9, 12), expected), "two parts"
    assert not draw_outline([[1, 1, 4, 4]], 9, 12).any(), "two points surround nothing"


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        ([], "no polygon"),
        ([[0, 0, 5, 0, 5]], "no list of pairs of numbers"),
        ([["a", "b", "c", "d", "e", "f"]], "no list of pairs of numbers"),
        ([[0, 0, 5, 0, 500, 5]], "reaches far beyond the image of 9x12 pixels"),
        ([[0, 0, 5, 0, float("nan"), 5]], "reaches far beyond"),
        ({"size": [12, 9], "counts": [108]}, r"run lengths of size \[12, 9\], the image has \[9, 12\]"),
        ({"size": [9, 12], "counts": [100]}, "run lengths of 100 pixels, the image has 108"),
        ({"size": [9, 12], "counts": [-1, 109]}, "no list of whole numbers"),
        ({"size": [9, 12], "counts": "\x7f"}, "not in COCO's letters"),
        ({"size": [9, 12], "counts": "P"}, "end in the midst of a number"),
    ],
)
def test_outlines_that_cannot_be_drawn(outline, reason):
    with pytest.raises(OutlineError, match=reason):
        draw_outline(outline, 9, 12)
