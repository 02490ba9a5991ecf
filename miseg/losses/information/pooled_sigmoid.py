"""Sigmoid cross-entropy, averages of probabilities and averages of labels from one pass over the logits.

Probabilities are sigmoid · valid + 1e-6, labels are one-hot and 0 where they are not valid. Both are averaged over
DF x DF pixels with padding DF // 2, whose zeros count. No map of the logits' size is kept: the gradient takes the
sigmoid once more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from miseg.losses.information import compiled

PROBABILITY_FLOOR = 1e-6

_SLAB = 1 << 20
"""Logits taken at a time on the CPU: what is computed from them stays in the cache."""


class Pooled(NamedTuple):
    """Results of one pass over the logits.

    Attributes:
        sum: scalar, binary cross-entropy in nats, summed over classes and valid pixels.
        probabilities_NCHW: averages [N, C, h, w].
        labels_NCHW: averages [N, C, h, w].
    """

    sum: Tensor
    probabilities_NCHW: Tensor
    labels_NCHW: Tensor


def short_labels(labels_NHW: Tensor, valid_NHW: Tensor, num_classes: int) -> Tensor:
    """The labels as the functions below take them: [N, H, W] of two bytes where that is enough, -1 for not valid."""
    kind = torch.int16 if num_classes <= torch.iinfo(torch.int16).max else torch.int32
    return labels_NHW.to(kind, copy=True).masked_fill_(~valid_NHW, -1).contiguous()


def cross_entropy_and_pooled(logits_NCHW: Tensor, labels_NHW: Tensor, factor: int) -> Pooled:
    """One pass over the logits, without autograd: `pooled_gradient` is its gradient.

    Args:
        logits_NCHW: float32 or float64.
        labels_NHW: of `short_labels`.
        factor: DF ≥ 1.
    """
    if not _compiled(logits_NCHW, labels_NHW):
        return _by_pytorch(logits_NCHW, labels_NHW, factor)
    images, classes, height, _ = logits_NCHW.shape
    rows, columns = _size(logits_NCHW.shape[2:], factor)
    probabilities_NCHW, truth_NCHW = (logits_NCHW.new_empty((images, classes, rows, columns)) for _ in range(2))
    # A sum a band, added up in their order: however many threads there are, it is the same number.
    sums = torch.empty((images, -(-(height + _pad(factor)) // factor)), dtype=torch.float64)
    sizes, floor = _sizes(logits_NCHW, factor), ctypes.c_float(PROBABILITY_FLOOR)
    compiled.call("forward", logits_NCHW, labels_NHW, sizes, floor, sums, probabilities_NCHW, truth_NCHW)
    return Pooled(sums.sum().to(logits_NCHW.dtype), probabilities_NCHW, truth_NCHW)


def pooled_gradient(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    factor: int,
    of_sum: Tensor,
    of_probabilities_NCHW: Tensor,
    scale_NC: Tensor,
) -> Tensor:
    """Gradient [N, C, H, W] with respect to the logits, in their layout.

    Args:
        logits_NCHW: as they were given to `cross_entropy_and_pooled`, as the next two.
        labels_NHW: the same.
        factor: the same.
        of_sum: scalar, the objective's derivative with respect to `Pooled.sum`.
        of_probabilities_NCHW: times `scale_NC`, the one with respect to `Pooled.probabilities_NCHW`.
        scale_NC: a factor for each map.
    """
    if not _compiled(logits_NCHW, labels_NHW):
        of_probabilities_NCHW = of_probabilities_NCHW * scale_NC[:, :, None, None]
        return _gradient_by_pytorch(logits_NCHW, labels_NHW, factor, of_sum, of_probabilities_NCHW)
    gradient_NCHW = torch.empty_like(logits_NCHW)
    compiled.call(
        "backward",
        logits_NCHW,
        labels_NHW,
        _sizes(logits_NCHW, factor),
        compiled.structure(*gradient_NCHW.stride()),
        ctypes.c_float(of_sum.item()),
        of_probabilities_NCHW.contiguous(),
        scale_NC.to(torch.float32).contiguous(),
        gradient_NCHW,
    )
    return gradient_NCHW


def _compiled(logits_NCHW: Tensor, labels_NHW: Tensor) -> bool:
    return (
        logits_NCHW.device.type == "cpu"
        and logits_NCHW.dtype == torch.float32
        and labels_NHW.dtype == torch.int16
        and compiled.available()
    )


def _sizes(logits_NCHW: Tensor, factor: int) -> Any:
    size = logits_NCHW.shape[2:]
    return compiled.structure(*logits_NCHW.shape, *logits_NCHW.stride(), factor, _pad(factor), *_size(size, factor))


def _by_pytorch(logits_NCHW: Tensor, labels_NHW: Tensor, factor: int) -> Pooled:
    masked = _masked(labels_NHW)
    images, classes = logits_NCHW.shape[:2]
    probabilities_NCHW = logits_NCHW.new_empty((images, classes, *_size(logits_NCHW.shape[2:], factor)))
    total = torch.zeros((), dtype=torch.float64, device=logits_NCHW.device)
    classes_C11 = torch.arange(classes, dtype=labels_NHW.dtype, device=logits_NCHW.device).view(-1, 1, 1)
    values = None
    for slab in _slabs(logits_NCHW):
        logits, label = logits_NCHW[slab], labels_NHW[slab[0]].unsqueeze(1)
        if values is None or values.shape != logits.shape:
            values = torch.empty_like(logits)
        left_out = label == classes_C11[slab[1]]
        if masked:
            left_out |= label < 0
        # A label's own is log(1 + e^−x): to take x away from log(1 + e^x) later would leave no digits.
        values.copy_(logits).masked_fill_(left_out, -torch.inf)
        total += _sum_of_softplus(values)
        torch.sigmoid(logits, out=values)
        if masked:
            values.masked_fill_(label < 0, 0)
        values += PROBABILITY_FLOOR
        probabilities_NCHW[slab] = F.avg_pool2d(values, factor, factor, _pad(factor)) if factor > 1 else values
    for logits_CHW, label_HW in zip(logits_NCHW, labels_NHW, strict=True):
        own_1HW = logits_CHW.gather(0, label_HW.clamp(min=0).long().unsqueeze(0))
        total += F.softplus(-own_1HW).masked_fill_(label_HW < 0, 0).sum(dtype=torch.float64)
    truth_NCHW = _pooled_labels(labels_NHW, classes, factor, logits_NCHW.dtype)
    return Pooled(total.to(logits_NCHW.dtype), probabilities_NCHW, truth_NCHW)


def _sum_of_softplus(values: Tensor) -> Tensor:
    """The sum of log(1 + e^x) over all elements; the tensor's content is lost.

    On a CPU most of the time would go into a logarithm for each element. So eight share one: with e = e^−|x|, the
    product of two 1 + e is 1 + u with u = e₁ + e₂ + e₁e₂, which loses no digits of small e, and at most 255 after three
    rounds.
    """
    if values.is_cuda:
        return F.softplus(values).sum()
    total = values.clamp_min(0).sum()
    small = values.copysign_(values.new_tensor(-1.0)).exp_()
    # In the order in which they lie: of images with channels last the classes come last.
    flat = (small if small.is_contiguous() else small.permute(0, 2, 3, 1)).reshape(-1)
    whole = len(flat) // 8 * 8
    shared = flat[:whole].view(8, -1)
    while len(shared) > 1:
        first, second = shared.chunk(2)
        shared = torch.addcmul(first + second, first, second)
    return total + shared.log1p().sum() + flat[whole:].log1p().sum()


def _gradient_by_pytorch(
    logits_NCHW: Tensor, labels_NHW: Tensor, factor: int, of_sum: Tensor, of_probabilities_NCHW: Tensor
) -> Tensor:
    masked = _masked(labels_NHW)
    gradient_NCHW = torch.empty_like(logits_NCHW)
    of_probabilities_NCHW /= factor**2
    for slab in _slabs(logits_NCHW):
        # p · (g + u · (1 − p)), with g of the sum and u of the average that a pixel is in, less g at its label.
        gradient = torch.sigmoid(logits_NCHW[slab], out=gradient_NCHW[slab])
        for rows, u in _rows_and_averages(gradient, of_probabilities_NCHW[slab], factor):
            rows *= torch.addcmul(u + of_sum, u, rows, value=-1)
        if masked:
            gradient.masked_fill_(labels_NHW[slab[0]].unsqueeze(1) < 0, 0)
    for gradient_CHW, label_HW in zip(gradient_NCHW, labels_NHW, strict=True):
        index_1HW = label_HW.clamp(min=0).long().unsqueeze(0)
        gradient_CHW.scatter_add_(0, index_1HW, -of_sum * (label_HW >= 0).unsqueeze(0))
    return gradient_NCHW


def _pooled_labels(labels_NHW: Tensor, num_classes: int, factor: int, dtype: torch.dtype) -> Tensor:
    """Averages [N, C, h, w] of one-hot labels, counted from the label map."""
    images, height, width = labels_NHW.shape
    (rows, columns), pad = _size((height, width), factor), _pad(factor)
    device = labels_NHW.device
    row_H1, column_W = ((torch.arange(side, device=device) + pad) // factor for side in (height, width))
    row_H1 = row_H1.unsqueeze(1)
    # What the last whole window leaves over counts nowhere.
    whole_HW = (row_H1 < rows) & (column_W < columns)
    cell_HW = row_H1.clamp(max=rows - 1) * columns + column_W.clamp(max=columns - 1)
    counts = torch.zeros((images, num_classes * rows * columns), dtype=dtype, device=device)
    for image_counts, label_HW in zip(counts, labels_NHW, strict=True):
        counted_HW = (label_HW >= 0) & whole_HW
        cells_P = label_HW.clamp(min=0).long().mul_(rows * columns).add_(cell_HW).flatten()
        image_counts.scatter_add_(0, cells_P, counted_HW.flatten().to(dtype))
    return counts.view(images, num_classes, rows, columns).div_(factor**2)


def _masked(labels_NHW: Tensor) -> bool:
    """Whether a pixel does not count, or may not: on a GPU to ask would wait for it."""
    return labels_NHW.is_cuda or bool((labels_NHW < 0).any())


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


def _rows_and_averages(values_NCHW: Tensor, pooled_NCHW: Tensor, factor: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Views that cover all rows, and for each what broadcasts over it: the value of each pixel's window, or 0.

    The values are spread over columns alone. To spread them over rows too would take a map as large as the logits.
    """
    height, width = values_NCHW.shape[2:]
    pad, windows = _pad(factor), pooled_NCHW.shape[2]
    spread = pooled_NCHW.repeat_interleave(factor, 3)[..., pad : pad + width]
    # Columns, and below rows, that no window holds.
    spread = F.pad(spread, (0, width - spread.shape[3]))
    first = factor - pad
    whole = max(0, min((height - first) // factor, windows - 1))
    last = first + whole * factor
    yield values_NCHW[:, :, :first], spread[:, :, :1]
    if whole:
        rows = values_NCHW[:, :, first:last].unflatten(2, (whole, factor))
        yield rows, spread[:, :, 1 : whole + 1].unsqueeze(3)
    if last < height:
        rest = spread[:, :, whole + 1 : whole + 2]
        yield values_NCHW[:, :, last:], rest if rest.shape[2] else spread.new_zeros(())


def _pad(factor: int) -> int:
    return factor // 2 if factor > 1 else 0


def _size(sides: torch.Size | tuple[int, int], factor: int) -> tuple[int, int]:
    height, width = ((side + 2 * _pad(factor) - factor) // factor + 1 for side in sides)
    return height, width
