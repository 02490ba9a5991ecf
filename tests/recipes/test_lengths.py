"""Experiments at other lengths: warm-up and validations keep their share, and never grow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from miseg.optimisation.schedules import learning_rate_factor, peak_learning_rate
from miseg.recipes.catalog import RECIPES
from miseg.recipes.lengths import shortened, with_steps


@pytest.mark.parametrize("steps", [20, 50, 100, 300])
def test_a_short_training_gets_to_its_rate(steps: int) -> None:
    whole = RECIPES["camvid-rmi"](seed=0)
    assert whole.optimiser.warmup_steps == 50 and whole.steps > steps
    in_full = peak_learning_rate(whole.steps, whole.optimiser)
    for experiment in (with_steps(whole, steps), shortened(whole, steps)):
        assert experiment.steps == steps
        peak = peak_learning_rate(steps, experiment.optimiser)
        assert peak == pytest.approx(in_full, rel=0.08), "20 steps got to 1.2e-4 in place of 8.7e-4"
        assert experiment.validate_every <= steps


def test_a_longer_one_keeps_its_warm_up() -> None:
    whole = RECIPES["camvid-rmi"](seed=0)
    assert shortened(whole, 10 * whole.steps) == replace(whole, steps=10 * whole.steps)
    assert with_steps(whole, 10 * whole.steps).optimiser == whole.optimiser


def test_what_is_given_stays() -> None:
    whole = RECIPES["camvid-rmi"](seed=0)
    short = shortened(whole, whole.steps // 10, {"optimiser.warmup_steps", "validate_every"})
    assert short == replace(whole, steps=whole.steps // 10)


def test_the_same_length_changes_nothing() -> None:
    for recipe in RECIPES.values():
        experiment = recipe()
        assert shortened(experiment, experiment.steps) == experiment


@pytest.mark.parametrize("made", [0, 1, 30, 200, None])
@pytest.mark.parametrize("name", ["camvid-rmi", "flanders-similarity", "voc-v3-rmi"])
def test_the_peak_is_that_of_all_steps(name: str, made: int | None) -> None:
    experiment = with_steps(RECIPES[name](), 200)
    optimiser = experiment.optimiser
    rates = [optimiser.learning_rate * learning_rate_factor(step, 200, optimiser) for step in range(200)][:made]
    assert peak_learning_rate(200, optimiser, made) == pytest.approx(max(rates, default=0), rel=1e-6)
