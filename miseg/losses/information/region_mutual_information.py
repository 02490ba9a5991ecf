"""Region mutual information loss.

Zhao, Wang, Yang and Cai: Region Mutual Information Loss for Semantic Segmentation, NeurIPS 2019 (arXiv:1910.12037).
Where the paper's text and the authors' code differ, this follows the code, which made the paper's tables.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from miseg.interface import IGNORE_INDEX
from miseg.losses.derivatives import once_differentiable_in
from miseg.losses.information.pooled_sigmoid import (
    PROBABILITY_FLOOR,
    cross_entropy_and_pooled,
    pooled_gradient,
    short_labels,
)
from miseg.losses.information.region_covariance import half_log_det, half_log_det_and_gradient
from miseg.losses.labels import (
    at_least_single,
    check_logits_and_labels,
    filled,
    finite_where_ignored,
    one_hot,
    valid_pixels,
)
from miseg.losses.pixels.binary_cross_entropy import masked_binary_cross_entropy_sum

Downsampling = Literal["average", "max", "interpolation"]

DIAGONAL = 5e-4
"""ε of the authors' code, added to the diagonals; the paper's text says 1e-6 for M."""


class RegionMutualInformationParts(NamedTuple):
    """The loss before any division, so that ranks can add up.

    Attributes:
        bce_sum: scalar, binary cross-entropy in nats, summed over classes and valid pixels.
        valid_pixels: scalar, number of pixels that count; no gradient.
        rmi_sum: scalar, ½ log det(M) / d summed over images and classes; usually negative.
        images: number of images N.
    """

    bce_sum: Tensor
    valid_pixels: Tensor
    rmi_sum: Tensor
    images: int


def region_mutual_information_parts(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    region_size: int = 3,
    downsampling_factor: int = 4,
    downsampling: Downsampling = "average",
    ignore_index: int = IGNORE_INDEX,
    diagonal: float = DIAGONAL,
) -> RegionMutualInformationParts:
    """Sums from which a trainer makes λ · bce_sum / (valid_pixels + 1) + (1 − λ) · rmi_sum / images over all ranks.

    Arguments, precision and errors are those of `RegionMutualInformationLoss`.
    """
    _check_settings(region_size, downsampling_factor, downsampling, diagonal)
    check_logits_and_labels(logits_NCHW, labels_NHW)
    _check_size(logits_NCHW.shape[-2:], region_size, downsampling_factor, downsampling)
    with torch.autocast(logits_NCHW.device.type, enabled=False):
        logits_NCHW = at_least_single(logits_NCHW)
        images, num_classes = logits_NCHW.shape[:2]
        valid_NHW = valid_pixels(labels_NHW, num_classes, ignore_index)
        if downsampling == "average" or downsampling_factor == 1:
            short_NHW = short_labels(labels_NHW, valid_NHW, num_classes)
            bce_sum, rmi_B = _CrossEntropyAndRegions.apply(
                once_differentiable_in(logits_NCHW), short_NHW, downsampling_factor, region_size, diagonal
            )
        else:
            logits_NCHW = finite_where_ignored(logits_NCHW, valid_NHW)
            truth_NCHW = one_hot(labels_NHW, valid_NHW, num_classes, logits_NCHW.dtype)
            bce_sum = masked_binary_cross_entropy_sum(logits_NCHW, truth_NCHW, valid_NHW)
            probabilities_NCHW = logits_NCHW.sigmoid() * valid_NHW.unsqueeze(1) + PROBABILITY_FLOOR
            truth_NCHW = _downsample(truth_NCHW, downsampling_factor, downsampling, labels=True)
            probabilities_NCHW = _downsample(probabilities_NCHW, downsampling_factor, downsampling, labels=False)
            rmi_B = half_log_det(truth_NCHW.flatten(0, 1), probabilities_NCHW.flatten(0, 1), region_size, diagonal)
        valid = valid_NHW.sum(dtype=logits_NCHW.dtype)
        return RegionMutualInformationParts(bce_sum, valid, rmi_B.sum().to(logits_NCHW.dtype), images)


class _CrossEntropyAndRegions(torch.autograd.Function):
    """Both sums in one node, so that the averages are gone when the gradient takes its memory."""

    @staticmethod
    def forward(
        ctx: Any,
        logits_NCHW: Tensor,
        labels_NHW: Tensor,
        factor: int,
        region_size: int,
        diagonal: float,
    ) -> tuple[Tensor, Tensor]:
        total, probabilities_NCHW, truth_NCHW = cross_entropy_and_pooled(logits_NCHW, labels_NHW, factor)
        truth_BHW, maps_BHW = truth_NCHW.flatten(0, 1), probabilities_NCHW.flatten(0, 1)
        # The gradient takes the place of the averages, which nothing else needs.
        gradient_BHW = maps_BHW if ctx.needs_input_grad[0] else None
        rmi_B = half_log_det_and_gradient(truth_BHW, maps_BHW, region_size, diagonal, gradient_BHW)
        if gradient_BHW is not None:
            ctx.save_for_backward(logits_NCHW, labels_NHW, probabilities_NCHW)
            ctx.factor = factor
        return total, rmi_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sum: Tensor, of_rmi_B: Tensor) -> tuple[Tensor | None, ...]:
        logits_NCHW, labels_NHW, of_probabilities_NCHW = ctx.saved_tensors
        scale_NC = of_rmi_B.view(logits_NCHW.shape[:2]).to(logits_NCHW.dtype)
        gradient_NCHW = pooled_gradient(logits_NCHW, labels_NHW, ctx.factor, of_sum, of_probabilities_NCHW, scale_NC)
        return gradient_NCHW, None, None, None, None


class RegionMutualInformationLoss(nn.Module):
    """λ · BCE + (1 − λ) · RMI (Zhao et al. 2019, equations 14 to 16, as the authors' code computes them).

    BCE is sigmoid cross-entropy summed over classes and valid pixels, divided by (valid pixels + 1). For RMI, one-hot
    labels and probabilities (sigmoid · mask + 1e-6) are downsampled; the R x R pixels of every region are a point in
    d = R² dimensions, Y for labels and P for probabilities. With centred sums Σ, not divided by the number of points,

        M = Σ_Y − Σ_YP (Σ_P + εI)⁻¹ Σ_YPᵀ,    RMI = ½ log det(M + εI) / d,

    summed over classes and averaged over images. **A negative loss is normal**: RMI is a lower bound's negation up to
    constants and log det M falls without a floor near 0 as the prediction explains the labels; only its decrease
    means anything.

    Labels outside 0..num_classes-1 count as ignored, as in the authors' code: to raise would synchronise the device in
    every step. A batch without a valid pixel gives a finite loss with zero gradient. NaN logits give a NaN loss. The
    sums are taken in float32, or float64 for float64 logits, and the matrices in float64, under autocast too.

    Args:
        num_classes: K, at least 1; the logits' channels.
        region_size: R ≥ 1.
        downsampling_factor: DF ≥ 1; 1 leaves the maps as they are.
        downsampling: "average" or "max" pooling (kernel = stride = DF, padding DF // 2, zeros of the padding counted in
            the average), or "interpolation" to size // DF, nearest for labels and bilinear with aligned corners for
            probabilities.
        weight: λ in 0..1, the share of BCE.
        ignore_index: label value of pixels that do not count.
        diagonal: ε > 0, added to the diagonals of Σ_P and M. 5e-4 is the authors' code; the paper's text says 1e-6
            for M.

    Raises:
        ValueError: a setting out of range, logits or labels of another shape or type, or an image that leaves no
            region at this DF and R.
    """

    def __init__(
        self,
        num_classes: int,
        region_size: int = 3,
        downsampling_factor: int = 4,
        downsampling: Downsampling = "average",
        weight: float = 0.5,
        ignore_index: int = IGNORE_INDEX,
        *,
        diagonal: float = DIAGONAL,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes = {num_classes}: use 1 or more")
        if not 0 <= weight <= 1:
            raise ValueError(f"weight (λ) = {weight}: it lies in 0..1; 1 is pure BCE, the paper uses 0.5")
        _check_settings(region_size, downsampling_factor, downsampling, diagonal)
        self.num_classes = num_classes
        self.region_size = region_size
        self.downsampling_factor = downsampling_factor
        self.downsampling: Downsampling = downsampling
        self.weight = weight
        self.ignore_index = ignore_index
        self.diagonal = diagonal

    def forward(self, logits_NCHW: Tensor, labels_NHW: Tensor) -> Tensor:
        """The scalar loss of floating logits [N, K, H, W] (before any sigmoid) and integer labels [N, H, W]."""
        if logits_NCHW.ndim == 4 and logits_NCHW.shape[1] != self.num_classes:
            raise ValueError(
                f"logits of shape {tuple(logits_NCHW.shape)} have {logits_NCHW.shape[1]} channels for "
                f"{self.num_classes} classes: expected one channel a class"
            )
        parts = region_mutual_information_parts(
            logits_NCHW,
            labels_NHW,
            region_size=self.region_size,
            downsampling_factor=self.downsampling_factor,
            downsampling=self.downsampling,
            ignore_index=self.ignore_index,
            diagonal=self.diagonal,
        )
        bce = parts.bce_sum / (parts.valid_pixels + 1)
        rmi = parts.rmi_sum / parts.images
        return self.weight * bce + (1 - self.weight) * rmi

    def extra_repr(self) -> str:
        """The settings, for `print(loss)`."""
        return (
            f"num_classes={self.num_classes}, region_size={self.region_size}, weight={self.weight}, "
            f"downsampling_factor={self.downsampling_factor}, downsampling={self.downsampling!r}"
        )


def region_vectors(
    probabilities_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    region_size: int = 3,
    downsampling_factor: int = 4,
    downsampling: Downsampling = "average",
    ignore_index: int = IGNORE_INDEX,
) -> tuple[Tensor, Tensor, Tensor]:
    """The points that the loss compares, for whoever measures what they have in common.

    Arguments and errors are those of `RegionMutualInformationLoss`, but for probabilities in place of logits.

    Returns:
        truth [N, K, d, P] and probabilities [N, K, d, P], float64, with d = R² and a column for each of the P regions;
        and bool [N, P], the regions whose every pixel counts. The loss takes the others too, with zeros there.
    """
    _check_settings(region_size, downsampling_factor, downsampling, diagonal=DIAGONAL)
    check_logits_and_labels(probabilities_NCHW, labels_NHW)
    _check_size(probabilities_NCHW.shape[-2:], region_size, downsampling_factor, downsampling)
    num_classes = probabilities_NCHW.shape[1]
    valid_NHW = valid_pixels(labels_NHW, num_classes, ignore_index)
    truth_NCHW = one_hot(labels_NHW, valid_NHW, num_classes, torch.float64)
    probabilities_NCHW = filled(probabilities_NCHW.double(), valid_NHW)
    valid_N1HW = valid_NHW.unsqueeze(1).double()
    # A share below 1 is of a cell with ignored pixels, or with the padding's zeros.
    shares = [valid_N1HW]
    if downsampling_factor > 1:
        truth_NCHW = _downsample(truth_NCHW, downsampling_factor, downsampling, labels=True)
        probabilities_NCHW = _downsample(probabilities_NCHW, downsampling_factor, downsampling, labels=False)
        if downsampling == "interpolation":
            shares = [_downsample(valid_N1HW, downsampling_factor, downsampling, labels=kind) for kind in (True, False)]
        else:
            shares = [_downsample(valid_N1HW, downsampling_factor, "average", labels=True)]
    whole_N1HW = torch.stack([share > 1 - 1e-9 for share in shares]).all(0)
    whole_NP = _unfolded(whole_N1HW.double(), region_size)[:, 0].all(1)
    return _unfolded(truth_NCHW, region_size), _unfolded(probabilities_NCHW, region_size), whole_NP


def _check_settings(region_size: int, downsampling_factor: int, downsampling: str, diagonal: float) -> None:
    if region_size < 1:
        raise ValueError(f"region_size = {region_size}: use 1 or more; the paper uses 3")
    if downsampling_factor < 1:
        raise ValueError(f"downsampling_factor = {downsampling_factor}: use 1 (none) or more; the paper uses 4")
    if downsampling not in get_args(Downsampling):
        raise ValueError(f"downsampling = {downsampling!r}: use one of {', '.join(get_args(Downsampling))}")
    if not diagonal > 0:
        raise ValueError(f"diagonal = {diagonal}: use a value above 0; the authors' code uses 5e-4")


def _check_size(size_HW: torch.Size, region_size: int, downsampling_factor: int, downsampling: str) -> None:
    def downsampled(side: int) -> int:
        if downsampling_factor == 1 or downsampling == "interpolation":
            return side // downsampling_factor
        return (side + 2 * (downsampling_factor // 2) - downsampling_factor) // downsampling_factor + 1

    if min(downsampled(side) for side in size_HW) < region_size:
        height, width = size_HW
        raise ValueError(
            f"an image of {height} x {width} pixels is {downsampled(height)} x {downsampled(width)} at downsampling "
            f"factor {downsampling_factor} ({downsampling}) and holds no region of {region_size} x {region_size}: use "
            f"larger images ({downsampling_factor * region_size} x {downsampling_factor * region_size} always do), or "
            "lower the downsampling factor or the region size"
        )


def _downsample(maps_NCHW: Tensor, factor: int, manner: Downsampling, *, labels: bool) -> Tensor:
    if manner == "average":
        return F.avg_pool2d(maps_NCHW, factor, factor, factor // 2)
    if manner == "max":
        return F.max_pool2d(maps_NCHW, factor, factor, factor // 2)
    size = (maps_NCHW.shape[2] // factor, maps_NCHW.shape[3] // factor)
    if labels:
        return F.interpolate(maps_NCHW, size, mode="nearest")
    return F.interpolate(maps_NCHW, size, mode="bilinear", align_corners=True)


def _unfolded(maps_NCHW: Tensor, region_size: int) -> Tensor:
    """float64 [N, C, d, points]: the maps at each of the d = R² shifts within a region."""
    maps_NCHW = maps_NCHW.double()
    height, width = (side - region_size + 1 for side in maps_NCHW.shape[-2:])
    views_NCRRHW = maps_NCHW.unfold(2, height, 1).unfold(3, width, 1)
    return views_NCRRHW.clone(memory_format=torch.contiguous_format).flatten(4).flatten(2, 3)
