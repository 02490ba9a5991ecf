"""Pictures have the right size, and the right colours in the right places."""

from __future__ import annotations

import numpy as np
import pytest

from miseg.evaluation import ConfusionMatrix
from miseg.evaluation.pictures import (
    IGNORED,
    RIGHT,
    WRONG,
    PanelRow,
    comparison,
    confusion_picture,
    error_map,
    panel,
    panels,
)

COLOURS = [(10, 200, 30), (200, 20, 220), (0, 90, 250)]
NAMES = ["grass", "flower", "sky"]
TOP, GAP = 36, 10


def example(height: int = 100, width: int = 200) -> PanelRow:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    truth = np.zeros((height, width), dtype=np.int64)
    truth[:, width // 2 :] = 1
    prediction = truth.copy()
    prediction[10:20, 30:50] = 2
    truth[-10:, -20:] = 255
    return PanelRow(image, truth, prediction)


def test_columns_are_image_truth_prediction_and_errors() -> None:
    row = example()
    picture = np.asarray(panel(*row, COLOURS, NAMES))
    image, truth, prediction, errors = (
        picture[TOP : TOP + 100, GAP + i * (200 + GAP) : GAP + i * (200 + GAP) + 200] for i in range(4)
    )
    palette = np.array([*COLOURS, IGNORED])
    assert np.array_equal(image, row.image)
    assert np.array_equal(truth, palette[np.where(row.truth == 255, 3, row.truth)])
    assert np.array_equal(prediction, palette[row.prediction])
    expected = np.full((100, 200, 3), RIGHT)
    expected[10:20, 30:50] = WRONG
    expected[-10:, -20:] = IGNORED
    assert np.array_equal(errors, expected)


def test_legend_shows_every_colour() -> None:
    picture = np.asarray(panel(*example(), COLOURS, NAMES))
    legend = {tuple(colour) for colour in picture[TOP + 100 :].reshape(-1, 3).tolist()}
    assert {*COLOURS, RIGHT, WRONG, IGNORED} <= legend


def test_rows_add_their_height() -> None:
    one = panels([example()], COLOURS, NAMES)
    mixed = panels([example(), example(60, 150)], COLOURS, NAMES)
    assert mixed.width == one.width == 4 * (200 + GAP) + GAP
    assert mixed.height == one.height + 60 + GAP
    errors = np.asarray(mixed)[TOP + 110 : TOP + 170, GAP + 630 : GAP + 780]
    second = example(60, 150)
    assert np.array_equal(errors, error_map(second.truth, second.prediction))


@pytest.mark.parametrize(
    ("size_HW", "cell_HW"), [((64, 96), (128, 192)), ((720, 960), (360, 480)), ((7, 3), (196, 120))]
)
def test_small_images_are_enlarged_and_large_ones_shrunk(size_HW: tuple[int, int], cell_HW: tuple[int, int]) -> None:
    picture = panel(*example(*size_HW), COLOURS, NAMES)
    assert picture.mode == "RGB"
    assert picture.width == 4 * (cell_HW[1] + GAP) + GAP
    assert TOP + cell_HW[0] < picture.height < TOP + cell_HW[0] + 120


def test_grey_images_and_numbered_classes() -> None:
    row = example()
    by_name = panel(row.image[..., :1], row.truth, row.prediction, COLOURS, ["0", "1", "2"])
    by_number = panel(row.image[..., 0], row.truth, row.prediction, COLOURS, ())
    assert np.array_equal(np.asarray(by_name), np.asarray(by_number))


def test_refuses_what_it_cannot_show() -> None:
    image, truth, prediction = example()
    with pytest.raises(ValueError, match="no rows"):
        panels([], COLOURS, NAMES)
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        panel(image, truth, prediction, COLOURS, NAMES[:2])
    with pytest.raises(ValueError, match="type float64: expected uint8"):
        panel(image / 255, truth, prediction, COLOURS, NAMES)
    with pytest.raises(ValueError, match="pick the bands"):
        panel(np.concatenate((image, image), 2), truth, prediction, COLOURS, NAMES)
    with pytest.raises(ValueError, match="differ in size"):
        panel(image, truth[1:], prediction, COLOURS, NAMES)
    with pytest.raises(ValueError, match=r"prediction holds 3: 3 colours are for 0..2"):
        panel(image, truth, prediction + 2, COLOURS, NAMES)


def methods_of(*titles: str, rows: int = 1) -> dict[str, list[PanelRow]]:
    """Each method sees the sky one stripe further to the right than the one before."""
    methods: dict[str, list[PanelRow]] = {title: [] for title in titles}
    for number, title in enumerate(titles):
        for _ in range(rows):
            image, truth, _ = example()
            prediction = np.zeros_like(truth)
            prediction[:, 20 * number : 20 * number + 20] = 2
            methods[title].append(PanelRow(image, truth, prediction))
    return methods


def test_a_comparison_has_a_column_for_each_method_in_their_order() -> None:
    methods = methods_of("first", "second", "third", rows=2)
    picture = np.asarray(comparison(methods, COLOURS, NAMES))
    assert picture.shape[1] == 5 * (200 + GAP) + GAP
    palette = np.array([*COLOURS, IGNORED])
    for line in range(2):
        top = TOP + line * (100 + GAP)
        cells = [picture[top : top + 100, GAP + i * (200 + GAP) : GAP + i * (200 + GAP) + 200] for i in range(5)]
        image, truth, _ = methods["first"][line]
        assert np.array_equal(cells[0], image)
        assert np.array_equal(cells[1], palette[np.where(truth == 255, 3, truth)])
        for cell, rows in zip(cells[2:], methods.values(), strict=True):
            assert np.array_equal(cell, palette[rows[line].prediction])
    legend = picture[TOP + 2 * (100 + GAP) :]
    # A swatch is 15 pixels wide and high inside its frame; the text's smoothed edges have a few grey pixels too.
    swatches = [(legend == colour).all(-1).sum() for colour in (*COLOURS, IGNORED, RIGHT, WRONG)]
    assert min(swatches[:4]) >= 15 * 15 and max(swatches[4:]) < 15


def test_a_comparisons_titles_stand_over_their_columns() -> None:
    def title_of(methods: dict[str, list[PanelRow]], column: int) -> np.ndarray:
        left = GAP + column * (200 + GAP)
        return np.asarray(comparison(methods, COLOURS, NAMES))[:TOP, left : left + 200]

    both = methods_of("first", "second")
    for column, title in ((2, "first"), (3, "second")):
        assert np.array_equal(title_of(both, column), title_of(methods_of(title), 2))
    assert not np.array_equal(title_of(both, 2), title_of(both, 3))
    assert np.array_equal(title_of(both, 0), np.asarray(panel(*example(), COLOURS, NAMES))[:TOP, GAP : GAP + 200])


def test_a_comparisons_columns_are_as_wide_as_their_titles() -> None:
    wide = comparison(methods_of("region mutual information, lambda 0.25"), COLOURS, NAMES)
    assert wide.width > 3 * (200 + GAP) + GAP
    column = (wide.width - GAP) // 3
    title = np.asarray(wide)[:TOP, 2 * column + GAP :]
    ink = (title < 128).any((0, 2)).nonzero()[0]
    assert ink[0] < 5 and column - 25 < ink[-1] < column - GAP


def test_a_comparison_refuses_what_it_cannot_show() -> None:
    for nothing in ({}, {"first": []}):
        with pytest.raises(ValueError, match="no rows"):
            comparison(nothing, COLOURS, NAMES)
    methods = methods_of("first", "second")
    image, truth, prediction = methods["second"][0]
    with pytest.raises(ValueError, match="second: its images are not those of the first method"):
        comparison(methods | {"second": []}, COLOURS, NAMES)
    with pytest.raises(ValueError, match="second: its images are not those of the first method"):
        comparison(methods | {"second": [PanelRow(image, 1 - truth.clip(0, 1), prediction)]}, COLOURS, NAMES)
    with pytest.raises(ValueError, match="differ in size"):
        comparison(methods | {"second": [PanelRow(image, truth, prediction[1:])]}, COLOURS, NAMES)
    with pytest.raises(ValueError, match=r"prediction holds 4: 3 colours are for 0..2"):
        comparison(methods | {"second": [PanelRow(image, truth, prediction + 2)]}, COLOURS, NAMES)


def test_confusion_picture_is_dark_where_pixels_are() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0] * 99 + [1] * 101), np.array([0] * 100 + [1] * 100))
    by_matrix = confusion_picture(matrix, NAMES)
    assert by_matrix.mode == "RGB" and min(by_matrix.size) > 300
    assert np.array_equal(np.asarray(by_matrix), np.asarray(confusion_picture(matrix.counts.numpy(), NAMES)))
    pixels = np.asarray(by_matrix).astype(int)
    dark_blue = (pixels[..., 2] - pixels[..., 0] > 80).mean()
    empty_row = (pixels == 0xE4).all(-1).mean()
    assert dark_blue > 0.05 and empty_row > 0.05


def test_confusion_picture_grows_with_the_classes_and_checks_its_input() -> None:
    assert confusion_picture(np.eye(12, dtype=int), ()).width > confusion_picture(np.eye(3, dtype=int), ()).width
    with pytest.raises(ValueError, match=r"shape \(2, 3\): expected \[K, K\]"):
        confusion_picture(np.zeros((2, 3), int), ())
    with pytest.raises(ValueError, match="3 class names for 2 classes"):
        confusion_picture(np.eye(2, dtype=int), NAMES)
