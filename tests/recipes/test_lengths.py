"""Learning rates at other lengths than a recipe's own."""

from __future__ import annotations

import pytest

from miseg.optimisation.schedules import learning_rate_factor, peak_learning_rate
from miseg.recipes.catalog import RECIPES
from miseg.recipes.lengths import with_steps


@pytest.mark.parametrize("made", [0, 1, 30, 200, None])
@pytest.mark.parametrize("name", ["camvid-rmi", "flanders-similarity", "voc-v3-rmi"])
def test_the_peak_is_that_of_all_steps(name: str, made: int | None) -> None:
    experiment = with_steps(RECIPES[name](), 200)
    optimiser = experiment.optimiser
    rates = [optimiser.learning_rate * learning_rate_factor(step, 200, optimiser) for step in range(200)][:made]
    assert peak_learning_rate(200, optimiser, made) == pytest.approx(max(rates, default=0), rel=1e-6)
