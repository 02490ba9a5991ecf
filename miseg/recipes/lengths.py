"""Experiments at other lengths than those that their settings are for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

from miseg.recipes.experiment import Experiment

VALIDATIONS = 5
"""Validations of a training whose steps are asked for: ASHA can then compare trials of any length."""

WarmUp = Literal["share", "recipe"]
"""Length of the warm-up where there are fewer steps: its share of them, or as the recipe has it.

The second is of what was begun before 2026-12-01, which goes on as it was.
"""


def with_steps(experiment: Experiment, steps: int, warm_up: WarmUp = "share") -> Experiment:
    """The experiment of so many steps, with `VALIDATIONS` validations and `shortened`'s warm-up."""
    given = {"optimiser.warmup_steps"} if warm_up == "recipe" else set()
    return replace(shortened(experiment, steps, given), validate_every=max(1, steps // VALIDATIONS))


def shortened(experiment: Experiment, steps: int, given: Collection[str] = ()) -> Experiment:
    """The experiment of so many steps, in which warm-up and validations take the share that they had.

    Where it gets longer they stay as they are: a warm-up is no longer than what it was found to need.

    Args:
        experiment: of the length that its settings are for.
        steps: of the whole training.
        given: paths of settings that stay.
    """
    share = min(1.0, steps / experiment.steps)
    optimiser, every = experiment.optimiser, experiment.validate_every
    if "optimiser.warmup_steps" not in given:
        optimiser = replace(optimiser, warmup_steps=round(share * optimiser.warmup_steps))
    if "validate_every" not in given:
        every = max(1, round(share * every))
    return replace(experiment, steps=steps, optimiser=optimiser, validate_every=every)
