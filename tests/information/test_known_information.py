"""Each distribution's mutual information, checked by another way than it was computed: densities and integrals."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from miseg.information import DISTRIBUTIONS, Distribution
from miseg.information.catalog import DISTRIBUTION_GROUPS
from miseg.information.distributions.distribution import Table, UniformNoise
from miseg.information.distributions.elliptical import Normal, Student
from miseg.information.distributions.mixture import GaussianMixture
from miseg.information.distributions.transforms import Transformed

DRAWS = 20_000


def named(kind: type) -> list[str]:
    """Names of miseg's own distributions of that kind; the benchmark's are in test_bmi_tasks.py."""
    return [name for name in DISTRIBUTION_GROUPS["miseg"] if type(DISTRIBUTIONS[name]) is kind]


def assert_mean_is_the_information(log_ratio_N: np.ndarray, distribution: Distribution) -> None:
    noise = log_ratio_N.std() / math.sqrt(len(log_ratio_N))
    assert abs(log_ratio_N.mean() - distribution.mutual_information) < 4 * noise + 1e-6


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_samples_have_the_promised_shape_and_follow_the_seed(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    assert distribution.name == name and distribution.source
    assert distribution.mutual_information >= 0 and 0 <= distribution.error < 1e-6
    x, y = distribution.sample(50, 1)
    assert (x.shape, y.shape) == ((50, distribution.dims[0]), (50, distribution.dims[1]))
    assert {x.dtype.kind, y.dtype.kind} == {"i" if distribution.discrete else "f"}
    assert np.isfinite(x).all() and np.isfinite(y).all()
    for again, first in zip(distribution.sample(50, 1), (x, y), strict=True):
        np.testing.assert_array_equal(again, first)
    assert any((other != first).any() for other, first in zip(distribution.sample(50, 2), (x, y), strict=True))
    with pytest.raises(ValueError, match="n = 0: use 1 or more"):
        distribution.sample(0, 0)


@pytest.mark.parametrize("name", named(Normal) + named(Student))
def test_of_gaussians_and_student_t_by_their_densities(name: str) -> None:
    """The mean of log p(x, y) / p(x) p(y), by SciPy's densities, over the distribution's own samples."""
    distribution = DISTRIBUTIONS[name]
    assert isinstance(distribution, Normal)
    x, y = distribution.sample(DRAWS, 0)
    split, covariance = distribution.dims[0], distribution.covariance_DD

    def log_density(values: np.ndarray, part: slice) -> np.ndarray:
        shape = covariance[part, part]
        if isinstance(distribution, Student):
            return stats.multivariate_t(shape=shape, df=distribution.degrees_of_freedom).logpdf(values)
        return stats.multivariate_normal(cov=shape).logpdf(values)

    log_ratio = log_density(np.hstack((x, y)), slice(None))
    log_ratio = log_ratio - log_density(x, slice(split)) - log_density(y, slice(split, None))
    assert_mean_is_the_information(log_ratio, distribution)


def test_of_a_student_t_by_integration() -> None:
    """Uncorrelated, so that all of it is the correction term; the points are denser where the density is higher."""
    distribution = DISTRIBUTIONS["student-1x1-dof5"]
    steps = np.linspace(-3.2, 3.2, 401)
    line, weights = np.sinh(np.sinh(steps)), np.cosh(np.sinh(steps)) * np.cosh(steps) * (steps[1] - steps[0])
    one = stats.t(5).logpdf(line)
    joint = stats.multivariate_t(shape=np.eye(2), df=5).logpdf(np.stack(np.meshgrid(line, line), -1))
    information = weights @ (np.exp(joint) * (joint - one[:, None] - one)) @ weights
    assert information == pytest.approx(distribution.mutual_information, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "frozen"),
    [("normal-1x1-0.75", stats.norm()), ("student-3x3-dof2", stats.t(2)), ("uniform-noise-0.1", stats.uniform())],
)
def test_columns_have_their_marginal_distribution(name: str, frozen: stats.rv_continuous) -> None:
    x, _ = DISTRIBUTIONS[name].sample(5000, 0)
    assert stats.kstest(x[:, -1], frozen.cdf).pvalue > 1e-3


def test_sparse_and_dense_and_heavy_gaussians_are_what_their_names_say() -> None:
    by_pair = -math.log1p(-(0.8**2)) / 2
    for name in ("normal-2x5-sparse", "normal-5x5-sparse", "normal-25x25-sparse"):
        assert DISTRIBUTIONS[name].mutual_information == pytest.approx(2 * by_pair, rel=1e-9)
    # The sums of x and of y carry all of it: variance 5 + 20 ρ, covariance 25 ρ.
    dense = DISTRIBUTIONS["normal-5x5-dense"]
    assert dense.mutual_information == pytest.approx(-math.log1p(-((12.5 / 15) ** 2)) / 2, rel=1e-9)
    assert DISTRIBUTIONS["normal-1x1-10nats"].mutual_information == pytest.approx(10, abs=1e-6)
    assert DISTRIBUTIONS["normal-5x5-12nats"].mutual_information == pytest.approx(12, abs=1e-9)


@pytest.mark.parametrize("name", named(UniformNoise))
def test_of_uniform_noise_by_integrating_the_entropy_of_y(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    assert isinstance(distribution, UniformNoise)
    epsilon = distribution.epsilon

    def minus_p_log_p(y: float) -> float:
        density = max(min(1, y + epsilon) - max(0, y - epsilon), 0) / (2 * epsilon)
        return -density * math.log(density) if density > 0 else 0.0

    ends = sorted((-epsilon, epsilon, 1 - epsilon, 1 + epsilon))
    entropy = sum(quad(minus_p_log_p, *between)[0] for between in pairwise(ends))
    assert entropy - math.log(2 * epsilon) == pytest.approx(distribution.mutual_information, abs=1e-8)
    x, y = distribution.sample(1000, 0)
    assert abs(y - x).max() <= epsilon and x.min() >= 0 and x.max() <= 1


@pytest.mark.parametrize("name", named(GaussianMixture))
def test_of_mixtures_by_their_densities(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    assert isinstance(distribution, GaussianMixture)
    x, y = distribution.sample(200_000, 0)
    parts = list(zip(distribution.weights_K, distribution.means_K2, distribution.covariances_K22, strict=True))
    joint = sum(w * stats.multivariate_normal(mean, cov).pdf(np.hstack((x, y))) for w, mean, cov in parts)
    of_x, of_y = (
        sum(w * stats.norm(mean[side], math.sqrt(cov[side, side])).pdf(values[:, 0]) for w, mean, cov in parts)
        for side, values in enumerate((x, y))
    )
    assert_mean_is_the_information(np.log(joint / (of_x * of_y)), distribution)


def test_the_integral_of_a_single_gaussian_is_its_closed_form() -> None:
    covariance = np.array([[1, 0.75], [0.75, 1]])
    integrated = GaussianMixture("single", np.ones(1), np.zeros((1, 2)), covariance[None])
    exact = DISTRIBUTIONS["normal-1x1-0.75"].mutual_information
    assert abs(integrated.mutual_information - exact) <= integrated.error <= 1e-8


@pytest.mark.parametrize("name", named(Table))
def test_of_tables_by_the_sum_and_their_samples(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    assert isinstance(distribution, Table) and distribution.discrete
    table = distribution.joint_KL
    nats = sum(
        table[k, m] * math.log(table[k, m] / (table[k].sum() * table[:, m].sum()))
        for k, m in np.ndindex(*table.shape)
        if table[k, m] > 0
    )
    assert distribution.mutual_information == pytest.approx(nats, abs=1e-12)
    x, y = distribution.sample(5000, 0)
    drawn = np.zeros_like(table)
    np.add.at(drawn, (x[:, 0], y[:, 0]), 1)
    some = table > 0
    assert drawn[~some].sum() == 0
    assert stats.chisquare(drawn[some], 5000 * table[some]).pvalue > 1e-3


def uncut(values: np.ndarray) -> np.ndarray:
    return stats.norm.ppf((values + 0.5) % 1)


def unrolled(values: np.ndarray) -> np.ndarray:
    return stats.norm.ppf((3 * np.linalg.norm(values, axis=1, keepdims=True) - 1) / 2)


def unspun(values: np.ndarray) -> np.ndarray:
    angle = (values**2).mean(1)
    plane = values[:, 0] + 1j * values[:, 1]
    back = plane * np.exp(-1j * angle)
    return np.column_stack((back.real, back.imag, values[:, 2:]))


WAYS_BACK: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half-cube-normal-1x1": lambda values: np.sign(values) * np.abs(values) ** (2 / 3),
    "half-cube-normal-5x5": lambda values: np.sign(values) * np.abs(values) ** (2 / 3),
    "asinh-student-1x1": np.sinh,
    "cdf-normal-1x1": stats.norm.ppf,
    "cut-normal-1x1": uncut,
    "swiss-roll-normal-2x1": unrolled,
    "spiral-normal-5x5": unspun,
}


def test_every_transformed_distribution_has_its_check() -> None:
    assert {*WAYS_BACK, "wiggly-normal-1x1"} == set(named(Transformed))


@pytest.mark.parametrize("name", WAYS_BACK)
def test_a_transform_has_a_way_back_to_the_samples_it_was_given(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    assert isinstance(distribution, Transformed)
    assert distribution.mutual_information == distribution.base.mutual_information
    given, found = distribution.base.sample(300, 4), distribution.sample(300, 4)
    sides = zip(given, found, distribution.transforms, strict=True)
    for before, after, transform in sides:
        expected = after if transform is None else WAYS_BACK[name](after)
        np.testing.assert_allclose(expected, before, rtol=1e-6, atol=1e-9)


def test_the_wiggle_rises_everywhere_and_the_cut_does_not() -> None:
    line = np.linspace(-6, 6, 10_001)[:, None]
    wiggly, cut = (DISTRIBUTIONS[name] for name in ("wiggly-normal-1x1", "cut-normal-1x1"))
    assert isinstance(wiggly, Transformed) and isinstance(cut, Transformed)
    for transform in wiggly.transforms:
        assert transform is not None and (np.diff(transform(line)[:, 0]) > 0).all()
    assert cut.transforms[0] is not None and (np.diff(cut.transforms[0](line)[:, 0]) < 0).sum() == 1


def test_bad_distributions_are_named() -> None:
    with pytest.raises(ValueError, match="not positive definite"):
        Normal("bad", (1, 1), np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match=r"a covariance of shape \(2, 2\) for 3 columns"):
        Normal("bad", (1, 2), np.eye(2))
    with pytest.raises(ValueError, match="degrees_of_freedom = 0: use a number above 0"):
        Student("bad", (1, 1), np.eye(2), 0)
    with pytest.raises(ValueError, match="epsilon = 0: use a half-width"):
        UniformNoise("bad", 0)
    with pytest.raises(ValueError, match=r"a table that sums to 2\.0"):
        Table("bad", [[1.0, 1.0]])
    with pytest.raises(ValueError, match=r"weights that sum to 2\.0"):
        GaussianMixture("bad", np.ones(2), np.zeros((2, 2)), np.tile(np.eye(2), (2, 1, 1)))
