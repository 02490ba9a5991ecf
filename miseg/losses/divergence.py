"""Kullback-Leibler divergence between two networks' predictions, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses.labels import at_least_single, check_logits_and_labels, valid_pixels


def divergence_parts(
    logits_NKHW: Tensor, target_logits_NKHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Sum over valid pixels of KL(target ‖ prediction) of the softmax class probabilities, and their number.

    Zhang, Xiang, Hospedales and Lu: Deep Mutual Learning, CVPR 2018 (arXiv:1706.00384), equation 4. The sum is taken
    in float32 (float64 for float64 logits), under autocast too.

    Args:
        logits_NKHW: the prediction's logits, floating [N, K, H, W]; they get the gradient.
        target_logits_NKHW: the target's logits, likewise; they get none.
        labels_NHW: integer [N, H, W]; only tells which pixels count.

    Returns:
        The sum in nats (differentiable scalar, 0 or more) and the count (scalar of the same type).

    Raises:
        ValueError: a shape or type other than these.
    """
    _check(logits_NKHW, target_logits_NKHW, labels_NHW)
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        log_p = at_least_single(logits_NKHW).log_softmax(1)
        log_q = at_least_single(target_logits_NKHW.detach()).log_softmax(1)
        valid_NHW = valid_pixels(labels_NHW, logits_NKHW.shape[1], ignore_index)
        divergence_NHW = (log_q.exp() * (log_q - log_p)).sum(1)
        return (divergence_NHW * valid_NHW).sum(), valid_NHW.sum(dtype=divergence_NHW.dtype)


def divergence_from_logits_parts(logits_NKHW: Tensor, target_logits_NKHW: Tensor) -> tuple[Tensor, Tensor]:
    """What the Porto study's code computed in place of the divergence: a sum over elements, and their number.

    The target is the other network's raw logits t, not its probabilities, and the sum runs over every element, ignored
    pixels too: Σ t · (log t − log p) where t > 0, and 0 elsewhere, as torch's `kl_div` of that time. It is no
    divergence (it falls below 0) and depends on the logits' offset.
    """
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        log_p = at_least_single(logits_NKHW).log_softmax(1)
        target = at_least_single(target_logits_NKHW.detach())
        positive = target > 0
        # The logarithm sees 1 where it does not count, for its gradient's sake no less than its value's.
        elements = target * (torch.where(positive, target, 1).log() - log_p) * positive
        return elements.sum(), elements.new_full((), elements.numel())


def _check(logits_NKHW: Tensor, target_logits_NKHW: Tensor, labels_NHW: Tensor) -> None:
    check_logits_and_labels(logits_NKHW, labels_NHW)
    if target_logits_NKHW.shape != logits_NKHW.shape or not target_logits_NKHW.is_floating_point():
        raise ValueError(
            f"target logits of shape {tuple(target_logits_NKHW.shape)} and type {target_logits_NKHW.dtype} for logits "
            f"of shape {tuple(logits_NKHW.shape)}: expected floating logits of the same shape"
        )
