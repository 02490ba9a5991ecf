"""The papers' rows: as many as their tables have, each of a recipe that exists, every figure with its table."""

from __future__ import annotations

from collections import Counter

import pytest

from miseg.data.sources.described import DESCRIBED
from miseg.data.sources.registry import DATA_SETS
from miseg.methods.registry import registered
from miseg.recipes.catalog import RECIPES
from miseg.recipes.published import PUBLISHED, Published, claims, clusters, few_labels, later, porto, rmi
from tests.support import ROOT

OF_RECIPES = [row for row in PUBLISHED if row.recipe]


@pytest.mark.parametrize("row", OF_RECIPES, ids=lambda row: f"{row.recipe}-{row.metric}-{row.labels}-{row.change}")
def test_a_row_is_run_by_its_recipe(row: Published) -> None:
    experiment = RECIPES[row.recipe]()
    assert type(experiment.method).__name__ == row.method
    assert experiment.data == row.data and row.data in DATA_SETS


def test_a_row_without_a_recipe_has_none_of_ours_beside_it_unless_its_method_is_here() -> None:
    methods = {kind.__name__ for kind in registered()}
    for row in PUBLISHED:
        assert not row.method or row.method in methods, row
        assert row.recipe or row.ours == "none" or not row.method or row.data in DESCRIBED, row


def test_a_figure_has_its_table_and_no_other_row_has_one() -> None:
    for row in PUBLISHED:
        assert bool(row.source) == (row.value is not None or row.points is not None), row
        assert "issue" not in row.source and "README" not in row.source and "not known" not in row.source
        assert row.value is None or 0 < row.value < 100
    empty = {(row.paper, row.data) for row in PUBLISHED if not row.source}
    assert empty == {(porto.PAPER, "ade20k")}


def test_no_row_is_there_twice() -> None:
    keys = [
        (row.paper, row.table, row.data, row.system, row.row, row.metric, row.labels, row.change) for row in PUBLISHED
    ]
    assert not [key for key, count in Counter(keys).items() if count > 1]


def test_every_table_has_its_rows() -> None:
    assert Counter(row.table for row in rmi.ROWS) == {
        "table 1": 2 * (4 + 3 + 1),
        "its figures of VOC test": 2,
        "table 3": 13,
        "table 4": 2 * 2 * 4,
    }
    assert Counter((row.data, row.metric) for row in porto.ROWS) == {
        ("cityscapes", "mean_iou"): 3,
        ("cityscapes", "pixel_accuracy"): 3,
        ("voc", "mean_iou"): 3,
        ("voc", "pixel_accuracy"): 3,
        ("ade20k", "mean_iou"): 3,
    }
    assert Counter(row.data for row in clusters.ROWS) == {
        "coco-stuff-15": 11, "coco-persons": 11, "potsdam": 1, "potsdam-3": 1
    }  # fmt: skip
    assert Counter(row.table for row in few_labels.ROWS) == {
        "its table of labels, Potsdam": 2 * 2 * 2 * 4,
        "table 2": 2 * 2 * 5,
        "table 3": 2 * 2 * 9,
    }
    assert Counter(row.paper for row in later.ROWS) == {later.CWMI: 16, later.PENG: 3}


@pytest.mark.parametrize(
    ("paper", "of", "value"),
    [
        (rmi.PAPER, {"data": "voc-aug", "recipe": "voc-v3-bce"}, 77.09),
        (rmi.PAPER, {"recipe": "voc-v3plus-rmi", "table": "table 1"}, 79.66),
        (rmi.PAPER, {"recipe": "voc-v3plus-ce", "change": "dense CRF, 10 passes"}, 78.60),
        (rmi.PAPER, {"table": "table 3", "change": "DF 6, R 5, average"}, 78.26),
        (rmi.PAPER, {"recipe": "camvid-v3plus-rmi", "computed": False}, 65.06),
        (rmi.PAPER, {"recipe": "camvid-v3plus-rmi", "computed": True}, 67.97),
        (rmi.PAPER, {"recipe": "camvid-v3-ce", "computed": True, "change": ""}, 61.02),
        (porto.PAPER, {"recipe": "porto-voc-rmi-as-published", "metric": "mean_iou"}, 6.07),
        (porto.PAPER, {"recipe": "porto-cityscapes-mutual-as-published", "metric": "pixel_accuracy"}, 93.42),
        (clusters.PAPER, {"recipe": "coco-persons-infoseg-as-published", "row": "InfoSeg", "metric": "mean_iou"}, 52.1),
        (clusters.PAPER, {"data": "potsdam"}, 57.3),
        (few_labels.PAPER, {"change": "", "data": "potsdam-3", "labels": "1", "metric": "mean_iou"}, 36.32),
        (few_labels.PAPER, {"row": "raw pixels", "data": "potsdam", "metric": "pixel_accuracy"}, 60.73),
        (few_labels.PAPER, {"change": "random φ", "data": "potsdam-3", "metric": "mean_iou"}, 39.86),
        (later.CWMI, {"data": "drive", "row": "CWMI"}, 80.1),
        (later.PENG, {"row": "all labels"}, 89.2),
    ],
)  # fmt: skip
def test_figures_stand_where_the_papers_print_them(paper: str, of: dict[str, object], value: float) -> None:
    (row,) = [r for r in PUBLISHED if r.paper == paper and all(getattr(r, k) == v for k, v in of.items())]
    assert row.value == value


def test_the_printed_means_of_camvid_are_over_twelve_classes() -> None:
    """Were they over the eleven, the twelfth's IoU would follow from both, and lie in 0..100."""
    rows = [row for row in rmi.ROWS if row.table == "table 4"]
    for printed, computed in zip(rows[::2], rows[1::2], strict=True):
        assert len(computed.classes) == 11 and not printed.classes and printed.row == computed.row
        twelfth = 12 * printed.value - sum(value for _, value in computed.classes)
        assert 25 < twelfth < 50, "an IoU such as the unlabelled pixels' is"
        assert printed.ours == "none", "ours is over eleven"


def test_gains_are_over_each_papers_own_cross_entropy() -> None:
    assert claims("CrossEntropy") == {}
    gains = {paper: tuple(round(end, 1) for end in span) for paper, span in claims("RegionMutualInformation").items()}
    assert gains == {rmi.PAPER: (1.5, 2.6), porto.PAPER: (-13.6, -6.9), later.CWMI: (1.6, 3.4)}
    assert {p: tuple(round(e, 1) for e in s) for p, s in claims("MutualLearning").items()} == {porto.PAPER: (-3.1, 2.4)}
    (bce,) = claims("BinaryCrossEntropy").values()
    assert bce == (-0.76, -0.05)
    computed = [row.gain for row in rmi.ROWS if row.computed and row.row == "BCE + RMI"]
    assert computed == pytest.approx([2.76, 2.34])


def test_the_front_pages_say_the_same() -> None:
    for page in ("README.md", "docs/index.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert "gains 1.5 to 2.6 mIoU points over softmax cross-entropy" in text
