"""½ log det M / d of the region mutual information loss, with its gradient."""

from __future__ import annotations

import math
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
        wanted = ctx.needs_input_grad[1]
        # Where truth is constant, as of a class that an image does not have, M = 0 whatever the probabilities.
        alone = math.log(math.sqrt(diagonal) + _LOG_FLOOR)
        value_B = torch.full((len(truth_BHW),), alone, dtype=torch.float64, device=truth_BHW.device)
        gradient_BHW = torch.zeros_like(probabilities_BHW) if wanted else None
        for chunk in _chunks(truth_BHW, probabilities_BHW):
            vectors_BDP = _vectors(probabilities_BHW[chunk], truth_BHW[chunk], region_size)
            sums_BDD = torch.bmm(vectors_BDP, vectors_BDP.mT)
            sums_BDD.diagonal(dim1=1, dim2=2).add_(diagonal)
            # M + εI is the Schur complement of Σ_P + εI in the joint matrix, so its Cholesky factor is the joint
            # factor's lower right block. A Gram matrix plus εI is positive definite whatever the data; M formed through
            # an inverse is not, once rounded. The _ex form raises nothing, and asks the device nothing, where there is
            # a NaN.
            factor_BDD, info_B = torch.linalg.cholesky_ex(sums_BDD)
            found_B = (factor_BDD.diagonal(dim1=1, dim2=2)[:, d:] + _LOG_FLOOR).log().sum(1) / d
            value_B[chunk] = torch.where(info_B == 0, found_B, torch.nan)
            if gradient_BHW is not None:
                # While the vectors are at hand: log det M = log det Σ − log det Σ_P, and d log det Σ = tr(Σ⁻¹ dΣ).
                weights_BDD = torch.cholesky_inverse(factor_BDD)[:, :d]
                weights_BDD[:, :, :d] -= torch.cholesky_inverse(factor_BDD[:, :d, :d])
                slopes_BDP = torch.bmm(weights_BDD, vectors_BDP) / d
                gradient_BHW[chunk] = _folded(slopes_BDP, region_size, truth_BHW.shape[1:]).to(gradient_BHW.dtype)
        if gradient_BHW is not None:
            ctx.save_for_backward(gradient_BHW)
        return value_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_value_B: Tensor) -> tuple[None, Tensor, None, None]:
        (gradient_BHW,) = ctx.saved_tensors
        return None, gradient_BHW * of_value_B[:, None, None].to(gradient_BHW.dtype), None, None


def _chunks(truth_BHW: Tensor, probabilities_BHW: Tensor) -> list[Any]:
    """Indices of the maps to look at, a few at a time."""
    count = len(truth_BHW)
    if truth_BHW.is_cuda:
        # To ask which are constant would wait for the device.
        return [slice(start, start + _MAPS_GPU) for start in range(0, count, _MAPS_GPU)]
    truth_BP = truth_BHW.flatten(1)
    varied_B = (truth_BP != truth_BP[:, :1]).any(1)
    # A NaN is looked at, and told, wherever it is.
    varied_B |= ~probabilities_BHW.flatten(1).sum(1).isfinite()
    return list(varied_B.nonzero()[:, 0].split(_MAPS))


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
