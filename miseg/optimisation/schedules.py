"""Learning rates over a training: warm-up, then polynomial or cosine decay; no torch here."""

from __future__ import annotations

import math

from miseg.optimisation.configs import Optimiser


def learning_rate_factor(step: int, steps: int, settings: Optimiser) -> float:
    """Share of the full learning rate at `step` of `steps`: linear warm-up times what the schedule leaves.

    That is (1 − step / steps)^power (Zhao et al. 2019, section 4.1), or ½ (1 + cos(π step / steps)) (Loshchilov and
    Hutter, SGDR, ICLR 2017, equation 5, with one period that ends at 0).

    With `decay_from="warmup"` it is one after the other: step / warmup_steps up to there, then what the schedule leaves
    of (step − warmup_steps) / (steps − warmup_steps), as Zhao et al. write it.
    """
    if settings.decay_from == "warmup":
        if step < settings.warmup_steps:
            return step / settings.warmup_steps
        return _left((step - settings.warmup_steps) / max(1, steps - settings.warmup_steps), settings)
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    return warmup * _left(step / steps, settings)


def peak_learning_rate(steps: int, settings: Optimiser, made: int | None = None) -> float:
    """The highest learning rate of the first `made` steps (default: all) of a training of `steps`; 0 of none."""
    made = steps if made is None else min(made, steps)
    # It rises up to the warm-up's end and falls from there. With a short training the decay weighs before that.
    around = {0, settings.warmup_steps - 1, settings.warmup_steps, made - 1}
    candidates = {step for step in around | set(range(0, made, max(1, made // 200))) if 0 <= step < made}
    return settings.learning_rate * max((learning_rate_factor(step, steps, settings) for step in candidates), default=0)


def _left(done: float, settings: Optimiser) -> float:
    if settings.schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return float((1 - done) ** settings.power)
