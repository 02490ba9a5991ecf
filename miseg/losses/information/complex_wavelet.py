"""Complex wavelet mutual information loss (CWMI): mutual information of the bands of a complex steerable pyramid.

Lu: Complex Wavelet Mutual Information Loss, 2025 (arXiv:2502.00563), as its code computes it, but for what
`complex_wavelet_mutual_information_parts` lists.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses.derivatives import once_differentiable_in
from miseg.losses.information import compiled
from miseg.losses.information.pooled_sigmoid import short_labels
from miseg.losses.information.wavelet_spectra import CompiledLogDeterminants, LogDeterminants
from miseg.losses.labels import at_least_single, check_logits_and_labels, shares_and_truth, valid_pixels


def complex_wavelet_mutual_information_parts(
    logits_NKHW: Tensor,
    labels_NHW: Tensor,
    *,
    levels: int = 4,
    orientations: int = 4,
    ridge: float = 1e-6,
    ignore_index: int = IGNORE_INDEX,
) -> tuple[Tensor, Tensor]:
    """Log determinant of what the probabilities' bands leave unexplained of the labels' bands, summed over levels.

    A band is a map filtered by a two-octave bump of frequencies around π / 2^level, on the half-plane around one of A
    orientations; its values are complex. With Gram matrices G of the A bands, sums over pixels, of the one-hot labels Y
    and the softmax probabilities P of a class in an image, a level adds

        log det(M + ridge · tr(G_Y) / A · I),    M = G_Y − G_YP (G_P + αI)⁻¹ G_YPᴴ,    α = 5e-4,

    which is ½ log det of the real 2A x 2A matrix that the authors write. It is usually positive for large images, and
    falls as P explains Y. Any affine function of Y explains it, 1 − Y as well: mix the loss with cross-entropy.

    No band is computed: by Parseval, every Gram matrix is a weighted sum of the maps' spectra. So sides may be any that
    are longer than 2^levels; maps are periodic, as the Fourier transform takes them, and nothing is padded.

    Other than in the authors' code: filters lie at the spectrum's frequencies, where the code's lie a bin beside them
    for even sides; M has a ridge; a class that an image does not show, or shows everywhere, is left out of the mean,
    as its M is 0 whatever the probabilities; pixels that do not count are 0 in both maps and have a gradient of
    exactly 0.
    Spectra are taken in float32 (float64 for float64 logits), Gram matrices in float64, under autocast too.

    Args:
        logits_NKHW: floating [N, K, H, W], before the softmax.
        labels_NHW: integers [N, H, W]; those outside 0..K-1 do not count.
        levels: of the pyramid, at least 1.
        orientations: A, at least 2.
        ridge: above 0, the share of the mean label band's energy that is added to the diagonal of M.
        ignore_index: label value of pixels that do not count.

    Returns:
        Scalars: the sum over images and the classes that each shows, and the number of these, without gradient. Both
        are 0 where nothing counts; NaN logits give a NaN sum.

    Raises:
        ValueError: a setting out of range, logits or labels of another shape or type, or a side of 2^levels or fewer.
    """
    check_settings(levels, orientations, ridge)
    check_logits_and_labels(logits_NKHW, labels_NHW)
    _, classes, height, width = logits_NKHW.shape
    if min(height, width) <= 2**levels:
        raise ValueError(
            f"an image of {height} x {width} pixels has no band at level {levels}: use sides of {2**levels + 1} or "
            "more, or fewer levels"
        )
    valid_NHW = valid_pixels(labels_NHW, classes, ignore_index)
    pixels_NK = _label_counts(labels_NHW, valid_NHW, classes)
    varied_NK = (pixels_NK > 0) & (pixels_NK < height * width)
    count = varied_NK.sum()
    # Of two classes without a pixel that does not count, one map is 1 minus the other: all but its mean is the same.
    twins = classes == 2 and bool(valid_NHW.all())
    if twins:
        varied_NK[:, 1] = False
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        logits_NKHW = at_least_single(logits_NKHW)
        if _compiled(logits_NKHW, classes):
            logits_NKHW = once_differentiable_in(logits_NKHW)
            short_NHW = short_labels(labels_NHW, valid_NHW, classes)
            total = CompiledLogDeterminants.apply(logits_NKHW, short_NHW, varied_NK, (levels, orientations), ridge)
        else:
            probabilities_NKHW, truth_NKHW, _ = shares_and_truth(logits_NKHW, labels_NHW, ignore_index)
            varied_B = varied_NK.flatten().nonzero().squeeze(1)
            maps = once_differentiable_in(probabilities_NKHW.flatten(0, 1)), truth_NKHW.flatten(0, 1)
            total = LogDeterminants.apply(*maps, varied_B, (levels, orientations), ridge)
    return (2 * total if twins else total), count.to(total.dtype)


def _label_counts(labels_NHW: Tensor, valid_NHW: Tensor, classes: int) -> Tensor:
    """int64 [N, K]: pixels of each class in each image."""
    images = len(labels_NHW)
    first_N11 = torch.arange(0, images * classes, classes, device=labels_NHW.device).view(-1, 1, 1)
    index_NHW = torch.where(valid_NHW, labels_NHW.long() + first_N11, images * classes)
    return torch.bincount(index_NHW.flatten(), minlength=images * classes + 1)[:-1].view(images, classes)


def _compiled(logits_NKHW: Tensor, classes: int) -> bool:
    single = logits_NKHW.device.type == "cpu" and logits_NKHW.dtype == torch.float32
    return single and classes <= torch.iinfo(torch.int16).max and compiled.available()


def check_settings(levels: int, orientations: int, ridge: float) -> None:
    """Raise ValueError for settings that `complex_wavelet_mutual_information_parts` does not take."""
    if levels < 1:
        raise ValueError(f"levels = {levels}: use 1 or more; the paper uses 4")
    if orientations < 2:
        raise ValueError(f"orientations = {orientations}: use 2 or more; the paper uses 4")
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge = {ridge}: use a value above 0, such as 1e-6")
