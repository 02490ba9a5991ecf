"""Helpers of the losses for labels: valid pixels, one-hot maps, and checks of shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX

_HARMLESS = 1e18
"""Size up to which what a loss makes of a logit is finite, so that 0 times it is 0."""


def check_logits_and_labels(logits_NKHW: Tensor, labels_NHW: Tensor) -> None:
    """Raise ValueError unless logits are floating [N, K, H, W] and labels integer [N, H, W] of the same N, H and W."""
    if logits_NKHW.ndim != 4 or not logits_NKHW.is_floating_point():
        raise ValueError(
            f"logits of shape {tuple(logits_NKHW.shape)} and type {logits_NKHW.dtype}: expected floating [N, K, H, W]"
        )
    n, _, height, width = logits_NKHW.shape
    if labels_NHW.shape != (n, height, width):
        raise ValueError(
            f"labels of shape {tuple(labels_NHW.shape)} for logits of shape {tuple(logits_NKHW.shape)}: "
            f"expected [N, H, W] = [{n}, {height}, {width}]"
        )
    kind = labels_NHW.dtype
    if kind.is_floating_point or kind.is_complex or kind == torch.bool:
        raise ValueError(f"labels of type {kind}: expected integers, such as uint8 or int64; convert them by .long()")


def counted(logits_NKHW: Tensor, labels_NHW: Tensor, ignore_index: int = IGNORE_INDEX) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and valid pixels as a loss computes with them, checked.

    Every loss that does not mask in a loop of its own begins with this: 0 times a NaN or an infinity is NaN, so what
    does not count has to be gone before anything is computed of it.

    Returns:
        logits in float32 (float64 for float64) that are finite at pixels that do not count, where those that were not
        are 0 without a gradient; labels in int64; valid pixels [N, H, W], bool.

    Raises:
        ValueError: a shape or type other than `check_logits_and_labels` takes.
    """
    check_logits_and_labels(logits_NKHW, labels_NHW)
    valid_NHW = valid_pixels(labels_NHW, logits_NKHW.shape[1], ignore_index)
    return finite_where_ignored(at_least_single(logits_NKHW), valid_NHW), labels_NHW.long(), valid_NHW


def finite_where_ignored(maps_NKHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """The maps, with 0 at pixels that do not count if any number of theirs is NaN, infinite or above 1e18."""
    # On a CPU to look takes far less than a copy and its gradient; a GPU would have to be waited for.
    if not maps_NKHW.is_cuda and maps_NKHW.numel():
        low, high = maps_NKHW.detach().aminmax()
        if low > -_HARMLESS and high < _HARMLESS:
            return maps_NKHW
    return filled(maps_NKHW, valid_NHW)


def filled(maps_NKHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """The maps with 0, and no gradient, at pixels that do not count."""
    return maps_NKHW.masked_fill(~valid_NHW.unsqueeze(1), 0)


def valid_pixels(labels_NHW: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """bool [N, H, W]: pixels that count, of labels of any integer type.

    The ignore index and every label outside 0..K-1 count nowhere. Raising for the latter would cost a device
    synchronisation in each step; the packing of a data set is where they are caught.
    """
    # In a type of eight bits a number of classes or an ignore index beyond its range would stand for another number.
    labels_NHW = labels_NHW.long()
    return (labels_NHW >= 0) & (labels_NHW < num_classes) & (labels_NHW != ignore_index)


def one_hot(labels_NHW: Tensor, valid_NHW: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """[N, K, H, W] in `dtype`: 1 at a valid pixel's class, 0 elsewhere (all zeros at a pixel that does not count)."""
    # torch's one_hot goes through an int64 map, eight bytes a class and pixel; the comparison takes one.
    classes_1K11 = torch.arange(num_classes, device=labels_NHW.device).view(1, -1, 1, 1)
    return ((labels_NHW.long().unsqueeze(1) == classes_1K11) & valid_NHW.unsqueeze(1)).to(dtype)


def at_least_single(logits_NKHW: Tensor) -> Tensor:
    """The logits in float32, or in float64 where they already are."""
    return logits_NKHW if logits_NKHW.dtype == torch.float64 else logits_NKHW.float()


def shares_and_truth(
    logits_NKHW: Tensor, labels_NHW: Tensor, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax probabilities and labels as maps of a class each, both 0 at pixels that do not count.

    Logits of pixels that do not count have no gradient and change nothing, be they NaN or infinite.

    Returns:
        probabilities [N, K, H, W], float32 (float64 for float64 logits) under autocast too; one-hot labels [N, K, H, W]
        and valid pixels [N, H, W], both bool.

    Raises:
        ValueError: a shape or type other than `check_logits_and_labels` takes.
    """
    logits_NKHW, labels_NHW, valid_NHW = counted(logits_NKHW, labels_NHW, ignore_index)
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        probabilities_NKHW = logits_NKHW.softmax(1) * valid_NHW.unsqueeze(1)
    return probabilities_NKHW, one_hot(labels_NHW, valid_NHW, logits_NKHW.shape[1], torch.bool), valid_NHW
