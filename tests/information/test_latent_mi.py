"""Latent MI: near the truth where few dimensions carry the dependence, whatever the columns around them."""

from __future__ import annotations

import numpy as np
import pytest

from miseg.information import DISTRIBUTIONS, Estimate, estimate

QUICK = {"hidden": (32,), "max_steps": 200, "patience": 3}


def run(name: str, samples: int, **settings: object) -> Estimate:
    return estimate("latent_mi", *DISTRIBUTIONS[name].sample(samples, 0), **(QUICK | settings))


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("normal-1x1-independent", 0.08), ("normal-1x1-0.75", 0.12), ("normal-5x5-dense", 0.15)],
)
def test_near_the_truth(name: str, tolerance: float) -> None:
    found = run(name, 1500)
    assert found == pytest.approx(DISTRIBUTIONS[name].mutual_information, abs=tolerance)
    assert found.details["held_out"] == 750 and found.trace[-1].step >= found.details["step"] > 0


def test_a_hundred_columns_that_one_number_moves() -> None:
    """The example of the paper: two correlated numbers, each spread over a hundred columns; `ksg` alone is far off."""
    generator = np.random.default_rng(0)
    x, y = DISTRIBUTIONS["normal-1x1-0.75"].sample(1000, 0)
    x, y = (
        side @ generator.standard_normal((1, 100)) + 0.5 * generator.standard_normal((1000, 100)) for side in (x, y)
    )
    truth = DISTRIBUTIONS["normal-1x1-0.75"].mutual_information
    found = estimate("latent_mi", x, y, **QUICK)
    assert found == pytest.approx(truth, abs=0.15)
    assert abs(found - truth) < abs(estimate("ksg", x, y) - truth)


def test_the_seed_draws_split_and_weights() -> None:
    first = run("normal-1x1-0.75", 200, max_steps=20)
    assert run("normal-1x1-0.75", 200, max_steps=20) == first
    assert run("normal-1x1-0.75", 200, max_steps=20, seed=1) != first


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"latent": 0}, "latent = 0: use 1 or more"),
        ({"neighbours": 0}, "neighbours = 0: use 1 or more"),
        ({"cross": -1.0}, r"cross = -1\.0: use a weight of 0 or more"),
        ({"learning_rate": 0.0}, r"learning_rate = 0\.0: use a number above 0"),
        ({"neighbours": 25}, "50 samples of which 25 are held out: more than neighbours = 25"),
    ],
)
def test_bad_settings_are_named(settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        run("normal-1x1-0.75", 50, **settings)
