"""Generalised cross-entropy, for labels that are partly wrong: Zhang and Sabuncu, NeurIPS 2018 (arXiv:1805.07836)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miseg.methods import LEARNING_RATE, MethodConfig, Uniform, register
from miseg.networks import Network
from miseg.networks.configs import UNet

if TYPE_CHECKING:
    from torch import Tensor


@register("gce", label="generalised CE", space={"method.q": Uniform(0.1, 1), **LEARNING_RATE})
@dataclass(frozen=True)
class GeneralisedCrossEntropy(MethodConfig):
    """(1 − p^q) / q of the softmax probability p of the labelled class, averaged over valid pixels."""

    network: Network = field(default_factory=UNet)
    q: float = 0.7
    """In 0..1, above 0: towards 0 it is cross-entropy, and 1 is the absolute error, which forgives wrong labels."""

    def __post_init__(self) -> None:
        if not 0 < self.q <= 1:
            raise ValueError(f"q = {self.q}: use a value in 0..1, above 0; the paper uses 0.7")

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over valid pixels, and their number."""
        labels_N1HW = labels_NHW.where(valid_NHW, 0).long()[:, None]
        log_NHW = logits_NKHW.log_softmax(1).gather(1, labels_N1HW)[:, 0]
        loss_NHW = (1 - (self.q * log_NHW).exp()) / self.q
        return (loss_NHW * valid_NHW).sum(), valid_NHW.sum(dtype=loss_NHW.dtype)
