"""Soft centre line Dice (clDice), for thin structures.

Shit, Paetzold, Sekuboyina, Ezhov, Unger, Zhylka, Pluim, Bauer and Menze: clDice, a Novel Topology-Preserving Loss
Function for Tubular Structure Segmentation, CVPR 2021 (arXiv:2003.07311), for any number of classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from miseg.interface import IGNORE_INDEX
from miseg.losses.derivatives import once_differentiable_in
from miseg.losses.labels import shares_and_truth

SMOOTHING = 1.0
"""ε of the authors' code, in pixels: added to both sides of every fraction."""

_PIXELS, _PIXELS_GPU = 1 << 18, 1 << 24
"""Pixels of maps that are skeletonised at once, on the CPU and on a GPU."""


def cl_dice_parts(
    logits_NKHW: Tensor,
    labels_NHW: Tensor,
    *,
    alpha: float = 0.5,
    iterations: int = 10,
    ignore_index: int = IGNORE_INDEX,
) -> tuple[Tensor, Tensor]:
    """Sum of (1 − α) (1 − Dice) + α (1 − clDice) over images and the classes that each shows, and the number of these.

    With the softmax probability p and the one-hot label g of a class, their soft skeletons s(p) and s(g), and sums
    over an image's valid pixels (equations 1 and 2, and the paper's loss),

        Tprec = (Σ s(p) g + ε) / (Σ s(p) + ε),    Tsens = (Σ s(g) p + ε) / (Σ s(g) + ε),
        clDice = 2 Tprec Tsens / (Tprec + Tsens),    Dice = (2 Σ p g + ε) / (Σ p + Σ g + ε),    ε = 1.

    The authors' code takes each sum over the batch and all classes; here, a loss is of an image and a class. So ranks
    add up, and a thin class is not lost beside a wide one. A pixel that does not count is to a skeleton as the outside
    of the image is: it neither erodes its neighbours nor grows into them.

    Args:
        logits_NKHW: floating [N, K, H, W]; computed in float32 (float64 for float64), under autocast too.
        labels_NHW: integer [N, H, W]; the ignore index and labels outside 0..K-1 do not count.
        alpha: α in 0..1, the share of clDice; the paper takes up to 0.5.
        iterations: of the skeleton, at least 0: half the width of the widest structure in pixels, or more. What is
            wider has no skeleton.

    Returns:
        The sum, each loss in 0..1 (differentiable scalar), and the number (scalar of the same type).

    Raises:
        ValueError: a setting out of range, or a shape or type other than these.
    """
    check_settings(alpha, iterations)
    probabilities_NKHW, truth_NKHW, valid_NHW = shares_and_truth(logits_NKHW, labels_NHW, ignore_index)
    # To ask which classes are shown waits for a GPU; skeletons of the maps of all others would take far longer.
    image_B, class_B = truth_NKHW.flatten(2).any(2).nonzero(as_tuple=True)
    valid_BHW = None if bool(valid_NHW.all()) else valid_NHW[image_B]
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        probabilities_BHW = once_differentiable_in(probabilities_NKHW[image_B, class_B])
        total = _SumOverMaps.apply(probabilities_BHW, truth_NKHW[image_B, class_B], valid_BHW, alpha, iterations)
    return total, total.new_full((), len(image_B))


def soft_skeleton(maps_BHW: Tensor, iterations: int, valid_BHW: Tensor | None = None) -> Tensor:
    """Soft skeletons of maps with values in 0..1: algorithm 1 of the paper.

    Args:
        maps_BHW: floating [B, H, W].
        iterations: k, the number of erosions.
        valid_BHW: bool, pixels that count, None for all; values of the others change nothing.

    Returns:
        [B, H, W] in 0..1, differentiable; what it holds at pixels that do not count means nothing.
    """
    skeleton_BHW = torch.zeros_like(maps_BHW)
    for iteration in range(iterations + 1):
        # The opening's erosion is also the next iteration's map.
        eroded_BHW = _eroded(maps_BHW, valid_BHW)
        thin_BHW = (maps_BHW - _dilated(eroded_BHW, valid_BHW)).relu()
        # No more than 1 in all: S + (1 − S) · D.
        skeleton_BHW = skeleton_BHW + (thin_BHW - skeleton_BHW * thin_BHW).relu() if iteration else thin_BHW
        maps_BHW = eroded_BHW
    return skeleton_BHW


