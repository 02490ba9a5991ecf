"""Affinity field loss.

Ke, Hwang, Liu and Yu: Adaptive Affinity Fields for Semantic Segmentation, ECCV 2018 (arXiv:1803.10335), its plain
form with a fixed 3x3 neighbourhood, as Zhao et al. (2019, arXiv:1910.12037) ran it beside region mutual information.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miseg.interface import IGNORE_INDEX
from miseg.losses.labels import counted, filled, one_hot, valid_pixels

PROBABILITY_FLOOR = 1e-4
"""Probabilities and their complements are clipped here from below before logarithms, as in the authors' code."""

_LEAST_WEIGHT = 1e-3
"""Share of the counted pixels around a place of the shrunken map below which it does not count."""

HALF_NEIGHBOURHOOD = ((0, 1), (1, -1), (1, 0), (1, 1))
"""(row, column) offsets of four of the eight neighbours; the other four are the same pairs from the other end."""


Pairs = Literal["counted", "published"]
"""Pairs of pixels that are compared; see `AffinityFieldLoss`."""


class AffinityFieldParts(NamedTuple):
    """The loss before any division, so that ranks can add up; counts carry no gradient.

    Attributes:
        edge_sum: scalar, max(0, margin − KL) in nats over the pairs whose labels differ in a class.
        edges: scalar, number of these (pair, class) entries.
        region_sum: scalar, KL in nats over the pairs that agree on a class.
        regions: scalar, number of these entries.
    """

    edge_sum: Tensor
    edges: Tensor
    region_sum: Tensor
    regions: Tensor


