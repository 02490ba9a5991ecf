"""Soft Jaccard index, or intersection over union.

Rahman and Wang: Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, ISVC 2016, for any
number of classes.
"""

from __future__ import annotations

from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses.overlap.sums import over_shown, overlap_sums


def jaccard_parts(
    logits_NKHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Sum of 1 − J over images and the classes that each shows, and the number of these.

    With the softmax probability p and the one-hot label g of a class, summed over an image's valid pixels,

        J = Σ p g / Σ (p + g − p g).

    Args:
        logits_NKHW: floating [N, K, H, W]; the sums are taken in float32 (float64 for float64), under autocast too.
        labels_NHW: integer [N, H, W]; the ignore index and labels outside 0..K-1 do not count.

    Returns:
        The sum, each loss in 0..1 (differentiable scalar), and the number (scalar of the same type).

    Raises:
        ValueError: a shape or type other than these.
    """
    overlap_NK, predicted_NK, labelled_NK = overlap_sums(logits_NKHW, labels_NHW, ignore_index)
    union_NK = predicted_NK + labelled_NK - overlap_NK
    # Where nothing is labelled the union may be 0; the quotient is not used there.
    return over_shown(1 - overlap_NK / union_NK.where(labelled_NK > 0, 1), labelled_NK)
