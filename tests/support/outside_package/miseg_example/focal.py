"""Focal loss: Lin, Goyal, Girshick, He and Dollár, ICCV 2017 (arXiv:1708.02002)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miseg.methods import LEARNING_RATE, MethodConfig, Uniform, register
from miseg.networks import Network
from miseg.networks.configs import UNet

if TYPE_CHECKING:
    from torch import Tensor


@register("focal", label="focal loss", space={"method.gamma": Uniform(0, 5), **LEARNING_RATE})
@dataclass(frozen=True)
class Focal(MethodConfig):
    """−(1 − p)^γ log p of the softmax probability p of the right class, averaged over valid pixels."""

    network: Network = field(default_factory=UNet)
    gamma: float = 2.0
    """γ, 0 or more: how little a pixel counts that is right already; 0 is cross-entropy."""

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"γ (gamma) = {self.gamma}: use 0 or more; the paper uses 2")

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over valid pixels, and their number."""
        labels_N1HW = labels_NHW.where(valid_NHW, 0).long()[:, None]
        log_NHW = logits_NKHW.log_softmax(1).gather(1, labels_N1HW)[:, 0]
        loss_NHW = -((1 - log_NHW.exp()) ** self.gamma) * log_NHW
        return (loss_NHW * valid_NHW).sum(), valid_NHW.sum(dtype=loss_NHW.dtype)
