"""Gaussian, Edgeworth and kernel density estimates against their equations, summed one term at a time in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from miseg.information import DISTRIBUTIONS, InfiniteInformationError, estimate

Pair = tuple[np.ndarray, np.ndarray]


def skewed_pair(samples: int = 80) -> Pair:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((samples, 2))
    y = np.exp(0.5 * x @ generator.standard_normal((2, 3))) + 0.3 * generator.standard_normal((samples, 3))
    return x, y


def half_log_determinant(values: np.ndarray) -> float:
    return np.linalg.slogdet(np.cov(values.T, bias=True).reshape(values.shape[1], -1)).logabsdet / 2


def gaussian_reference(x: np.ndarray, y: np.ndarray) -> float:
    return half_log_determinant(x) + half_log_determinant(y) - half_log_determinant(np.hstack((x, y)))


def negentropy_reference(values: np.ndarray) -> float:
    """1/12 Σ κ_iii² + 1/4 Σ κ_iij² + 1/2 Σ κ_ijk², i < j < k, of variables whitened by a Cholesky factor."""
    centred = values - values.mean(0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(values.T, bias=True).reshape(values.shape[1], -1)), centred.T)
    columns = range(len(white))
    once = sum((white[i] ** 3).mean() ** 2 for i in columns)
    twice = sum((white[i] ** 2 * white[j]).mean() ** 2 for i, j in itertools.permutations(columns, 2))
    thrice = sum((white[i] * white[j] * white[k]).mean() ** 2 for i, j, k in itertools.combinations(columns, 3))
    return once / 12 + twice / 4 + thrice / 2


def mean_log_density_reference(values: np.ndarray, width: float) -> float:
    """Leave-one-out, with kernels of the samples' covariance times the width squared."""
    samples, columns = values.shape
    covariance = width**2 * np.cov(values.T, bias=True).reshape(columns, columns)
    inverse = np.linalg.inv(covariance)
    norm = math.sqrt((2 * math.pi) ** columns * np.linalg.det(covariance))
    logs = []
    for i in range(samples):
        density = 0.0
        for j in range(samples):
            if j != i:
                difference = values[i] - values[j]
                density += math.exp(-difference @ inverse @ difference / 2) / norm
        logs.append(math.log(density / (samples - 1)))
    return sum(logs) / samples


def test_gaussian_is_the_log_determinants() -> None:
    x, y = skewed_pair()
    assert estimate("gaussian", x, y) == pytest.approx(gaussian_reference(x, y), rel=1e-10)


def test_the_gaussian_bias_of_gaussian_samples_is_taken_off_exactly() -> None:
    distribution = DISTRIBUTIONS["normal-5x5-dense"]
    samples = [distribution.sample(40, seed) for seed in range(200)]
    plain, unbiased = (
        np.array([estimate("gaussian", x, y, unbiased=choice) for x, y in samples]) for choice in (False, True)
    )
    noise = unbiased.std() / math.sqrt(200)
    assert abs(unbiased.mean() - distribution.mutual_information) < 3 * noise
    assert plain.mean() - distribution.mutual_information > 10 * noise


def test_edgeworth_is_the_sum_over_cumulants() -> None:
    x, y = skewed_pair()
    expected = gaussian_reference(x, y) + negentropy_reference(np.hstack((x, y)))
    expected -= negentropy_reference(x) + negentropy_reference(y)
    found = estimate("edgeworth", x, y)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found.details["gaussian"] == pytest.approx(gaussian_reference(x, y), rel=1e-10)
    assert abs(found - gaussian_reference(x, y)) > 0.01


