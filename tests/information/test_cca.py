"""Canonical correlations: all of them are the Gaussian's, and the tests leave out what independence shows too."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, chi2
from sklearn.cross_decomposition import CCA

from miseg.information import DISTRIBUTIONS, InfiniteInformationError, estimate
from miseg.information.cca import significant


def test_all_correlations_together_are_the_gaussian_s_value() -> None:
    for name in ("normal-2x5-sparse", "normal-5x5-12nats", "student-3x3-dof2"):
        x, y = DISTRIBUTIONS[name].sample(400, 0)
        everything = estimate("cca", x, y, components="all")
        assert everything == pytest.approx(estimate("gaussian", x, y), rel=1e-9)
        assert everything.details["components"] == min(x.shape[1], y.shape[1])


def test_correlations_are_those_of_scikit_learn() -> None:
    x, y = DISTRIBUTIONS["normal-2x5-sparse"].sample(400, 0)
    variates = CCA(n_components=2, tol=1e-12, max_iter=10_000).fit_transform(x, y)
    theirs = [abs(np.corrcoef(*(side[:, k] for side in variates))[0, 1]) for k in range(2)]
    ours = estimate("cca", x, y, components=1)
    assert ours.details["largest"] == pytest.approx(theirs[0], abs=1e-6)
    assert ours == pytest.approx(-0.5 * math.log1p(-(theirs[0] ** 2)), abs=1e-5)
    both = estimate("cca", x, y, components=2)
    assert both == pytest.approx(sum(-0.5 * math.log1p(-(rho**2)) for rho in theirs), abs=1e-5)


@pytest.mark.parametrize(("name", "count"), [("multinormal-sparse-5-5-2-2.0", 2), ("multinormal-dense-25-25-0.5", 1)])
def test_significant_ones_are_as_many_as_there_are_and_nearer_the_truth(name: str, count: int) -> None:
    x, y = DISTRIBUTIONS[name].sample(1000, 3)
    truth = DISTRIBUTIONS[name].mutual_information
    chosen = estimate("cca", x, y)
    assert chosen.details["components"] == count
    assert chosen == pytest.approx(truth, abs=0.1)
    assert abs(chosen - truth) <= abs(estimate("cca", x, y, components="all") - truth)


def test_independent_columns_are_found_dependent_as_often_as_the_level_says() -> None:
    """Of 200 samples of independent columns the first test rejects about one in twenty; 0.1 % of correct ones fail."""
    generator = np.random.default_rng(0)
    wrong = sum(
        estimate("cca", generator.standard_normal((60, 3)), generator.standard_normal((60, 4))) > 0 for _ in range(200)
    )
    low, high = binom(200, 0.05).ppf([5e-4, 1 - 5e-4])
    assert low <= wrong <= high


def test_the_statistic_is_bartlett_s_with_lawley_s_factor() -> None:
    """A literal computation of its first two steps: the correlations at which the second decision turns."""
    correlations = np.array([0.7, 0.2, 0.1])
    samples, dims = 120, (3, 4)
    factor = samples - 1 - 1 - (3 + 4 + 1) / 2 + 1 / 0.7**2
    statistic = -factor * np.log1p(-(correlations[1:] ** 2)).sum()
    p_value = chi2.sf(statistic, (3 - 1) * (4 - 1))
    nats = -0.5 * np.log1p(-(correlations**2))
    assert significant(nats, samples, dims, p_value * 0.999) == 1
    assert significant(nats, samples, dims, p_value * 1.001) > 1


def test_linear_maps_of_a_side_change_nothing() -> None:
    x, y = DISTRIBUTIONS["normal-2x5-sparse"].sample(300, 0)
    mix = np.random.default_rng(1).standard_normal((5, 5))
    assert estimate("cca", x, y @ mix + 3) == pytest.approx(estimate("cca", x, y), rel=1e-8)


def test_bad_settings_and_shared_columns_are_named() -> None:
    x, y = DISTRIBUTIONS["normal-2x5-sparse"].sample(50, 0)
    for settings, reason in (
        ({"components": "some"}, "components = 'some': use 'all', 'significant', or a number"),
        ({"components": 0}, "components = 0: use 1 or more"),
        ({"level": 1.0}, r"level = 1\.0: use a probability between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=reason):
            estimate("cca", x, y, **settings)
    with pytest.raises(InfiniteInformationError):
        estimate("cca", x, np.hstack((y, x[:, :1])))
