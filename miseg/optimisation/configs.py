"""Settings of the optimiser. No torch here: a command line's --help must not wait for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from miseg.settings import ADDED_LATER, check_choices


@dataclass(frozen=True)
class Optimiser:
    """The optimiser, its learning-rate schedule and the average of the weights that it passes through."""

    name: Literal["adam", "sgd", "adamw"] = "adam"
    """Adam, SGD with momentum, or AdamW, whose weight decay is no part of the gradient that it adapts to."""
    learning_rate: float = 1e-3
    """Learning rate after the warm-up, above 0."""
    momentum: float = 0.9
    """Momentum of SGD, 0..1; the others ignore it."""
    weight_decay: float = 0.0
    """L2 penalty, 0 or more; of AdamW, the share of the learning rate by which weights shrink in a step."""
    clip: float | None = None
    """Largest L2 norm of the gradient; None does not clip."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises linearly to its full value."""
    power: float = 0.9
    """Exponent of the polynomial decay; 0 keeps the rate constant."""
    schedule: Literal["polynomial", "cosine"] = field(default="polynomial", metadata=ADDED_LATER)
    """Fall of the learning rate to 0 at the last step: (1 − step / steps)^power, or half a cosine, whatever `power`."""
    decayed: Literal["all", "weights"] = field(default="all", metadata=ADDED_LATER)
    """Parameters that `weight_decay` holds for: all, or weights alone, without biases and the factors of
    normalisations, whose size tells nothing of how complex a network's function is."""
    decay_from: Literal["start", "warmup"] = field(default="start", metadata=ADDED_LATER)
    """Step that the fall begins at: the first, under the warm-up; or the warm-up's last, as in the RMI paper, whose
    warm-up is step / warmup_steps, which is 0 at the first step."""
    ema_decay: float | None = field(default=None, metadata=ADDED_LATER)
    """Decay a step, 0..1, of the exponential moving average of the weights that is evaluated and served in place of the
    last ones, such as 0.999; None: no average. Early in training it is lower: see `WeightAverage`."""

    def __post_init__(self) -> None:
        check_choices(self)
        # Written so that nan fails too.
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate = {self.learning_rate}: use a value above 0, such as 1e-3")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum = {self.momentum}: it lies in 0..1, 1 excluded")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay = {self.weight_decay}: use 0 or more")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip = {self.clip}: a gradient norm is above 0; leave it out to clip nothing")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps = {self.warmup_steps}: use 0 or more")
        if not 0 <= self.power < math.inf:
            raise ValueError(f"power = {self.power}: use 0 (constant rate) or more; the RMI paper uses 0.9")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay = {self.ema_decay}: use a value between 0 and 1, such as 0.999")
