"""½ log det M / d of the region mutual information loss, with its gradient."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miseg.losses.derivatives import once_differentiable_in
from miseg.losses.information import compiled

_LOG_FLOOR = 1e-8

_MAPS = 4
"""Maps that PyTorch unfolds at once on the CPU: more would leave the cache. A GPU takes `_MAPS_GPU`."""
_MAPS_GPU = 64


def half_log_det(truth_BHW: Tensor, probabilities_BHW: Tensor, region_size: int, diagonal: float) -> Tensor:
    """[B] in float64: ½ log det(M + εI) / d of each map; see `RegionMutualInformationLoss`.

    Arguments are those of `half_log_det_and_gradient`; the gradient is to the probabilities.
    """
    return _HalfLogDet.apply(truth_BHW, once_differentiable_in(probabilities_BHW), region_size, diagonal)


def half_log_det_and_gradient(
    truth_BHW: Tensor,
    probabilities_BHW: Tensor,
    region_size: int,
    diagonal: float,
    gradient_BHW: Tensor | None = None,
) -> Tensor:
    """½ log det(M + εI) / d of each map, and its gradient, without autograd.

    Args:
        truth_BHW: float32 or float64 [B, H, W] with H, W ≥ R.
        probabilities_BHW: [B, H, W] of the same type.
        region_size: R.
        diagonal: ε.
        gradient_BHW: where to write the gradient with respect to the probabilities, contiguous; it may be their own
            memory. None: it is not wanted.

    Returns:
        The values [B] in float64, NaN where M + εI is not positive definite, as it is for NaN probabilities.
    """
    d = region_size**2
    # Where truth is constant, as of a class that an image does not have, M = 0 whatever the probabilities.
    alone = math.log(math.sqrt(diagonal) + _LOG_FLOOR)
    value_B = torch.full((len(truth_BHW),), alone, dtype=torch.float64, device=truth_BHW.device)
    regions: _Regions
    if truth_BHW.device.type == "cpu" and compiled.available():
        regions, at_once = _Compiled(truth_BHW, probabilities_BHW, region_size), len(truth_BHW)
    else:
        at_once = min(len(truth_BHW), _MAPS_GPU if truth_BHW.is_cuda else _MAPS)
        regions = _Unfolded(truth_BHW, probabilities_BHW, region_size, at_once)
    varied_B = _varied(truth_BHW, probabilities_BHW)
    if gradient_BHW is not None and len(varied_B) < len(truth_BHW):
        constant_B = torch.ones(len(truth_BHW), dtype=torch.bool).index_fill_(0, varied_B, False)
        gradient_BHW[constant_B] = 0
    for index_B in varied_B.split(max(1, at_once)):
        sums_BDD, means_BD = regions.sums(index_B)
        sums_BDD.diagonal(dim1=1, dim2=2).add_(diagonal)
        # M + εI is the Schur complement of Σ_P + εI in the joint matrix, so its Cholesky factor is the joint factor's
        # lower right block. A Gram matrix plus εI is positive definite whatever the data; M formed through an inverse
        # is not, once rounded. The _ex form raises nothing, and asks the device nothing, where there is a NaN.
        factor_BDD, info_B = torch.linalg.cholesky_ex(sums_BDD)
        mean_log_B = (factor_BDD.diagonal(dim1=1, dim2=2)[:, d:] + _LOG_FLOOR).log().sum(1) / d
        value_B[index_B] = torch.where(info_B == 0, mean_log_B, torch.nan)
        if gradient_BHW is not None:
            # log det M = log det Σ − log det Σ_P, and d log det Σ = tr(Σ⁻¹ dΣ).
            weights_BDD = torch.cholesky_inverse(factor_BDD)[:, :d]
            weights_BDD[:, :, :d] -= torch.cholesky_inverse(factor_BDD[:, :d, :d])
            constants_BD1 = -weights_BDD @ means_BD.unsqueeze(2)
            regions.set_gradient(index_B, torch.cat((weights_BDD, constants_BD1), 2) / d, gradient_BHW)
    return value_B


class _HalfLogDet(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, truth_BHW: Tensor, probabilities_BHW: Tensor, region_size: int, diagonal: float) -> Tensor:
        # Of a single image with channels last, the maps are a view in which they do not lie one after the other.
        contiguous = torch.contiguous_format
        gradient_BHW = (
            torch.empty_like(probabilities_BHW, memory_format=contiguous) if ctx.needs_input_grad[1] else None
        )
        if gradient_BHW is not None:
            ctx.save_for_backward(gradient_BHW)
        return half_log_det_and_gradient(truth_BHW, probabilities_BHW, region_size, diagonal, gradient_BHW)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_value_B: Tensor) -> tuple[None, Tensor, None, None]:
        (gradient_BHW,) = ctx.saved_tensors
        return None, gradient_BHW * of_value_B[:, None, None].to(gradient_BHW.dtype), None, None


def _varied(truth_BHW: Tensor, probabilities_BHW: Tensor) -> Tensor:
    """Indices of the maps to look at."""
    if truth_BHW.is_cuda:
        # To ask which are constant would wait for the device.
        return torch.arange(len(truth_BHW), device=truth_BHW.device)
    truth_BP = truth_BHW.flatten(1)
    varied_B = (truth_BP != truth_BP[:, :1]).any(1)
    # A NaN is looked at, and told, wherever it is.
    varied_B |= ~probabilities_BHW.flatten(1).sum(1).isfinite()
    return varied_B.nonzero()[:, 0]


class _Regions(Protocol):
    """The vectors of maps: at each of the d shifts within a region a vector of probabilities, then one of truth."""

    def sums(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Products of centred vectors [B, 2d, 2d], and means [B, 2d] that `set_gradient`'s constants are of; float64.

        The means are of vectors from which any number may have been taken beforehand, the same for all of a map.
        """

    def set_gradient(self, index_B: Tensor, weights_BDD: Tensor, gradient_BHW: Tensor) -> None:
        """Of the maps whose sums were asked last: Σ_b w_ab v_b + w_a,2d at each pixel that shift a lays into a region.

        Args:
            index_B: those maps.
            weights_BDD: w [B, d, 2d + 1], float64.
            gradient_BHW: of all maps; changed in place.
        """


