"""Optimisers over a method's parameter groups, and the learning rate of each step."""

from __future__ import annotations

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
