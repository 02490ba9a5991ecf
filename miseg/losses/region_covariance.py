"""½ log det M / d of the region mutual information loss, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LOG_FLOOR = 1e-8

_MAPS = 4
"""Maps that are unfolded at once on the CPU; a GPU takes `_MAPS_GPU`."""
_MAPS_GPU = 64


def half_log_det(truth_BHW: Tensor, probabilities_BHW: Tensor, region_size: int, diagonal: float) -> Tensor:
    """[B] in float64: ½ log det(M + εI) / d of each map; see `RegionMutualInformationLoss`.

    The gradient is written out, and the regions are unfolded a few maps at a time, so that they stay in the cache and
    take no memory to speak of. NaN where M + εI is not positive definite, as it is for NaN probabilities.

    Args:
        truth_BHW: floating [B, H, W] with H, W ≥ R; no gradient.
        probabilities_BHW: floating [B, H, W].
        region_size: R.
        diagonal: ε.
    """
    return _HalfLogDet.apply(truth_BHW, probabilities_BHW, region_size, diagonal)


class _HalfLogDet(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, truth_BHW: Tensor, probabilities_BHW: Tensor, region_size: int, diagonal: float) -> Tensor:
        d = region_size**2
        values, factors = [], []
        for chunk in _chunks(probabilities_BHW):
            vectors_BDP = _vectors(probabilities_BHW[chunk], truth_BHW[chunk], region_size)
            sums_BDD = torch.bmm(vectors_BDP, vectors_BDP.mT)
            sums_BDD.diagonal(dim1=1, dim2=2).add_(diagonal)
            # M + εI is the Schur complement of Σ_P + εI in the joint matrix, so its Cholesky factor is the joint
            # factor's lower right block. A Gram matrix plus εI is positive definite whatever the data; M formed through
            # an inverse is not, once rounded. The _ex form raises nothing, and asks the device nothing, where there is
            # a NaN.
            factor_BDD, info_B = torch.linalg.cholesky_ex(sums_BDD)
            value_B = (factor_BDD.diagonal(dim1=1, dim2=2)[:, d:] + _LOG_FLOOR).log().sum(1) / d
            values.append(torch.where(info_B == 0, value_B, torch.nan))
            factors.append(factor_BDD)
        # The vectors are made again for the gradient: kept, they would be 4 R² times the pooled maps.
        ctx.save_for_backward(truth_BHW, probabilities_BHW, torch.cat(factors))
        ctx.region_size = region_size
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[None, Tensor, None, None]:
        truth_BHW, probabilities_BHW, factors_BDD = ctx.saved_tensors
        d = ctx.region_size**2
        found = torch.empty_like(probabilities_BHW)
        for chunk in _chunks(probabilities_BHW):
            # log det M = log det Σ − log det Σ_P, and d log det Σ = tr(Σ⁻¹ dΣ).
            weights_BDD = torch.cholesky_inverse(factors_BDD[chunk])[:, :d]
            weights_BDD[:, :, :d] -= torch.cholesky_inverse(factors_BDD[chunk, :d, :d])
            weights_BDD *= (gradient_B[chunk] / d)[:, None, None]
            vectors_BDP = _vectors(probabilities_BHW[chunk], truth_BHW[chunk], ctx.region_size)
            found[chunk] = _folded(torch.bmm(weights_BDD, vectors_BDP), ctx.region_size, found.shape[1:])
        return None, found, None, None


def _chunks(maps_BHW: Tensor) -> list[slice]:
    step = _MAPS_GPU if maps_BHW.is_cuda else _MAPS
    return [slice(start, start + step) for start in range(0, len(maps_BHW), step)]


def _vectors(probabilities_BHW: Tensor, truth_BHW: Tensor, region_size: int) -> Tensor:
    """float64 [B, 2d, points]: both maps at each of the d = R² shifts within a region, centred, probabilities first."""
    count, height, width = probabilities_BHW.shape
    rows, columns = height - region_size + 1, width - region_size + 1
    shape = (count, 2, region_size, region_size, rows, columns)
    vectors = torch.empty(shape, dtype=torch.float64, device=probabilities_BHW.device)
    for index, maps_BHW in enumerate((probabilities_BHW, truth_BHW)):
        vectors[:, index] = maps_BHW.unfold(1, rows, 1).unfold(2, columns, 1)
    vectors_BDP = vectors.view(count, 2 * region_size**2, rows * columns)
    return vectors_BDP.sub_(vectors_BDP.mean(2, keepdim=True))


def _folded(vectors_BDP: Tensor, region_size: int, size: torch.Size) -> Tensor:
    """[B, H, W]: what lies at each pixel in the regions that hold it, summed; the transpose of the unfolding."""
    height, width = size
    rows, columns = height - region_size + 1, width - region_size + 1
    parts = vectors_BDP.view(len(vectors_BDP), region_size, region_size, rows, columns)
    found_BHW = vectors_BDP.new_zeros((len(vectors_BDP), height, width))
    for row in range(region_size):
        for column in range(region_size):
            found_BHW[:, row : row + rows, column : column + columns] += parts[:, row, column]
    return found_BHW
