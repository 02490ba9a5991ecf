"""MLMI and LSMI against a general optimiser and the direct solve of their equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from miseg.information import DISTRIBUTIONS, estimate
from miseg.information.density_ratio import least_squares, maximum_likelihood

SAMPLES = 40


def pair(samples: int = SAMPLES) -> tuple[np.ndarray, np.ndarray]:
    return DISTRIBUTIONS["normal-1x1-0.75"].sample(samples, 0)


def basis_reference(x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
    """φ_l(x_i, y_j) as [i, j, l], a triple at a time, a centre at every sample; the last is the constant."""
    x, y = ((values - values.mean(0)) / values.std(0) for values in (x, y))
    samples = len(x)
    scales = [
        width * np.median([np.linalg.norm(values[i] - values[j]) for i in range(samples) for j in range(i)])
        for values in (x, y)
    ]
    phi = np.ones((samples, samples, samples + 1))
    for i in range(samples):
        for j in range(samples):
            for centre in range(samples):
                near_x = ((x[i] - x[centre]) ** 2).sum() / (2 * scales[0] ** 2)
                near_y = ((y[j] - y[centre]) ** 2).sum() / (2 * scales[1] ** 2)
                phi[i, j, centre] = math.exp(-near_x - near_y)
    return phi


def test_lsmi_is_the_direct_solve() -> None:
    x, y = pair()
    phi = basis_reference(x, y, 0.5)
    functions = phi.shape[-1]
    H = sum(np.outer(phi[i, j], phi[i, j]) for i in range(SAMPLES) for j in range(SAMPLES)) / SAMPLES**2
    h = sum(phi[i, i] for i in range(SAMPLES)) / SAMPLES
    alpha = np.linalg.inv(H + 0.01 * np.eye(functions)) @ h
    ratio = np.array([phi[i, i] @ alpha for i in range(SAMPLES)])
    found = estimate("lsmi", x, y, widths=(0.5,), ridges=(0.01,))
    assert found.details["squared_loss"] == pytest.approx(h @ alpha / 2 - 0.5, rel=1e-9)
    assert found == pytest.approx(np.log(np.maximum(ratio, 1e-3)).mean(), rel=1e-8)
    assert found.details["raised"] == (ratio < 1e-3).mean()


def test_mlmi_is_the_maximum_that_a_general_optimiser_finds() -> None:
    x, y = pair(25)
    phi = basis_reference(x, y, 0.5)
    joint = np.array([phi[i, i] for i in range(25)])
    mean = phi.mean((0, 1))
    best = minimize(
        lambda alpha: -np.log(joint @ alpha).mean(),
        np.full(len(mean), 1 / mean.sum()),
        jac=lambda alpha: -(1 / (joint @ alpha)) @ joint / 25,
        bounds=[(0, None)] * len(mean),
        constraints=LinearConstraint(mean[None], 1, 1),
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    found = estimate("mlmi", x, y, widths=(0.5,), tolerance=1e-5)
    assert found == pytest.approx(-best.fun, abs=2e-4)
    assert -best.fun - found <= found.details["missing"] + 1e-7


def test_the_likelihood_keeps_its_constraint_and_bounds_what_it_misses() -> None:
    generator = np.random.default_rng(0)
    phi, mean = generator.random((50, 8)), generator.uniform(0.2, 0.8, 8)
    close, missing = maximum_likelihood(phi, mean, 1e-6)
    rough, missed = maximum_likelihood(phi, mean, 0.1)
    for alpha in (close, rough):
        assert alpha.min() >= 0 and alpha @ mean == pytest.approx(1, abs=1e-9)
    gained = (np.log(phi @ close) - np.log(phi @ rough)).mean()
    assert missing < 1e-6 and 0 < gained <= missed < 0.1


def test_least_squares_of_many_ridges() -> None:
    generator = np.random.default_rng(0)
    root, h = generator.random((4, 6)), generator.random(6)
    H = root.T @ root
    for alpha, ridge in zip(least_squares(H, h, (0.1, 2.0)), (0.1, 2.0), strict=True):
        np.testing.assert_allclose((H + ridge * np.eye(6)) @ alpha, h, rtol=1e-10)


@pytest.mark.parametrize("estimator", ["mlmi", pytest.param("lsmi", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("normal-1x1-independent", 0.04),
        ("normal-1x1-0.75", 0.08),
        ("normal-1x1-0.99", 0.25),
        ("uniform-noise-0.1", 0.25),
        ("mixture-1x1-cross", 0.1),
        ("swiss-roll-normal-2x1", 0.12),
    ],
)
def test_near_the_truth_in_few_columns(estimator: str, name: str, tolerance: float) -> None:
    distribution = DISTRIBUTIONS[name]
    found = estimate(estimator, *distribution.sample(1000, 0))
    assert found == pytest.approx(distribution.mutual_information, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    # ½ (∬ p² / p_x p_y − 1) by hand: 1 / (1 − ρ²) of Gaussians, (1 + 2ε) / 2ε of uniform noise.
    ("name", "squared_loss", "tolerance"),
    [("normal-1x1-0.3", (1 / (1 - 0.3**2) - 1) / 2, 0.02), ("uniform-noise-0.75", (2.5 / 1.5 - 1) / 2, 0.07)],
)
def test_the_squared_loss_information_is_near_its_own_truth(name: str, squared_loss: float, tolerance: float) -> None:
    """Kernels round the corners off uniform noise."""
    found = [estimate("lsmi", *DISTRIBUTIONS[name].sample(1500, seed)) for seed in range(3)]
    assert np.mean([one.details["squared_loss"] for one in found]) == pytest.approx(squared_loss, abs=tolerance)


@pytest.mark.parametrize("estimator", ["mlmi", "lsmi"])
def test_a_sample_far_from_all_others_costs_no_infinity(estimator: str) -> None:
    x, y = pair(100)
    x[0], y[0] = 1e6, -1e6
    found = estimate(estimator, x, y, centres=20)
    assert np.isfinite(found) and found > -0.1


@pytest.mark.parametrize("estimator", ["mlmi", "lsmi"])
def test_heavy_dependence_in_ten_columns_is_underestimated(estimator: str) -> None:
    distribution = DISTRIBUTIONS["normal-5x5-12nats"]
    assert 0 < estimate(estimator, *distribution.sample(500, 0)) < 0.5 * distribution.mutual_information


@pytest.mark.parametrize(
    ("estimator", "settings", "reason"),
    [
        ("mlmi", {"centres": 0}, "centres = 0: use 1 or more"),
        ("lsmi", {"widths": ()}, r"widths = \(\): use one width above 0"),
        ("mlmi", {"widths": (0.1, 0)}, r"widths = \(0\.1, 0\)"),
        ("lsmi", {"folds": 1}, r"folds = 1 of 40 samples: use 2\.\.40"),
        ("mlmi", {"folds": 41}, "folds = 41 of 40 samples"),
        ("lsmi", {"ridges": (0.0,)}, r"ridges = \(0\.0,\): use one λ above 0"),
        ("mlmi", {"tolerance": 0}, "tolerance = 0: use nats above 0"),
    ],
)
def test_bad_settings_are_named(estimator: str, settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        estimate(estimator, *pair(), **settings)
