"""λ · CE + (1 − λ) · loss, of any loss that is given as a sum and a count."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from miseg.interface import IGNORE_INDEX, combine
from miseg.losses.pixels.cross_entropy import cross_entropy_parts

Parts = Callable[..., tuple[Tensor, Tensor]]
"""A loss such as `jaccard_parts`: (logits, labels, ignore_index=…) -> its sum, and the number that it is a sum of."""


class MixedLoss(nn.Module):
    """λ · softmax cross-entropy + (1 − λ) · another loss: what a plain loop minimises.

    A batch that has nothing to sum over, such as one without a valid pixel, gives 0 with zero gradient.

    Args:
        parts: the other loss, such as `lovasz_softmax_parts`, or `functools.partial(tversky_parts, beta=0.9)`.
        weight: λ in 0..1, the share of the cross-entropy; 0 is the other loss alone.
        ignore_index: label value of pixels that do not count.

    Raises:
        ValueError: λ out of range, or what the other loss refuses.
    """

    def __init__(self, parts: Parts, weight: float = 0.0, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight (λ) = {weight}: it lies in 0..1; 0 is the loss alone, 1 cross-entropy alone")
        self.parts, self.weight, self.ignore_index = parts, weight, ignore_index

    def forward(self, logits_NKHW: Tensor, labels_NHW: Tensor) -> Tensor:
        """The scalar loss of floating logits [N, K, H, W] (before the softmax) and integer labels [N, H, W]."""
        loss = combine(*self.parts(logits_NKHW, labels_NHW, ignore_index=self.ignore_index))
        if self.weight == 0:
            return loss
        ce = combine(*cross_entropy_parts(logits_NKHW, labels_NHW, ignore_index=self.ignore_index))
        return self.weight * ce + (1 - self.weight) * loss
