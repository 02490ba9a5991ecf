"""The plug-in of tables and samples and the histogram, against sums over cells written out one at a time."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from miseg.information import DISTRIBUTIONS, estimate, plug_in


def reference(table: list[list[float]]) -> float:
    total = sum(map(sum, table))
    rows = [sum(row) / total for row in table]
    columns = [sum(row[index] for row in table) / total for index in range(len(table[0]))]
    nats = 0.0
    for row, of_row in zip(table, rows, strict=True):
        for cell, of_column in zip(row, columns, strict=True):
            if cell:
                nats += cell / total * math.log(cell / total / (of_row * of_column))
    return nats


COUNTS = [[12, 3, 0, 5], [2, 20, 7, 0], [0, 0, 0, 0], [1, 0, 9, 4]]


def test_a_table_gives_the_sum_over_its_cells_with_the_correction() -> None:
    assert plug_in(COUNTS, correction="none") == pytest.approx(reference(COUNTS), abs=1e-13)
    # 3 rows, 4 columns and 9 cells are occupied, of 63 samples.
    found = plug_in(COUNTS)
    assert found == pytest.approx(reference(COUNTS) + (3 + 4 - 9 - 1) / (2 * 63), abs=1e-13)
    assert found.details["plug_in"] == pytest.approx(reference(COUNTS), abs=1e-13)


def test_a_soft_table_of_a_tensor_with_its_number_of_samples() -> None:
    probabilities = torch.rand(50, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    joint = torch.einsum("nk,nl->kl", probabilities[:, 0], probabilities[:, 1]).requires_grad_()
    table = joint.detach().tolist()
    assert plug_in(joint, samples=50) == pytest.approx(reference(table) + (3 + 3 - 9 - 1) / 100, abs=1e-13)
    assert plug_in(joint / 50, correction="none") == pytest.approx(reference(table), abs=1e-13)


@pytest.mark.parametrize("seed", range(20))
def test_no_correction_lifts_it_above_what_so_many_symbols_can_tell(seed: int) -> None:
    """Of few, sure samples the first-order term is positive: of K pairs on a diagonal it is (K - 1) / 2N."""
    generator = np.random.default_rng(seed)
    symbols = int(generator.integers(2, 9))
    x = np.append(np.arange(symbols), generator.integers(0, symbols, 4))
    table = np.zeros((symbols, symbols + 2))
    np.add.at(table, (x, x), 1)
    found = plug_in(table)
    assert found.details["plug_in"] + found.details["correction"] > found.details["plug_in"]
    assert found <= math.log(symbols) and estimate("plug_in", x[:, None], x[:, None]) <= math.log(symbols)
    even = plug_in(np.eye(symbols) * 3)
    assert even == pytest.approx(math.log(symbols), abs=1e-12) and even.details["correction"] > 0


def test_certain_and_independent_tables() -> None:
    assert plug_in(np.eye(5) / 5, correction="none") == pytest.approx(math.log(5), abs=1e-13)
    assert plug_in(np.outer([0.2, 0.8], [0.1, 0.3, 0.6]), correction="none") == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize(
    ("table", "settings", "reason"),
    [
        ([1, 2], {}, r"expected \[K, L\], finite"),
        ([[1, -1]], {}, "≥ 0"),
        ([[0, 0]], {}, "not all 0"),
        ([[math.nan, 1]], {}, "finite"),
        ([[0.5, 0.5]], {}, "give samples=N for the correction"),
        ([[1, 2]], {"samples": 0}, "samples = 0: use the number"),
        ([[1, 2]], {"correction": "james-stein"}, "correction = 'james-stein': use one of miller-madow, none"),
    ],
)
def test_bad_tables_are_named(table: list, settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plug_in(table, **settings)


@pytest.mark.parametrize("correction", ["none", "miller-madow"])
def test_samples_give_what_their_table_gives_and_rows_are_symbols(correction: str) -> None:
    x, y = DISTRIBUTIONS["table-3x4"].sample(500, 0)
    table = np.zeros((3, 4), dtype=int)
    for row, column in zip(x[:, 0], y[:, 0], strict=True):
        table[row, column] += 1
    expected = plug_in(table, correction=correction)
    assert estimate("plug_in", x, y, correction=correction) == pytest.approx(expected, abs=1e-13)
    # The same symbols, spelt in two columns and with other numbers.
    pairs = np.hstack((x // 2, x % 2)) * 7 - 3
    assert estimate("plug_in", pairs, y[:, 0], correction=correction) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("name", ["table-independent", "table-binary-channel", "table-3x4"])
def test_the_correction_takes_the_bias_off(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    samples = [distribution.sample(100, seed) for seed in range(300)]
    raw, corrected = (
        np.array([estimate("plug_in", x, y, correction=correction) for x, y in samples])
        for correction in ("none", "miller-madow")
    )
    noise = corrected.std() / math.sqrt(300)
    assert abs(corrected.mean() - distribution.mutual_information) < 0.002 + 3 * noise
    assert raw.mean() - distribution.mutual_information > 2 * abs(corrected.mean() - distribution.mutual_information)


def test_floating_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="y holds values that are no integers: use 'histogram' or 'ksg'"):
        estimate("plug_in", [0, 1, 2], [0.0, 1.0, 0.5])


def histogram_reference(x: np.ndarray, y: np.ndarray, bins: int) -> float:
    """Each value's bin by its rank, for columns without ties whose number of samples the bins divide."""
    cells = [(column.argsort().argsort() * bins) // len(column) for column in (*x.T, *y.T)]
    rows = [tuple(cell) for cell in np.array(cells).T]
    split = x.shape[1]
    counts = [Counter(row[:split] for row in rows), Counter(row[split:] for row in rows), Counter(rows)]
    of_x, of_y, joint = counts
    total = len(rows)
    nats = sum(
        count / total * math.log(count * total / (of_x[cell[:split]] * of_y[cell[split:]]))
        for cell, count in joint.items()
    )
    return nats + (len(of_x) + len(of_y) - len(joint) - 1) / (2 * total)


@pytest.mark.parametrize(("name", "bins"), [("normal-1x1-0.75", 10), ("normal-2x2-dense", 4)])
def test_the_histogram_bins_by_rank(name: str, bins: int) -> None:
    x, y = DISTRIBUTIONS[name].sample(1000, 0)
    found = estimate("histogram", x, y, bins=bins)
    # An edge falls on a sample or beside it: one sample a bin may change sides.
    assert found == pytest.approx(histogram_reference(x, y, bins), abs=0.01)


def test_the_rule_leaves_five_samples_a_cell() -> None:
    x, y = DISTRIBUTIONS["normal-1x1-0.75"].sample(5 * 49, 0)
    assert estimate("histogram", x, y).details["bins"] == 7
    assert estimate("histogram", x[:-1], y[:-1]).details["bins"] == 6
    assert estimate("histogram", *DISTRIBUTIONS["normal-2x2-dense"].sample(5 * 81, 0)).details["bins"] == 3


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("normal-1x1-independent", 0.03),
        ("normal-1x1-0.75", 0.04),
        ("mixture-1x1-cross", 0.06),
        ("asinh-student-1x1", 0.09),
    ],
)
def test_the_histogram_is_near_the_truth_in_two_columns(name: str, tolerance: float) -> None:
    distribution = DISTRIBUTIONS[name]
    assert estimate("histogram", *distribution.sample(3000, 0)) == pytest.approx(
        distribution.mutual_information, abs=tolerance
    )


def test_monotone_transforms_change_no_bin() -> None:
    x, y = DISTRIBUTIONS["normal-1x1-0.75"].sample(1000, 0)
    assert estimate("histogram", np.exp(x), -y) == pytest.approx(estimate("histogram", x, y), abs=0.02)
    assert estimate("histogram", np.exp(x), y**3) == estimate("histogram", x, y)


def test_a_histogram_sees_no_more_than_its_bins() -> None:
    x, y = DISTRIBUTIONS["normal-1x1-10nats"].sample(1000, 0)
    found = estimate("histogram", x, y, correction="none")
    assert found <= math.log(found.details["bins"]) + 1e-12 < 3


def test_too_few_samples_for_two_bins_are_named() -> None:
    with pytest.raises(ValueError, match=r"1000 samples in 10 columns .*use 5 · 2\^10 samples or more"):
        estimate("histogram", *DISTRIBUTIONS["normal-5x5-sparse"].sample(1000, 0))
    with pytest.raises(ValueError, match="bins = 1: use 2 or more"):
        estimate("histogram", [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], bins=1)
