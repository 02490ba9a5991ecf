"""A few labelled pixels drawn from the truth of one date."""

from __future__ import annotations

import numpy as np
import pytest

from miseg.data.loading.examples import draw_examples, drawn_of_each, labelled_date
from miseg.data.loading.pairs import open_chip
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from tests.support.places import DATES, Places


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return PackedDataset.open(pack(Places(), tmp_path_factory.mktemp("examples") / "packed", ["train"]).path)


def pixels(found: list[dict]) -> set[tuple[str, int, int, int]]:
    """(chip, row, column, label) of every example."""
    return {
        (item["ids"][0], int(row), int(column), int(item["labels"][0, row, column]))
        for item in found
        for row, column in zip(*np.nonzero(item["labels"][0] != 255), strict=True)
    }


def test_each_class_has_its_number_with_the_truths_label(dataset):
    found = draw_examples(dataset, "train", 5, seed=0)
    chosen = pixels(found)
    assert sorted(label for *_, label in chosen) == [0] * 5 + [1] * 5
    chips = {dataset.index("train")[n][0]: open_chip(dataset, dataset.read("train", n)) for n in range(6)}
    for name, row, column, label in chosen:
        assert chips[name].labels[row, column] == label
    assert all(item["images"].shape == (1, 2, 12, 14) and item["images"].dtype == np.float32 for item in found)


def test_a_smaller_number_is_among_a_larger_one_and_seeds_differ(dataset):
    one, many = (pixels(draw_examples(dataset, "train", number, seed=3)) for number in (1, 10))
    assert one < many and pixels(draw_examples(dataset, "train", 10, seed=4)) != many


def test_they_are_of_the_date_that_is_asked_for_or_of_the_clearest(dataset):
    # The last date of one place is cloudy, so that date has the fewest labels; of the two others the first counts.
    assert labelled_date(dataset, "train") == DATES[0]
    for date in DATES:
        assert {item["dates"][0] for item in draw_examples(dataset, "train", 3, 0, date)} == {date}
    assert {item["dates"][0] for item in draw_examples(dataset, "train", 3, 0)} == {DATES[0]}


def test_a_date_without_a_chip_is_named(dataset):
    with pytest.raises(ValueError, match=r"no labelled pixel in split 'train' at 2020-01-01; its dates are 2019-04-01"):
        draw_examples(dataset, "train", 1, 0, "2020-01-01")


def test_each_image_has_labels_of_its_own():
    truth = np.full((3, 6, 8), 255, np.uint8)
    truth[0, :, :4], truth[0, :, 4:], truth[1, 2:4] = 0, 3, 1
    few, many = (drawn_of_each(truth, number, seed=2) for number in (2, 5))
    assert few is not None and many is not None
    for sparse, number in ((few, 2), (many, 5)):
        labelled = sparse != 255
        assert np.array_equal(sparse[labelled], truth[labelled])
        counts = [np.bincount(part[part != 255], minlength=4).tolist() for part in sparse]
        assert counts == [[number, 0, 0, number], [0, number, 0, 0], [0, 0, 0, 0]]
    assert (many[few != 255] == few[few != 255]).all(), "fewer labels are among more"
    assert not np.array_equal(few, drawn_of_each(truth, 2, seed=3))
    assert drawn_of_each(truth[2:], 2, seed=2) is None