def check_settings(alpha: float, iterations: int) -> None:
    """Raise ValueError, with the range, for a share or a number of iterations out of range."""
    if not 0 <= alpha <= 1:
        raise ValueError(
            f"α (alpha) = {alpha}: it lies in 0..1; 0 is Dice alone, 1 clDice alone, the paper's at most 0.5"
        )
    if iterations < 0:
        raise ValueError(f"iterations = {iterations}: use half the width of the widest structure, in pixels, or more")


class _SumOverMaps(torch.autograd.Function):
    """Sum of the maps' losses, and with it its gradient, a few maps at a time: autograd would keep every erosion."""

    @staticmethod
    def forward(
        ctx: Any,
        probabilities_BHW: Tensor,
        truth_BHW: Tensor,
        valid_BHW: Tensor | None,
        alpha: float,
        iterations: int,
    ) -> Tensor:
        total = probabilities_BHW.new_zeros(())
        gradient_BHW = torch.empty_like(probabilities_BHW) if ctx.needs_input_grad[0] else None
        pixels = _PIXELS_GPU if probabilities_BHW.is_cuda else _PIXELS
        step = max(1, pixels // max(1, probabilities_BHW[:1].numel()))
        for first in range(0, len(probabilities_BHW), step):
            maps = slice(first, first + step)
            share_BHW = probabilities_BHW[maps].detach().requires_grad_(gradient_BHW is not None)
            valid = None if valid_BHW is None else valid_BHW[maps]
            with torch.set_grad_enabled(gradient_BHW is not None):
                loss = _losses(share_BHW, truth_BHW[maps].to(share_BHW.dtype), valid, alpha, iterations).sum()
            if gradient_BHW is not None:
                (gradient_BHW[maps],) = torch.autograd.grad(loss, share_BHW)
            total += loss.detach()
        if gradient_BHW is not None:
            ctx.save_for_backward(gradient_BHW)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_BHW,) = ctx.saved_tensors
        return gradient_BHW * of_total, None, None, None, None


def _losses(p_BHW: Tensor, g_BHW: Tensor, valid_BHW: Tensor | None, alpha: float, iterations: int) -> Tensor:
    """[B]: (1 − α) (1 − Dice) + α (1 − clDice) of each map; p and g are 0 at pixels that do not count."""
    dice_B = _ratio(2 * (p_BHW * g_BHW), p_BHW + g_BHW)
    if alpha == 0:
        return 1 - dice_B
    predicted_BHW = soft_skeleton(p_BHW, iterations, valid_BHW)
    with torch.no_grad():
        labelled_BHW = soft_skeleton(g_BHW, iterations, valid_BHW)
    if valid_BHW is not None:
        predicted_BHW, labelled_BHW = predicted_BHW * valid_BHW, labelled_BHW * valid_BHW
    precision_B = _ratio(predicted_BHW * g_BHW, predicted_BHW)
    sensitivity_B = _ratio(labelled_BHW * p_BHW, labelled_BHW)
    cl_dice_B = 2 * precision_B * sensitivity_B / (precision_B + sensitivity_B)
    return (1 - alpha) * (1 - dice_B) + alpha * (1 - cl_dice_B)


def _ratio(part_BHW: Tensor, whole_BHW: Tensor) -> Tensor:
    return (part_BHW.sum((1, 2)) + SMOOTHING) / (whole_BHW.sum((1, 2)) + SMOOTHING)


def _eroded(maps_BHW: Tensor, valid_BHW: Tensor | None) -> Tensor:
    """Minimum over each pixel and the four beside it."""
    if valid_BHW is not None:
        maps_BHW = maps_BHW.where(valid_BHW, 1)
    down_BHW = -F.max_pool2d(-maps_BHW, (3, 1), 1, (1, 0))
    across_BHW = -F.max_pool2d(-maps_BHW, (1, 3), 1, (0, 1))
    return torch.minimum(down_BHW, across_BHW)


def _dilated(maps_BHW: Tensor, valid_BHW: Tensor | None) -> Tensor:
    """Maximum over the 3 x 3 pixels around each."""
    if valid_BHW is not None:
        maps_BHW = maps_BHW.where(valid_BHW, 0)
    return F.max_pool2d(maps_BHW, 3, 1, 1)
