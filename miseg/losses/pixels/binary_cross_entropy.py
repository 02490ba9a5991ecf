"""Sigmoid cross-entropy as the region mutual information code sums it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses.labels import counted, one_hot


def masked_binary_cross_entropy_sum(logits_NKHW: Tensor, one_hot_NKHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """Binary cross-entropy in nats, a scalar summed over the classes of every valid pixel; logits as of `counted`."""
    weight_N1HW = valid_NHW.unsqueeze(1).to(logits_NKHW.dtype)
    return F.binary_cross_entropy_with_logits(logits_NKHW, one_hot_NKHW, weight=weight_N1HW, reduction="sum")


def binary_cross_entropy_parts(
    logits_NKHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Sum of sigmoid cross-entropies over classes and valid pixels, and the number of valid pixels.

    Zhao et al. (2019, arXiv:1910.12037) and their code divide the first by the second plus 1. The sum is taken in
    float32 (float64 for float64 logits), under autocast too.

    Args:
        logits_NKHW: floating [N, K, H, W].
        labels_NHW: integer [N, H, W]; the ignore index and labels outside 0..K-1 do not count.

    Returns:
        The sum in nats (differentiable scalar) and the count (scalar of the same type).

    Raises:
        ValueError: a shape or type other than these.
    """
    logits_NKHW, labels_NHW, valid_NHW = counted(logits_NKHW, labels_NHW, ignore_index)
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        one_hot_NKHW = one_hot(labels_NHW, valid_NHW, logits_NKHW.shape[1], logits_NKHW.dtype)
        bce_sum = masked_binary_cross_entropy_sum(logits_NKHW, one_hot_NKHW, valid_NHW)
        return bce_sum, valid_NHW.sum(dtype=bce_sum.dtype)