class _Unfolded:
    """Vectors written out, a few maps at a time, in memory that is taken once."""

    def __init__(self, truth_BHW: Tensor, probabilities_BHW: Tensor, region_size: int, at_once: int) -> None:
        _, height, width = truth_BHW.shape
        self.maps = (probabilities_BHW, truth_BHW)
        self.region_size = region_size
        self.rows, self.columns = height - region_size + 1, width - region_size + 1
        d, points = region_size**2, self.rows * self.columns
        memory = partial(torch.empty, dtype=torch.float64, device=truth_BHW.device)
        self.centred_B2HW = memory((at_once, 2, height, width))
        # The row of ones gives the means with the sums, and takes the constants with the weights.
        self.vectors_BDP = memory((at_once, 2 * d + 1, points)).fill_(1)
        self.slopes_BDP = memory((at_once, d, points))

    def sums(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        count, d = len(index_B), self.region_size**2
        centred_B2HW, vectors_BDP = self.centred_B2HW[:count], self.vectors_BDP[:count]
        for kind, maps_BHW in enumerate(self.maps):
            centred_B2HW[:, kind] = maps_BHW[index_B]
        # Near 0, so that what the means are taken away from below is no larger than what is left.
        centred_B2HW -= centred_B2HW.mean((2, 3), keepdim=True)
        shape = (count, 2, self.region_size, self.region_size, self.rows, self.columns)
        vectors_BDP[:, : 2 * d].view(shape).copy_(centred_B2HW.unfold(2, self.rows, 1).unfold(3, self.columns, 1))
        sums_BDD = torch.bmm(vectors_BDP, vectors_BDP.mT)
        means_BD = sums_BDD[:, 2 * d, : 2 * d] / (self.rows * self.columns)
        return sums_BDD[:, : 2 * d, : 2 * d] - sums_BDD[:, : 2 * d, 2 * d :] * means_BD.unsqueeze(1), means_BD

    def set_gradient(self, index_B: Tensor, weights_BDD: Tensor, gradient_BHW: Tensor) -> None:
        count = len(index_B)
        slopes_BDP = torch.bmm(weights_BDD, self.vectors_BDP[:count], out=self.slopes_BDP[:count])
        parts = slopes_BDP.view(count, self.region_size, self.region_size, self.rows, self.columns)
        folded_BHW = self.centred_B2HW[:count, 0].zero_()
        for row in range(self.region_size):
            for column in range(self.region_size):
                folded_BHW[:, row : row + self.rows, column : column + self.columns] += parts[:, row, column]
        gradient_BHW[index_B] = folded_BHW.to(gradient_BHW.dtype)


class _Compiled:
    """The loops of region_covariance.c, which unfold nothing."""

    def __init__(self, truth_BHW: Tensor, probabilities_BHW: Tensor, region_size: int) -> None:
        self.maps = (probabilities_BHW.contiguous(), truth_BHW.contiguous())
        self.region_size = region_size

    def sums(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        count, d = len(index_B), self.region_size**2
        sums_BDD = torch.empty((count, 2 * d, 2 * d), dtype=torch.float64)
        means_BD = torch.empty((count, 2 * d), dtype=torch.float64)
        compiled.call("region_sums", *self.maps, index_B, self._structure(count), sums_BDD, means_BD)
        return sums_BDD, means_BD

    def set_gradient(self, index_B: Tensor, weights_BDD: Tensor, gradient_BHW: Tensor) -> None:
        weights_BDD = weights_BDD.contiguous()
        maps = self._structure(len(index_B))
        compiled.call("region_gradient", *self.maps, index_B, maps, weights_BDD, gradient_BHW)

    def _structure(self, count: int) -> Any:
        maps_BHW = self.maps[0]
        return compiled.structure(count, *maps_BHW.shape[1:], self.region_size, maps_BHW.element_size())
