"""Kullback-Leibler divergence between networks' predictions, pixel by pixel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miseg.interface import IGNORE_INDEX
from miseg.losses.derivatives import once_differentiable_in
from miseg.losses.labels import at_least_single, check_logits_and_labels, filled, finite_where_ignored, valid_pixels


def mutual_learning_parts(
    logits_of_networks: Sequence[Tensor], labels_NHW: Tensor, *, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor, Tensor]:
    """For each of M networks its cross-entropy and its mean divergence from the others, summed over valid pixels.

    Zhang, Xiang, Hospedales and Lu: Deep Mutual Learning, CVPR 2018 (arXiv:1706.00384), equation 4: network k's
    divergence is the mean over j ≠ k of KL(p_j ‖ p_k) of the softmax class probabilities, and p_j gets no gradient. The
    sums are taken in float32 (float64 for float64 logits), under autocast too.

    Both terms need the same log-probabilities, and both gradients the same probabilities: each is computed once.

    Args:
        logits_of_networks: two or more networks' logits, floating [N, K, H, W] each.
        labels_NHW: integer [N, H, W]; the ignore index and labels outside 0..K-1 do not count.

    Returns:
        Cross-entropies [M] and divergences [M] (nats, 0 or more; differentiable), and the number of valid pixels (a
        scalar of the same type).

    Raises:
        ValueError: a shape or type other than these, or fewer than two networks.
    """
    if len(logits_of_networks) < 2:
        raise ValueError(f"{len(logits_of_networks)} networks: give the logits of two or more")
    for logits_NKHW in logits_of_networks:
        _check(logits_of_networks[0], logits_NKHW, labels_NHW)
    with torch.autocast(labels_NHW.device.type, enabled=False):
        valid_NHW = valid_pixels(labels_NHW, logits_of_networks[0].shape[1], ignore_index)
        logits = [
            once_differentiable_in(finite_where_ignored(at_least_single(logits_NKHW), valid_NHW))
            for logits_NKHW in logits_of_networks
        ]
        labels_N1HW = torch.where(valid_NHW, labels_NHW.long(), 0)[:, None]
        ce_M, divergence_M = _MutualLearning.apply(labels_N1HW, valid_NHW[:, None].to(logits[0].dtype), *logits)
        return ce_M, divergence_M, valid_NHW.sum(dtype=ce_M.dtype)


class _MutualLearning(torch.autograd.Function):
    """The sums of `mutual_learning_parts` with their gradient, which is made of probabilities alone."""

    @staticmethod
    def forward(
        ctx: Any, labels_N1HW: Tensor, valid_N1HW: Tensor, *logits_of_networks: Tensor
    ) -> tuple[Tensor, Tensor]:
        logs = [logits_NKHW.log_softmax(1) for logits_NKHW in logits_of_networks]
        probabilities = [log_NKHW.exp() for log_NKHW in logs]
        ctx.save_for_backward(labels_N1HW, valid_N1HW, *probabilities)
        ce = [-(log_NKHW.gather(1, labels_N1HW) * valid_N1HW).sum() for log_NKHW in logs]
        divergences = [logs[0].new_zeros(()) for _ in logs]
        for j, k in itertools.combinations(range(len(logs)), 2):
            difference_NKHW = (logs[j] - logs[k]).mul_(valid_N1HW)
            divergences[k] = divergences[k] + (probabilities[j] * difference_NKHW).sum()
            divergences[j] = divergences[j] - (probabilities[k] * difference_NKHW).sum()
        return torch.stack(ce), torch.stack(divergences) / (len(logs) - 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ce_M: Tensor, divergence_M: Tensor) -> tuple[Tensor | None, ...]:
        labels_N1HW, valid_N1HW, *probabilities = ctx.saved_tensors
        gradients: list[Tensor | None] = []
        for k, own_NKHW in enumerate(probabilities):
            gradient_NKHW = own_NKHW * (ce_M[k] + divergence_M[k])
            share = divergence_M[k] / (len(probabilities) - 1)
            for j, other_NKHW in enumerate(probabilities):
                if j != k:
                    gradient_NKHW.addcmul_(other_NKHW, -share)
            gradient_NKHW.scatter_add_(1, labels_N1HW, (-ce_M[k]).expand_as(labels_N1HW))
            gradients.append(gradient_NKHW.mul_(valid_N1HW))
        return None, None, *gradients


def divergence_from_logits_parts(
    logits_NKHW: Tensor, target_logits_NKHW: Tensor, valid_NHW: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of the Porto study's code in place of the divergence: a sum over elements, and their number.

    The target is the other network's raw logits t, not its probabilities, and the sum runs over every element, ignored
    pixels too: Σ t · (log t − log p) where t > 0, and 0 elsewhere, as torch's `kl_div` of that time. It is no
    divergence (it falls below 0) and depends on the logits' offset.

    Where `valid_NHW` is given, a pixel that does not count and has a logit of either network that is NaN or infinite is
    as if all of its logits were 0.
    """
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        logits_NKHW, target = at_least_single(logits_NKHW), at_least_single(target_logits_NKHW.detach())
        if valid_NHW is not None:
            finite_NHW = (logits_NKHW.isfinite() & target.isfinite()).all(1)
            logits_NKHW, target = (filled(maps, valid_NHW | finite_NHW) for maps in (logits_NKHW, target))
        log_p = logits_NKHW.log_softmax(1)
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
