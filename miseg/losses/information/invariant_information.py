"""Mutual information of paired cluster assignments: invariant information clustering (Ji et al., ICCV 2019)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from miseg.losses.labels import at_least_single, filled


def iic_segmentation_loss(
    first_NKHW: Tensor,
    second_NKHW: Tensor,
    mask_NHW: Tensor | None = None,
    displacement: int = 10,
    *,
    across_ranks: bool = True,
) -> Tensor:
    """−(1 / |T|) Σ_t I(P_t): the mutual information of a pixel's cluster and that of one near it in another view.

    Ji, Henriques and Vedaldi: Invariant Information Clustering, ICCV 2019 (arXiv:1807.06653), section 3.3: for every
    displacement t in a square window, P_t is the K x K table of Σ_u first[u] second[u + t]ᵀ over pixels and images,
    divided by its sum and made symmetric. Displacements without a pair of unmasked pixels are left out of the mean.

    Correlations are computed through the Fourier transform: the cost does not grow with the window as that of a
    convolution does.

    Args:
        first_NKHW: cluster probabilities of the first views, floating, each pixel's summing to 1.
        second_NKHW: those of the second views, brought back into the first's geometry, of the same shape.
        mask_NHW: pixels of the first view that count, boolean or 0..1; None: all.
        displacement: pixels by which the window reaches to each side, 0 or more: (2 · displacement + 1)² tables.
        across_ranks: whether tables are summed over the ranks of an initialised torch.distributed, with gradients, so
            that every rank has the loss of the whole batch. Then every rank must call. A trainer that averages
            gradients over ranks (DistributedDataParallel) gets those of the whole batch.

    Returns:
        A scalar in nats, −log K..0: negative is normal, the best is −log K. 0 where no pixel counts. Computed in
        float32 (float64 for float64 probabilities), under autocast too.

    Raises:
        ValueError: shapes that do not fit, probabilities that are not floating, or a displacement below 0 or not
            below the images' sides.
    """
    tables_TKK = iic_tables(first_NKHW, second_NKHW, mask_NHW, displacement)
    if across_ranks and dist.is_initialized() and dist.get_world_size() > 1:
        tables_TKK = all_reduce(tables_TKK)
    return iic_loss_of_tables(tables_TKK)


def iic_tables(
    first_NKHW: Tensor, second_NKHW: Tensor, mask_NHW: Tensor | None = None, displacement: int = 10
) -> Tensor:
    """Σ first[u] second[u + t]ᵀ over pixels and images for every displacement t, [T, K, K]: they add up over batches.

    Arguments and errors are those of `iic_segmentation_loss`.
    """
    _check(first_NKHW, second_NKHW, mask_NHW, displacement)
    with torch.autocast(first_NKHW.device.type, enabled=False):
        first, second = at_least_single(first_NKHW), at_least_single(second_NKHW)
        if mask_NHW is not None:
            mask = mask_NHW.to(first.dtype)[:, None]
            # What a network says of a masked pixel may be NaN, and 0 times a NaN is one.
            first, second = (filled(views, mask_NHW != 0) * mask for views in (first, second))
        return _tables(first, second, displacement)


def iic_loss_of_tables(tables_TKK: Tensor) -> Tensor:
    """`iic_segmentation_loss` of the pixels and images that `iic_tables` summed up."""
    with torch.autocast(tables_TKK.device.type, enabled=False):
        return -_mutual_information(tables_TKK)


def _tables(first_NKHW: Tensor, second_NKHW: Tensor, displacement: int) -> Tensor:
    """Σ_nu first[n, k, u] second[n, l, u + t] for every displacement t, [T, K, K]."""
    # Zeros as wide as the window on one side of each axis keep what leaves there from coming back on the other.
    height, width = (_fast_length(side + displacement) for side in first_NKHW.shape[-2:])
    firsts, seconds = (torch.fft.rfft2(x, (height, width)).permute(2, 3, 1, 0) for x in (first_NKHW, second_NKHW))
    spectra_HWKK = _CrossSpectra.apply(firsts.contiguous(), seconds.contiguous())
    # Of the inverse only the window is wanted, so its rows and columns are summed directly.
    shifts = torch.arange(-displacement, displacement + 1, device=firsts.device, dtype=torch.float64)
    rows_TH = _waves(shifts, torch.arange(height, device=firsts.device), height).to(firsts.dtype)
    columns = torch.arange(width // 2 + 1, device=firsts.device)
    # A real signal's other half of the columns is the conjugate of these.
    twice = torch.where((columns == 0) | (2 * columns == width), 1.0, 2.0).double()
    columns_TW = (_waves(shifts, columns, width) * twice).to(firsts.dtype)
    partial = torch.einsum("th,hwkl->twkl", rows_TH, spectra_HWKK)
    return torch.einsum("sw,twkl->tskl", columns_TW, partial).real.flatten(0, 1)


def _fast_length(least: int) -> int:
    """The smallest length of at least `least` that real Fourier transforms are fast at: 2^a · 3^b · 5^c."""
    length = least
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


class _CrossSpectra(torch.autograd.Function):
    """Σ_n conj(first[..., k, n]) second[..., l, n], complex [..., K, K], from [..., K, N] twice.

    Torch multiplies conjugate views a matrix at a time, thousands of small ones in a step, so conjugates are
    written out before each product, and in the gradient they are those of the small factor.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return first.conj_physical() @ second.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        first, second = ctx.saved_tensors
        return (gradient @ second.conj_physical()).conj_physical(), gradient.mT @ first


