"""Tversky index, which weighs false positives and false negatives apart.

Salehi, Erdogmus and Gholipour: Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks,
MLMI 2017 (arXiv:1706.05721); with an exponent Abraham and Khan: A Novel Focal Tversky Loss Function with Improved
Attention U-Net for Lesion Segmentation, ISBI 2019 (arXiv:1810.07842).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses.overlap.sums import over_shown, overlap_sums


def tversky_parts(
    logits_NKHW: Tensor,
    labels_NHW: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    ignore_index: int = IGNORE_INDEX,
) -> tuple[Tensor, Tensor]:
    """Sum of (1 − T)^(1/γ) over images and the classes that each shows, and the number of these.

    With the softmax probability p and the one-hot label g of a class, summed over an image's valid pixels,

        T = Σ p g / (Σ p g + α Σ p (1 − g) + β Σ (1 − p) g).

    α = β = ½ is Dice with plain sums in its denominator, α = β = 1 Jaccard.

    Args:
        logits_NKHW: floating [N, K, H, W]; the sums are taken in float32 (float64 for float64), under autocast too.
        labels_NHW: integer [N, H, W]; the ignore index and labels outside 0..K-1 do not count.
        alpha: α ≥ 0, the weight of false positives.
        beta: β > 0, the weight of false negatives.
        gamma: γ > 0; Abraham and Khan take 4/3.

    Returns:
        The sum, each loss in 0..1 (differentiable scalar), and the number (scalar of the same type).

    Raises:
        ValueError: a setting out of range, or a shape or type other than these.
    """
    check_settings(alpha, beta, gamma)
    overlap_NK, predicted_NK, labelled_NK = overlap_sums(logits_NKHW, labels_NHW, ignore_index)
    false_positives_NK, false_negatives_NK = predicted_NK - overlap_NK, labelled_NK - overlap_NK
    weighed_NK = overlap_NK + alpha * false_positives_NK + beta * false_negatives_NK
    # Where nothing is labelled the denominator may be 0; the quotient is not used there.
    loss_NK = 1 - overlap_NK / weighed_NK.where(labelled_NK > 0, 1)
    if gamma != 1:
        # A root is infinitely steep at 0, where all is right to the last digit: there the gradient is 0.
        loss_NK = loss_NK.clamp_min(torch.finfo(loss_NK.dtype).eps) ** (1 / gamma)
    return over_shown(loss_NK, labelled_NK)


def check_settings(alpha: float, beta: float, gamma: float) -> None:
    """Raise ValueError, with the range, for a weight or exponent out of range."""
    if not 0 <= alpha < math.inf:
        raise ValueError(f"α (alpha) = {alpha}: use 0 or more; the paper's best is 0.3")
    if not 0 < beta < math.inf:
        raise ValueError(f"β (beta) = {beta}: use a value above 0; the paper's best is 0.7")
    if not 0 < gamma < math.inf:
        raise ValueError(f"γ (gamma) = {gamma}: use a value above 0; 1 is the Tversky loss, 4/3 its focal form")
