"""The papers' rows: every recipe and method is there, and every figure says where it stands."""

from __future__ import annotations

import pytest

from miseg.data.sources.registry import DATA_SETS
from miseg.recipes.catalog import RECIPES
from miseg.recipes.published import PUBLISHED, Published, claims
from tests.support import ROOT


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.recipe}-{row.metric}")
def test_a_row_is_run_by_its_recipe(row: Published) -> None:
    experiment = RECIPES[row.recipe]()
    assert type(experiment.method).__name__ == row.method
    assert experiment.data == row.data and row.data in DATA_SETS


def test_a_figure_has_a_source_and_no_other_row_has_one() -> None:
    for row in PUBLISHED:
        assert bool(row.source) == (row.value is not None or row.gain is not None), row
        if row.gain is not None:
            assert row.gain[0] <= row.gain[1]


def test_a_source_is_a_table_and_no_issue() -> None:
    for row in PUBLISHED:
        assert "issue" not in row.source and "README" not in row.source, row


def test_figures_are_those_of_the_texts_that_they_name() -> None:
    for page in ("README.md", "docs/index.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert "gains 1.5 to 2.6 mIoU points over softmax cross-entropy" in text
    assert claims("RegionMutualInformation")[PUBLISHED[0].paper] == (1.5, 2.6)
    import miseg.recipes.porto as porto

    assert "lose 7 to 14 IoU points" in " ".join((porto.__doc__ or "").replace("\n", " ").split())
    assert {span for paper, span in claims("MutualLearning").items()} == {(-14.0, -7.0)}
    assert claims("CrossEntropy") == {}
