"""Lovász-softmax.

Berman, Rannen Triki and Blaschko: The Lovász-Softmax Loss: A Tractable Surrogate for the Optimization of the
Intersection-Over-Union Measure in Neural Networks, CVPR 2018 (arXiv:1705.08790).
"""

from __future__ import annotations

import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses.labels import shares_and_truth

_SORTED = 1 << 24
"""Errors that are sorted at a time, for their order takes eight bytes each."""


def lovasz_softmax_parts(
    logits_NKHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Sum of the Lovász extension of 1 − J over images and the classes that each shows, and the number of these.

    A valid pixel's error m is 1 − p where the label is the class and p elsewhere, with the softmax probability p of the
    class. With the errors of an image in descending order, m₁ ≥ m₂ ≥ …, and Δ(i) the Jaccard loss 1 − J of a
    prediction that is wrong at the first i of these pixels alone, the extension is (equations 8 and 9)

        Σ mᵢ (Δ(i) − Δ(i − 1)).

    It is the paper's form with one loss an image: one of a whole batch would not add up over ranks.

    Args:
        logits_NKHW: floating [N, K, H, W]; computed in float32 (float64 for float64), under autocast too.
        labels_NHW: integer [N, H, W]; the ignore index and labels outside 0..K-1 do not count.

    Returns:
        The sum, each loss in 0..1 (differentiable scalar), and the number (scalar of the same type).

    Raises:
        ValueError: a shape or type other than these.
    """
    probabilities_NKHW, truth_NKHW, valid_NHW = shares_and_truth(logits_NKHW, labels_NHW, ignore_index)
    # To ask which classes are shown waits for a GPU; to sort the maps of all others would take far longer.
    image_B, class_B = truth_NKHW.flatten(2).any(2).nonzero(as_tuple=True)
    truth_BP = truth_NKHW[image_B, class_B].flatten(1)
    probabilities_BP = probabilities_NKHW[image_B, class_B].flatten(1)
    valid_BP = valid_NHW[image_B].flatten(1)
    errors_BP = torch.where(truth_BP, 1 - probabilities_BP, probabilities_BP)
    weights_BP = torch.empty_like(errors_BP)
    step = max(1, _SORTED // valid_BP.shape[1])
    for first in range(0, len(errors_BP), step):
        maps = slice(first, first + step)
        weights_BP[maps] = _slopes(errors_BP[maps].detach(), truth_BP[maps], valid_BP[maps])
    total = (errors_BP * weights_BP).sum()
    return total, total.new_full((), len(errors_BP))


def _slopes(errors_BP: Tensor, truth_BP: Tensor, valid_BP: Tensor) -> Tensor:
    """[B, P]: Δ(i) − Δ(i − 1) of the i at which each pixel comes in the order of errors; 0 where it is not valid."""
    # Behind all others, where they change no difference of these.
    order_BP = errors_BP.masked_fill(~valid_BP, -1).argsort(dim=1, descending=True, stable=True)
    truth_BP, valid_BP = truth_BP.gather(1, order_BP), valid_BP.gather(1, order_BP)
    wrong_BP = (valid_BP & ~truth_BP).cumsum(1, dtype=torch.int32)
    missed_BP = truth_BP.cumsum(1, dtype=torch.int32)
    labelled_B1 = missed_BP[:, -1:]
    # J = intersection / union. A labelled pixel that is wrong takes one from the intersection, another adds one to the
    # union. Both differences are written out, for those of two quotients near 1 would have few digits.
    intersection_BP = (labelled_B1 - missed_BP).to(errors_BP.dtype)
    union_BP = (labelled_B1 + wrong_BP).to(errors_BP.dtype)
    outside_BP = intersection_BP / (union_BP * (union_BP - 1).clamp_min(1))
    slopes_BP = torch.where(truth_BP, 1 / union_BP, outside_BP) * valid_BP
    return torch.empty_like(slopes_BP).scatter_(1, order_BP, slopes_BP)
