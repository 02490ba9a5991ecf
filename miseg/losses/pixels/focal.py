"""Focal loss: Lin, Goyal, Girshick, He and Dollár, ICCV 2017 (arXiv:1708.02002), for a softmax over classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses.labels import counted


def focal_parts(
    logits_NKHW: Tensor, labels_NHW: Tensor, *, gamma: float = 2.0, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Sum of −(1 − p)^γ log p over valid pixels, and their number, with p the right class's softmax probability.

    Equation 4 of the paper, without the weight α of its equation 5, which is of two classes.

    Args:
        logits_NKHW: floating [N, K, H, W]; computed in float32 (float64 for float64), under autocast too.
        labels_NHW: integer [N, H, W]; the ignore index and labels outside 0..K-1 do not count.
        gamma: γ ≥ 0; 0 is cross-entropy, the paper takes 2.

    Returns:
        The sum in nats (differentiable scalar) and the number (scalar of the same type).

    Raises:
        ValueError: γ out of range, or a shape or type other than these.
    """
    check_settings(gamma)
    logits_NKHW, labels_NHW, valid_NHW = counted(logits_NKHW, labels_NHW, ignore_index)
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        labels_N1HW = labels_NHW.where(valid_NHW, 0).unsqueeze(1)
        log_NHW = logits_NKHW.log_softmax(1).gather(1, labels_N1HW).squeeze(1)
        # 1 − p with all its digits; below 1 a power is infinitely steep at 0.
        rest_NHW = (-torch.expm1(log_NHW)).clamp_min(torch.finfo(log_NHW.dtype).tiny)
        loss_NHW = -(rest_NHW**gamma) * log_NHW
        return (loss_NHW * valid_NHW).sum(), valid_NHW.sum(dtype=loss_NHW.dtype)


def check_settings(gamma: float) -> None:
    """Raise ValueError, with the range, for an exponent out of range."""
    if not 0 <= gamma < math.inf:
        raise ValueError(f"γ (gamma) = {gamma}: use 0 (cross-entropy) or more; the paper uses 2")
