"""Soft Dice: Milletari, Navab and Ahmadi, V-Net, 3DV 2016 (arXiv:1606.04797), for any number of classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miseg.methods.mixture import MIXTURE, CrossEntropyMixture
from miseg.methods.ranges import Choice
from miseg.methods.registry import register
from miseg.networks.configs import Network, UNet

if TYPE_CHECKING:
    from torch import Tensor


@register("dice", label="Dice", space={"method.squared": Choice((True, False)), **MIXTURE})
@dataclass(frozen=True)
class Dice(CrossEntropyMixture):
    """1 − Dice coefficient of softmax probabilities and labels, averaged over each image's classes."""

    network: Network = field(default_factory=UNet)
    squared: bool = True
    """Whether the denominator sums squared probabilities, as V-Net has it, or the probabilities themselves."""

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Σ of 1 − 2 Σ p g / (Σ p² + Σ g) over images and the classes that each shows, and the number of these."""
        from miseg.losses.labels import one_hot  # only here: it brings torch along

        hits_NKHW = one_hot(labels_NHW, valid_NHW, logits_NKHW.shape[1], logits_NKHW.dtype)
        shares_NKHW = logits_NKHW.softmax(1) * valid_NHW[:, None]
        overlap_NK = (shares_NKHW * hits_NKHW).sum((2, 3))
        pixels_NK = hits_NKHW.sum((2, 3))
        sizes_NK = pixels_NK + (shares_NKHW.square() if self.squared else shares_NKHW).sum((2, 3))
        shown_NK = pixels_NK > 0
        dice_NK = 2 * overlap_NK / sizes_NK.where(shown_NK, 1)
        return ((1 - dice_NK) * shown_NK).sum(), shown_NK.sum(dtype=dice_NK.dtype)
