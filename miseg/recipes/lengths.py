"""Experiments at other lengths than those that their settings are for."""

from __future__ import annotations

from dataclasses import replace

from miseg.recipes.experiment import Experiment

VALIDATIONS = 5
"""Validations of a training whose steps are asked for: ASHA can then compare trials of any length."""


def with_steps(experiment: Experiment, steps: int) -> Experiment:
    """The experiment of so many steps, with `VALIDATIONS` validations; its warm-up stays as long as it was.

    So a tuning of before is recognised by what it trained. A warm-up that leaves no step at the full rate is told.
    """
    return replace(experiment, steps=steps, validate_every=max(1, steps // VALIDATIONS))
