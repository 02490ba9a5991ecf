"""Softmax cross-entropy as a sum with its count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses.labels import counted

_IGNORED = -100  # torch's own ignore index: outside 0..K-1 whatever the task's is


def cross_entropy_parts(
    logits_NKHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Sum of softmax cross-entropies over valid pixels, and the number of valid pixels.

    The sum is taken in float32 (float64 for float64 logits), under autocast too.

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
        labels_NHW = torch.where(valid_NHW, labels_NHW, _IGNORED)
        # Summed apart from the loss, because the fused sum on a GPU adds in an order that varies.
        loss_NHW = F.cross_entropy(logits_NKHW, labels_NHW, ignore_index=_IGNORED, reduction="none")
        return loss_NHW.sum(), valid_NHW.sum(dtype=loss_NHW.dtype)