@pytest.mark.parametrize("bandwidth", ["silverman", "scott", 0.4])
def test_kde_is_the_mean_log_ratio_of_the_densities(bandwidth: str | float) -> None:
    x, y = skewed_pair(60)
    expected = 0.0
    for values, sign in ((np.hstack((x, y)), 1), (x, -1), (y, -1)):
        columns = values.shape[1]
        rules = {"silverman": (4 / (columns + 2) / 60) ** (1 / (columns + 4)), "scott": 60 ** (-1 / (columns + 4))}
        width = rules.get(bandwidth, bandwidth) if isinstance(bandwidth, str) else bandwidth
        expected += sign * mean_log_density_reference(values, width)
    assert estimate("kde", x, y, bandwidth=bandwidth) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("estimator", "name", "samples", "tolerance"),
    [
        ("gaussian", "normal-1x1-0.75", 2000, 0.04),
        ("gaussian", "normal-5x5-sparse", 2000, 0.06),
        ("gaussian", "normal-25x25-dense", 5000, 0.1),
        ("gaussian", "normal-1x1-10nats", 1000, 0.1),
        ("gaussian", "normal-5x5-12nats", 2000, 0.15),
        ("edgeworth", "normal-1x1-0.75", 2000, 0.04),
        ("edgeworth", "normal-5x5-sparse", 3000, 0.1),
        ("kde", "normal-1x1-independent", 1500, 0.03),
        ("kde", "normal-1x1-0.75", 1500, 0.04),
        ("kde", "normal-1x1-0.99", 1500, 0.06),
        ("kde", "mixture-1x1-cross", 1500, 0.09),
    ],
)
def test_near_the_truth_where_they_suit(estimator: str, name: str, samples: int, tolerance: float) -> None:
    distribution = DISTRIBUTIONS[name]
    assert estimate(estimator, *distribution.sample(samples, 0)) == pytest.approx(
        distribution.mutual_information, abs=tolerance
    )


def test_linear_maps_within_a_side_change_nothing() -> None:
    """Van Hulle's expansion too, which the weight 1/72 for cumulants of three columns would not leave alone."""
    x, y = skewed_pair()
    mixed = y @ np.random.default_rng(1).standard_normal((3, 3)) + 5
    for name in ("gaussian", "edgeworth", "kde"):
        assert estimate(name, x * [1e3, 1e-3], mixed) == pytest.approx(estimate(name, x, y), rel=1e-8)


def test_columns_that_others_determine_add_nothing() -> None:
    x, y = skewed_pair()
    doubled = np.hstack((x, x @ [[1.0], [-2.0]]))
    for name in ("gaussian", "edgeworth", "kde"):
        assert estimate(name, doubled, y) == pytest.approx(estimate(name, x, y), rel=1e-8)


@pytest.mark.parametrize("name", ["gaussian", "edgeworth", "kde"])
def test_a_singular_joint_covariance_is_named(name: str) -> None:
    x, y = skewed_pair()
    with pytest.raises(InfiniteInformationError, match="leave the shared column out of one side"):
        estimate(name, x, np.hstack((y, x[:, :1] - 3 * x[:, 1:])))
    with pytest.raises(ValueError, match="6 samples of 5 columns have a singular covariance: use more than 6 samples"):
        estimate(name, x[:6], y[:6])


@pytest.mark.parametrize("bandwidth", [0, -1.0, math.inf, math.nan, "sheather"])
def test_a_bad_bandwidth_is_named(bandwidth: float | str) -> None:
    with pytest.raises(ValueError, match=f"bandwidth = '?{bandwidth}'?: use"):
        estimate("kde", *skewed_pair(), bandwidth=bandwidth)


def test_gaussian_sees_nothing_of_an_uncorrelated_dependence() -> None:
    distribution = DISTRIBUTIONS["mixture-1x1-cross"]
    assert distribution.mutual_information > 0.4
    assert estimate("gaussian", *distribution.sample(2000, 0)) < 0.01


def test_edgeworth_is_lost_in_heavy_tails() -> None:
    distribution = DISTRIBUTIONS["student-1x1-dof1"]
    assert estimate("edgeworth", *distribution.sample(1000, 0)) > 10 * distribution.mutual_information


def test_kde_is_far_too_low_in_ten_columns() -> None:
    distribution = DISTRIBUTIONS["normal-5x5-sparse"]
    assert estimate("kde", *distribution.sample(1000, 0)) < 0.7 * distribution.mutual_information
