"""Optimisers over a method's parameter groups, and the learning rate of each step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from miseg.optimisation.configs import Optimiser


def build_optimiser(groups: list[dict[str, Any]], settings: Optimiser) -> torch.optim.Optimizer:
    """The optimiser that the settings name, over a method's parameter groups."""
    if settings.decayed == "weights":
        groups = [part for group in groups for part in _biases_apart(group)]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, weight_decay=decay)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    return torch.optim.Adam(groups, lr=rate, weight_decay=decay)


def _biases_apart(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The group's weights, and its biases and factors of normalisations without decay: all that have one axis."""
    parameters: list[Tensor] = list(group["params"])
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    parts = [group | {"params": weights}, group | {"params": others, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]


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


def _left(done: float, settings: Optimiser) -> float:
    if settings.schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return float((1 - done) ** settings.power)
