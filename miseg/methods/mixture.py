"""Settings of the methods that mix softmax cross-entropy with a loss of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from miseg.methods.ranges import LEARNING_RATE, Range, Uniform
from miseg.methods.registry import MethodConfig
from miseg.settings import ADDED_LATER


@dataclass(frozen=True)
class CrossEntropyMixture(MethodConfig):
    """λ · CE + (1 − λ) · loss: settings below it bring `network` and `loss`.

    Both are means over all ranks, each of what it is a mean of: cross-entropy of pixels, the loss of what it counts.
    """

    weight: float = field(default=0.0, kw_only=True, metadata=ADDED_LATER)
    """λ in 0..1: the share of softmax cross-entropy. 0 is the loss alone."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"λ (weight) = {self.weight}: it lies in 0..1; 0 is the loss alone, 1 cross-entropy alone")

    def share(self, progress: float) -> float:
        """λ where this share of the training steps is done: `weight`, unless a method's own schedule says otherwise."""
        return self.weight


MIXTURE: Mapping[str, Range] = {"method.weight": Uniform(0.0, 1.0, name="lambda"), **LEARNING_RATE}
"""Searched settings of all of them alike: λ and the learning rate."""
