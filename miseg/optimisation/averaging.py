"""Exponential moving average of the weights that a training passes through."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """A copy of a module whose weights and buffers follow its own as an exponential moving average.

    After update number n = 0, 1, … the copy is d · copy + (1 − d) · module with d = min(decay, (1 + n) / (10 + n)):
    the random weights of the start are forgotten within tens of steps, and not within 1 / (1 − decay). The running
    statistics of batch norm are averaged like weights, so that they fit them; whole numbers are copied.

    Args:
        module: what is trained; it is copied as it is now.
        decay: 0..1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Follow `module`, which has made a step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        average: list[Any] = []
        current: list[Any] = []
        for averaged, own in zip(_tensors(self.module), _tensors(module), strict=True):
            if averaged.is_floating_point():
                average.append(averaged.detach())
                current.append(own.detach())
            else:
                averaged.copy_(own)
        get_ema_multi_avg_fn(decay)(average, current, self.updates)
        self.updates += 1


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