def affinity_field_parts(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    margin: float = 3.0,
    stride: int = 8,
    pairs: Pairs = "counted",
    ignore_index: int = IGNORE_INDEX,
) -> AffinityFieldParts:
    """Sums from which a trainer makes edge_sum / edges + region_sum / regions over all ranks.

    Arguments, precision and errors are those of `AffinityFieldLoss`.
    """
    check_settings(margin, stride, pairs)
    logits_NCHW, labels_NHW, valid_NHW = counted(logits_NCHW, labels_NHW, ignore_index)
    num_classes = logits_NCHW.shape[1]
    with torch.autocast(logits_NCHW.device.type, enabled=False):
        if stride > 1:
            small = tuple(max(1, side // stride) for side in labels_NHW.shape[1:])
            # Through float32, which interpolation takes and which holds every label exactly.
            labels_NHW = F.interpolate(labels_NHW.unsqueeze(1).float(), small, mode="nearest").squeeze(1).long()
            counted_NHW, valid_NHW = valid_NHW, valid_pixels(labels_NHW, num_classes, ignore_index)
            if pairs == "published":
                logits_NCHW = F.interpolate(logits_NCHW, small, mode="bilinear", align_corners=True)
            else:
                logits_NCHW, weight_NHW = _shrunken_logits(logits_NCHW, counted_NHW, small)
                valid_NHW = valid_NHW & (weight_NHW > _LEAST_WEIGHT)
        maps = _maps(logits_NCHW.softmax(1), valid_NHW, pairs)
        truth_NCHW = one_hot(labels_NHW, valid_NHW, num_classes, torch.bool)
        centres_NHW = neighbours_NHW = valid_NHW
        if pairs == "published":
            truth_NCHW = F.pad(truth_NCHW, (1, 1, 1, 1))
            centres_NHW = F.pad(torch.ones_like(valid_NHW), (1, 1, 1, 1))
            neighbours_NHW = torch.ones_like(centres_NHW)
        zero = maps[0].sum() * 0
        edge_sum, region_sum = zero, zero
        edges, regions = zero.detach(), zero.detach()
        for ends in map(_pair, HALF_NEIGHBOURHOOD):
            p, q, log_p, log_q = ((values[ends[0]], values[ends[1]]) for values in maps)
            differ_NCHW = truth_NCHW[ends[0]] != truth_NCHW[ends[1]]
            for own, other in ((0, 1), (1, 0)):
                counts_N1HW = (centres_NHW[ends[own]] & neighbours_NHW[ends[other]]).unsqueeze(1)
                edge_NCHW, region_NCHW = differ_NCHW & counts_N1HW, ~differ_NCHW & counts_N1HW
                kl_NCHW = p[other] * (log_p[other] - log_p[own]) + q[other] * (log_q[other] - log_q[own])
                edge_sum = edge_sum + ((margin - kl_NCHW).clamp_min(0) * edge_NCHW).sum()
                region_sum = region_sum + (kl_NCHW * region_NCHW).sum()
                edges, regions = edges + edge_NCHW.sum(), regions + region_NCHW.sum()
        return AffinityFieldParts(edge_sum, edges, region_sum, regions)


def _maps(probabilities_NCHW: Tensor, valid_NHW: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Probabilities p, their complements q and the logarithms of both; with a frame of a pixel for "published"."""
    if pairs == "published":
        probabilities_NCHW = F.pad(probabilities_NCHW * valid_NHW.unsqueeze(1), (1, 1, 1, 1))
        p_NCHW = probabilities_NCHW.clamp(PROBABILITY_FLOOR, 1)
        q_NCHW = 1 - p_NCHW + PROBABILITY_FLOOR
    else:
        p_NCHW = probabilities_NCHW.clamp(PROBABILITY_FLOOR, 1)
        q_NCHW = (1 - probabilities_NCHW).clamp(PROBABILITY_FLOOR, 1)
    return p_NCHW, q_NCHW, p_NCHW.log(), q_NCHW.log()


def _shrunken_logits(logits_NCHW: Tensor, valid_NHW: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Means of the counted logits around each place, corners aligned, and their share of the weight [N, h, w]."""
    logits_NCHW = filled(logits_NCHW, valid_NHW)
    valid_N1HW = valid_NHW.unsqueeze(1).to(logits_NCHW.dtype)
    logits, weight_N1HW = (
        F.interpolate(maps, size, mode="bilinear", align_corners=True) for maps in (logits_NCHW, valid_N1HW)
    )
    return logits / weight_N1HW.clamp_min(_LEAST_WEIGHT), weight_N1HW.squeeze(1)


class AffinityFieldLoss(nn.Module):
    """Mean over (pair, class) entries of KL inside segments plus max(0, margin − KL) across their edges, in nats.

    For a pixel i, each of its eight neighbours j and each class c, with softmax probabilities p = p_i(c), p' = p_j(c),
    all clipped to 1e-4..1, as their complements are:

        KL = p' · log(p' / p) + (1 − p') · log((1 − p') / (1 − p)).

    An entry is an edge where exactly one of i and j has class c, and region otherwise. Entries of a pair that leaves
    the image or meets a pixel that does not count are left out; the two means are added. It is trained beside softmax
    cross-entropy, which it does not contain, and its weight falls during training: `decay`.

    Labels outside 0..num_classes-1 count as ignored. Without a valid pair the loss is 0 with zero gradient. Sums are
    taken in float32, or float64 for float64 logits, under autocast too.

    Args:
        num_classes: K, at least 1; the logits' channels.
        margin: above 0, in nats; at an edge the two distributions are pushed apart up to here.
        stride: labels (nearest) and logits (bilinear over the pixels that count, corners aligned) are shrunk by it
            before pairs are taken. 8 is how the RMI paper ran it, 1 the original.
        ignore_index: label value of pixels that do not count.
        pairs: "counted" are pairs of two pixels that count, as both papers write it. "published" is what the code of
            the RMI paper computes: a pixel that does not count, and one beyond the image's border, is a neighbour
            without a class, with all probabilities at 1e-4; complements are 1 − p + 1e-4; and the logits of ignored
            pixels are shrunk with the others, so that finite ones have a say.

    Raises:
        ValueError: a setting out of range, or logits or labels of another shape or type.
    """

    def __init__(
        self,
        num_classes: int,
        margin: float = 3.0,
        stride: int = 8,
        ignore_index: int = IGNORE_INDEX,
        *,
        pairs: Pairs = "counted",
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes = {num_classes}: use 1 or more")
        check_settings(margin, stride, pairs)
        self.num_classes, self.margin, self.stride, self.ignore_index = num_classes, margin, stride, ignore_index
        self.pairs: Pairs = pairs

    def forward(self, logits_NCHW: Tensor, labels_NHW: Tensor) -> Tensor:
        """The scalar loss of floating logits [N, K, H, W] (before the softmax) and integer labels [N, H, W]."""
        if logits_NCHW.ndim == 4 and logits_NCHW.shape[1] != self.num_classes:
            raise ValueError(
                f"logits of shape {tuple(logits_NCHW.shape)} have {logits_NCHW.shape[1]} channels for "
                f"{self.num_classes} classes: expected one channel a class"
            )
        parts = affinity_field_parts(
            logits_NCHW,
            labels_NHW,
            margin=self.margin,
            stride=self.stride,
            pairs=self.pairs,
            ignore_index=self.ignore_index,
        )
        return parts.edge_sum / parts.edges.clamp_min(1) + parts.region_sum / parts.regions.clamp_min(1)


def decay(progress: float) -> float:
    """20^(−progress): the loss's weight falls from 1 to 1/20 over training, as in the authors' code.

    Args:
        progress: share of the training steps already done, 0..1.
    """
    return float(20.0**-progress)


def check_settings(margin: float, stride: int, pairs: str) -> None:
    """Raise ValueError, with the range, for a setting out of range."""
    if not margin > 0:
        raise ValueError(f"margin = {margin}: use a value above 0 (nats); both papers use 3")
    if stride < 1:
        raise ValueError(f"stride = {stride}: use 1 (full resolution, the original) or more; the RMI paper uses 8")
    if pairs not in get_args(Pairs):
        raise ValueError(f"pairs = {pairs!r}: use one of {', '.join(get_args(Pairs))}")


def _pair(offset: tuple[int, int]) -> tuple[tuple, tuple]:
    """Slices of the last two axes: every pixel that has a neighbour at `offset`, and these neighbours."""
    here, there = zip(*(_axis(shift) for shift in offset), strict=True)
    return (..., *here), (..., *there)


def _axis(shift: int) -> tuple[slice, slice]:
    if shift == 0:
        return slice(None), slice(None)
    first, last = slice(None, -abs(shift)), slice(abs(shift), None)
    return (first, last) if shift > 0 else (last, first)
