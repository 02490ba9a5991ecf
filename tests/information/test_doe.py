"""Difference of entropies: exact for Gaussian variables, without a ceiling, and of two densities that it reports."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from miseg.information import DISTRIBUTIONS, Estimate, estimate
from miseg.information.trained.entropies import _canonical, _Mixture

QUICK = {"hidden": (16,), "max_steps": 100, "patience": 3}


def run(name: str, samples: int, seed: int = 0, **settings: object) -> Estimate:
    return estimate("doe", *DISTRIBUTIONS[name].sample(samples, seed), **(QUICK | settings))


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("normal-1x1-independent", 0.03),
        ("normal-1x1-0.75", 0.1),
        ("normal-5x5-sparse", 0.15),
        ("multinormal-dense-25-25-0.5", 0.15),
        ("normal-5x5-12nats", 0.3),
    ],
)
def test_near_the_truth_of_gaussians_up_to_twelve_nats(name: str, tolerance: float) -> None:
    found = run(name, 1500)
    assert found == pytest.approx(DISTRIBUTIONS[name].mutual_information, abs=tolerance)
    assert found == pytest.approx(found.details["marginal"] - found.details["conditional"], abs=1e-9)
    assert found.trace[-1].step >= found.details["step"] and found.details["held_out"] == 450


def test_dependence_without_correlation_is_found() -> None:
    """No linear start helps: the mixture must follow x."""
    found = run("mixture-1x1-cross", 2000, hidden=(32,), max_steps=500, patience=5, learning_rate=5e-3)
    assert found == pytest.approx(DISTRIBUTIONS["mixture-1x1-cross"].mutual_information, abs=0.15)


def test_entropies_are_those_of_the_columns() -> None:
    """Of one Gaussian column of variance 1 the marginal's is ½ log 2πe, and the conditional's ½ log 2πe (1 − ρ²)."""
    found = run("normal-1x1-0.75", 3000)
    entropy = math.log(2 * math.pi * math.e) / 2
    assert found.details["marginal"] == pytest.approx(entropy, abs=0.06)
    assert found.details["conditional"] == pytest.approx(entropy + math.log1p(-(0.75**2)) / 2, abs=0.06)


@pytest.mark.parametrize("density", ["gaussian", "logistic"])
def test_a_mixture_s_density_is_scipy_s(density: str) -> None:
    generator = np.random.default_rng(0)
    logits, means, scales = generator.normal(size=3), generator.normal(size=(3, 2)), generator.normal(size=(3, 2))
    y = generator.normal(size=(5, 2))
    mixture = _Mixture(*(torch.tensor(values)[None] for values in (logits, means, scales)))
    one = (stats.norm if density == "gaussian" else stats.logistic).pdf
    shares = np.exp(logits) / np.exp(logits).sum()
    expected = [
        sum(w * one(row, m, np.exp(s)).prod() for w, m, s in zip(shares, means, scales, strict=True)) for row in y
    ]
    found = mixture.log_density(torch.tensor(y), density)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.numpy(), np.log(expected), rtol=1e-10)


def test_the_paper_s_diagonal_density_is_too_high_where_columns_of_y_correlate() -> None:
    truth = DISTRIBUTIONS["normal-5x5-dense"].mutual_information
    settings = {"max_steps": 300, "learning_rate": 1e-2}
    assert run("normal-5x5-dense", 1500, basis="columns", components=1, **settings) > truth + 0.5
    assert run("normal-5x5-dense", 1500) == pytest.approx(truth, abs=0.1)


def test_linear_maps_of_a_side_change_little() -> None:
    x, y = DISTRIBUTIONS["normal-2x5-sparse"].sample(1000, 0)
    mix = np.random.default_rng(1).standard_normal((5, 5))
    assert estimate("doe", x, y @ mix, **QUICK) == pytest.approx(estimate("doe", x, y, **QUICK), abs=0.05)


def test_columns_that_others_determine_are_left_out() -> None:
    x, y = (torch.from_numpy(side).float() for side in DISTRIBUTIONS["normal-2x5-sparse"].sample(500, 0))
    alone, repeated = _canonical(x, y), _canonical(x, torch.cat((y, y[:, :1] + y[:, 1:2]), 1))
    assert repeated.of_y_DE.shape == (6, 5)
    torch.testing.assert_close(repeated.nats_K, alone.nats_K, rtol=1e-4, atol=0)
    variates = repeated.variates([x, torch.cat((y, y[:, :1] + y[:, 1:2]), 1)])[1]
    torch.testing.assert_close(variates.T.cov(correction=0), torch.eye(5), rtol=0, atol=1e-3)


def test_the_remainder_is_uncorrelated_with_x_and_has_the_scale_of_y() -> None:
    x, y = (torch.from_numpy(side).float() for side in DISTRIBUTIONS["normal-5x5-sparse"].sample(2000, 0))
    canonical = _canonical(x, y)
    assert canonical.nats_K.sum() == pytest.approx(estimate("cca", x, y), abs=1e-4)
    x, y = canonical.remainder(canonical.variates([x, y]))
    both = torch.cat((x, y), 1).T.cov(correction=0)
    torch.testing.assert_close(both.diagonal(), torch.ones(10), rtol=0, atol=1e-3)
    count = len(canonical.nats_K)
    assert both[:count, 5 : 5 + count].abs().max() < 1e-3


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"density": "normal"}, "density = 'normal': use one of gaussian, logistic"),
        ({"basis": "rotated"}, "basis = 'rotated': use one of canonical, columns"),
        ({"components": 0}, "components = 0: use 1 or more"),
        ({"hidden": ()}, r"hidden = \(\): use one width"),
    ],
)
def test_bad_settings_are_named(settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        run("normal-1x1-0.75", 50, **settings)


def test_a_side_that_is_constant_where_it_trains_is_named() -> None:
    x = np.random.default_rng(0).standard_normal((40, 1))
    y = np.zeros((40, 1))
    y[0] = 1
    # With half held out, one of these seeds has the only other value among those.
    for seed in range(20):
        try:
            assert math.isfinite(estimate("doe", x, y, held_out=0.5, seed=seed, max_steps=2))
        except ValueError as error:
            assert "one side is constant among the 20 samples to train on" in str(error)
            return
    pytest.fail("no seed of twenty held the only other value out")


def test_too_few_samples_for_the_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"35 samples to train on, of 50 columns: use more than 51"):
        run("multinormal-dense-25-25-0.5", 50)