def _waves(shifts_T: Tensor, frequencies_F: Tensor, length: int) -> Tensor:
    angles = 2 * math.pi / length * shifts_T[:, None] * frequencies_F
    return torch.polar(torch.full_like(angles, 1 / length), angles)


def _mutual_information(tables_TKK: Tensor) -> Tensor:
    """The mean over tables of the mutual information of each, normalised and made symmetric, in nats."""
    tables_TKK = tables_TKK.clamp_min(0)
    mass_T11 = tables_TKK.sum((1, 2), keepdim=True)
    # Rounding in the transform leaves dust where no pair of pixels is.
    # Written so that a NaN counts, and is told.
    counted = ~(mass_T11 <= mass_T11.detach().amax() * 100 * torch.finfo(mass_T11.dtype).eps)
    joint_TKK = tables_TKK / torch.where(counted, mass_T11, 1.0)
    joint_TKK = (joint_TKK + joint_TKK.mT) / 2
    marginal_TK = joint_TKK.sum(2)
    tiny = torch.finfo(joint_TKK.dtype).eps ** 2
    log_joint, log_marginal = joint_TKK.clamp_min(tiny).log(), marginal_TK.clamp_min(tiny).log()
    information_T = (joint_TKK * (log_joint - log_marginal[:, :, None] - log_marginal[:, None])).sum((1, 2))
    counted_T = counted.view(-1)
    return torch.where(counted_T, information_T, 0).sum() / counted_T.sum().clamp_min(1)


def _check(first: Tensor, second: Tensor, mask: Tensor | None, displacement: int) -> None:
    if first.ndim != 4 or first.shape != second.shape:
        raise ValueError(f"views of shape {tuple(first.shape)} and {tuple(second.shape)}: expected [N, K, H, W] twice")
    if not (first.is_floating_point() and second.is_floating_point()):
        raise ValueError(f"views of type {first.dtype} and {second.dtype}: expected floating probabilities")
    if mask is not None and mask.shape != (first.shape[0], *first.shape[2:]):
        raise ValueError(f"a mask of shape {tuple(mask.shape)} for views of shape {tuple(first.shape)}")
    smallest = min(first.shape[2:])
    if not 0 <= displacement < smallest:
        raise ValueError(
            f"displacement = {displacement}: use 0 or more, and less than the smaller side ({smallest} pixels)"
        )
