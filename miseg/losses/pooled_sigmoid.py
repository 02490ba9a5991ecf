"""Sigmoid cross-entropy and pooled probabilities from one pass over the logits, and pooled labels from none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

PROBABILITY_FLOOR = 1e-6

_SLAB = 1 << 18
"""Logits taken at a time on the CPU: what is computed from them stays in the cache."""


def cross_entropy_and_pooled(
    logits_NCHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor, factor: int
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy in nats summed over classes and valid pixels, and averages of probabilities.

    Probabilities are sigmoid · valid + 1e-6, averaged over DF x DF pixels with padding DF // 2, whose zeros count. No
    map of the logits' size is kept: the gradient takes the sigmoid once more.

    Args:
        logits_NCHW: float32 or float64.
        labels_NHW: integer labels, 0..C-1 where valid.
        valid_NHW: bool, pixels that count.
        factor: DF ≥ 1.

    Returns:
        The sum (scalar) and the averages [N, C, h, w], in the logits' type.
    """
    return _Pooled.apply(logits_NCHW, labels_NHW, valid_NHW, factor)


def pooled_labels(labels_NHW: Tensor, valid_NHW: Tensor, num_classes: int, factor: int, dtype: torch.dtype) -> Tensor:
    """Averages [N, C, h, w] of one-hot labels, as `cross_entropy_and_pooled` averages, counted from the label map."""
    images, height, width = labels_NHW.shape
    (rows, columns), pad = _size((height, width), factor), _pad(factor)
    device = labels_NHW.device
    row_H, column_W = ((torch.arange(side, device=device) + pad) // factor for side in (height, width))
    # What the last whole window leaves over counts nowhere.
    valid_NHW = valid_NHW & (row_H < rows).unsqueeze(1) & (column_W < columns)
    image_N11 = torch.arange(images, device=device)[:, None, None]
    cell_NHW = image_N11 * num_classes + torch.where(valid_NHW, labels_NHW, 0)
    cell_NHW = (cell_NHW * rows + row_H.clamp(max=rows - 1).unsqueeze(1)) * columns + column_W.clamp(max=columns - 1)
    counts = torch.zeros(images * num_classes * rows * columns, dtype=dtype, device=device)
    counts.scatter_add_(0, cell_NHW.flatten(), valid_NHW.flatten().to(dtype))
    return counts.view(images, num_classes, rows, columns) / factor**2


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_NCHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor, factor: int
    ) -> tuple[Tensor, Tensor]:
        mask_N1HW = valid_NHW.unsqueeze(1).to(logits_NCHW.dtype)
        index_N1HW = torch.where(valid_NHW, labels_NHW, 0).long().unsqueeze(1)
        # Where asking costs nothing: most images have every pixel labelled, or a pass less to take.
        masked = logits_NCHW.is_cuda or not bool(valid_NHW.all())
        shape = (*logits_NCHW.shape[:2], *_size(logits_NCHW.shape[2:], factor))
        pooled_NCHW = logits_NCHW.new_empty(shape)
        total = torch.zeros((), dtype=torch.float64, device=logits_NCHW.device)
        for slab in _slabs(logits_NCHW):
            values = F.softplus(logits_NCHW[slab])
            if masked:
                values *= mask_N1HW[slab[0]]
            total += values.sum()
            torch.sigmoid(logits_NCHW[slab], out=values)
            if masked:
                values *= mask_N1HW[slab[0]]
            values += PROBABILITY_FLOOR
            pooled_NCHW[slab] = F.avg_pool2d(values, factor, factor, _pad(factor)) if factor > 1 else values
        total -= (logits_NCHW.gather(1, index_N1HW) * mask_N1HW).sum(dtype=torch.float64)
        ctx.save_for_backward(logits_NCHW, index_N1HW, mask_N1HW)
        ctx.factor, ctx.masked = factor, masked
        return total.to(logits_NCHW.dtype), pooled_NCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sum: Tensor, of_pooled_NCHW: Tensor) -> tuple[Tensor, None, None, None]:
        logits_NCHW, index_N1HW, mask_N1HW = ctx.saved_tensors
        gradient_NCHW = torch.empty_like(logits_NCHW)
        of_pooled_NCHW = of_pooled_NCHW / ctx.factor**2
        for slab in _slabs(logits_NCHW):
            # p · (g + u · (1 − p)), with g of the sum and u of the average that a pixel is in, less g at its label.
            sigmoid = torch.sigmoid(logits_NCHW[slab])
            slope = 1 - sigmoid
            _times_spread(slope, of_pooled_NCHW[slab], ctx.factor)
            slope += of_sum
            torch.mul(sigmoid, slope, out=gradient_NCHW[slab])
            if ctx.masked:
                gradient_NCHW[slab] *= mask_N1HW[slab[0]]
        gradient_NCHW.scatter_add_(1, index_N1HW, -of_sum * mask_N1HW)
        return gradient_NCHW, None, None, None


def _slabs(logits_NCHW: Tensor) -> Iterator[tuple[slice, slice]]:
    """Parts [1, c, H, W] that lie together in memory, small ones on the CPU; everything on a GPU."""
    images, classes, height, width = logits_NCHW.shape
    if logits_NCHW.is_cuda:
        yield slice(0, images), slice(0, classes)
        return
    step = max(1, _SLAB // (height * width)) if logits_NCHW.is_contiguous() else classes
    for image in range(images):
        for first in range(0, classes, step):
            yield slice(image, image + 1), slice(first, first + step)


def _times_spread(values_NCHW: Tensor, pooled_NCHW: Tensor, factor: int) -> None:
    """Multiply each pixel, in place, by its window's value; 0 for those that no window holds."""
    if factor == 1:
        values_NCHW *= pooled_NCHW
        return
    images, classes, rows, columns = pooled_NCHW.shape
    spread = pooled_NCHW[:, :, :, None, :, None].expand(-1, -1, -1, factor, -1, factor)
    spread = spread.reshape(images, classes, rows * factor, columns * factor)
    height, width = values_NCHW.shape[2:]
    pad = _pad(factor)
    spread = spread[:, :, pad : pad + height, pad : pad + width]
    values_NCHW[:, :, : spread.shape[2], : spread.shape[3]] *= spread
    values_NCHW[:, :, spread.shape[2] :] = 0
    values_NCHW[:, :, :, spread.shape[3] :] = 0


def _pad(factor: int) -> int:
    return factor // 2 if factor > 1 else 0


def _size(sides: torch.Size | tuple[int, int], factor: int) -> tuple[int, int]:
    height, width = ((side + 2 * _pad(factor) - factor) // factor + 1 for side in sides)
    return height, width
