"""The 40 tasks of Czyż et al. (2023), beside what their own package draws and says.

`bmi_tasks.json` beside this file was written from `benchmark-mi` 0.1.3 (JAX 0.4.26), 20,000 samples a task: mutual
information, quantiles of the first three columns of x and of y, and Spearman's correlations of these columns and of
their distances from the median, the upper triangle row by row.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from miseg.information import DISTRIBUTIONS
from miseg.information.bmi import BMI_TASKS
from miseg.information.catalog import DISTRIBUTION_GROUPS
from miseg.information.distributions import transforms
from tests.support import ROOT

THEIRS: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/information/bmi_tasks.json").read_text(encoding="utf-8"))
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
OURS, DRAWN = 4000, 20_000


def test_all_forty_are_there_by_their_names_and_in_their_order() -> None:
    assert list(BMI_TASKS) == list(THEIRS) and len(THEIRS) == 40
    assert DISTRIBUTION_GROUPS["bmi"] == tuple(THEIRS)
    assert set(DISTRIBUTIONS) == {*DISTRIBUTION_GROUPS["miseg"], *DISTRIBUTION_GROUPS["bmi"]}


@pytest.mark.parametrize("name", BMI_TASKS)
def test_mutual_information_and_samples_are_those_of_the_benchmark(name: str) -> None:
    theirs, ours = THEIRS[name], DISTRIBUTIONS[name]
    assert ours.dims == tuple(theirs["dims"]) and not ours.discrete
    assert ours.mutual_information == pytest.approx(theirs["nats"], abs=2e-7)
    columns_ND = np.hstack([side[:, :3] for side in ours.sample(OURS, 7)])
    spread = math.sqrt(1 / OURS + 1 / DRAWN)
    for column, quantiles in zip(columns_ND.T, theirs["quantiles"], strict=True):
        for share, quantile in zip(SHARES, quantiles, strict=True):
            # Four and a half standard deviations: the 40 tasks make a thousand comparisons.
            assert abs((column < quantile).mean() - share) < 4.5 * spread * math.sqrt(share * (1 - share)) + 1e-3
    upper = np.triu_indices(columns_ND.shape[1], 1)
    for values_ND, expected in (
        (columns_ND, theirs["ranks"]),
        (np.abs(columns_ND - np.median(columns_ND, 0)), theirs["distances"]),
    ):
        ranks_ND = stats.rankdata(values_ND, axis=0)
        np.testing.assert_allclose(np.corrcoef(ranks_ND.T)[upper], expected, atol=6 * spread)


@pytest.mark.parametrize("change", ["wiggly_x", "wiggly_y", "bimodal_x", "bimodal_y"])
def test_transforms_of_one_column_rise_everywhere(change: str) -> None:
    line_N1 = np.linspace(-6, 6, 10_001)[:, None]
    assert (np.diff(getattr(transforms, change)(line_N1)[:, 0]) > 0).all()


def test_the_bimodal_columns_have_the_distribution_of_two_normals() -> None:
    values_N1 = np.random.default_rng(0).standard_normal((4000, 1))
    for change, weight, means in ((transforms.bimodal_x, 0.3, (0, 5)), (transforms.bimodal_y, 0.5, (-1, 3))):

        def cumulative(at: np.ndarray, weight: float = weight, means: tuple[int, int] = means) -> np.ndarray:
            return weight * stats.norm.cdf(at - means[0]) + (1 - weight) * stats.norm.cdf(at - means[1])

        changed = change(values_N1)
        np.testing.assert_allclose(cumulative(changed), stats.norm.cdf(values_N1), atol=1e-12)


def test_the_spiral_of_y_turns_its_second_and_third_column_and_no_other() -> None:
    values_ND = np.random.default_rng(0).standard_normal((50, 4))
    turned_ND = transforms.spiral_y(values_ND)
    np.testing.assert_array_equal(turned_ND[:, [0, 3]], values_ND[:, [0, 3]])
    angles_N = (values_ND**2).mean(1)
    plane = (turned_ND[:, 1] + 1j * turned_ND[:, 2]) * np.exp(-1j * angles_N)
    np.testing.assert_allclose(np.stack((plane.real, plane.imag), 1), values_ND[:, 1:3], atol=1e-12)
