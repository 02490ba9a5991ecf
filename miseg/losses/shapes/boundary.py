"""Boundary loss: how far from the truth's boundary a prediction lies.

Kervadec, Bouchtiba, Desrosiers, Granger, Dolz and Ben Ayed: Boundary Loss for Highly Unbalanced Segmentation, MIDL
2019 (arXiv:1812.07032), for any number of classes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from miseg.extras import require
from miseg.interface import IGNORE_INDEX
from miseg.losses.labels import shares_and_truth


def boundary_parts(
    logits_NKHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Sum of φ p over valid pixels and classes, in pixels of distance, and the number of valid pixels.

    p is a class's softmax probability, and φ the signed distance of `signed_distances` to the class's boundary
    (equation 5). So their quotient is the mean distance, over what the network believes, by which a pixel lies outside
    of its class; it is negative where that is right. The authors' code divides by the number of classes too.

    φ is 0 for a class that an image does not show, as in the authors' code, and for one that it shows everywhere:
    neither has a boundary. On a boundary's inner side φ is 0 as well, so nothing there speaks against an absent class:
    mix the loss with cross-entropy, as the paper mixes it with a loss of regions.

    Args:
        logits_NKHW: floating [N, K, H, W]; computed in float32 (float64 for float64), under autocast too.
        labels_NHW: integer [N, H, W]; the ignore index and labels outside 0..K-1 do not count. Distances are computed
            on the CPU in every call.

    Returns:
        The sum (differentiable scalar) and the number (scalar of the same type).

    Raises:
        ValueError: a shape or type other than these.
        MissingExtraError: SciPy is not installed.
    """
    probabilities_NKHW, truth_NKHW, valid_NHW = shares_and_truth(logits_NKHW, labels_NHW, ignore_index)
    image_B, class_B = truth_NKHW.flatten(2).any(2).nonzero(as_tuple=True)
    distances_BHW = signed_distances(truth_NKHW[image_B, class_B], valid_NHW[image_B]).to(probabilities_NKHW)
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        total = (probabilities_NKHW[image_B, class_B] * distances_BHW).sum()
    return total, valid_NHW.sum(dtype=total.dtype)


def signed_distances(truth_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Exact Euclidean distances to the boundary of each map, as the authors' code measures them.

    Outside of the labelled pixels it is the distance to the nearest of these, 1 or more. Inside it is 1 minus the
    distance to the nearest pixel outside, 0 or less. A pixel that does not count is neither: nothing is measured to it.

    Args:
        truth_BHW: bool, labelled pixels.
        valid_BHW: bool, pixels that count; those that are labelled are among them.

    Returns:
        float64 [B, H, W] on the CPU, in pixels: 0 at pixels that do not count, and for a map without a pixel of
        either kind.
    """
    require("networks", "the boundary loss", "scipy")
    truth_BHW, valid_BHW = truth_BHW.cpu(), valid_BHW.cpu()
    if not len(truth_BHW):
        return torch.zeros(truth_BHW.shape, dtype=torch.float64)
    # The transform lets go of the interpreter's lock.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return torch.stack(list(pool.map(_signed_distance, truth_BHW, valid_BHW)))


def _signed_distance(truth_HW: Tensor, valid_HW: Tensor) -> Tensor:
    from scipy.ndimage import distance_transform_edt  # only here: the losses come without SciPy, and start without it

    outside_HW = valid_HW & ~truth_HW
    if not truth_HW.any() or not outside_HW.any():
        return torch.zeros(truth_HW.shape, dtype=torch.float64)
    to_truth_HW, to_outside_HW = (
        torch.from_numpy(distance_transform_edt(~side_HW.numpy())) for side_HW in (truth_HW, outside_HW)
    )
    return to_truth_HW * outside_HW - (to_outside_HW - 1) * truth_HW
