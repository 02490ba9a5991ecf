"""Sums of which the losses of overlaps are made: one of each image and class, so that ranks can add up."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from miseg.losses.labels import shares_and_truth


class OverlapSums(NamedTuple):
    """Sums over the valid pixels of each image, of the softmax probability p and the one-hot label g of a class.

    Attributes:
        overlap_NK: Σ p · g, in pixels.
        predicted_NK: Σ p.
        labelled_NK: Σ g; no gradient.
    """

    overlap_NK: Tensor
    predicted_NK: Tensor
    labelled_NK: Tensor


def overlap_sums(logits_NKHW: Tensor, labels_NHW: Tensor, ignore_index: int) -> OverlapSums:
    """The three sums in float32, or in float64 for float64 logits; errors are those of `check_logits_and_labels`."""
    probabilities_NKHW, truth_NKHW, _ = shares_and_truth(logits_NKHW, labels_NHW, ignore_index)
    overlap_NK = (probabilities_NKHW * truth_NKHW).sum((2, 3))
    return OverlapSums(overlap_NK, probabilities_NKHW.sum((2, 3)), truth_NKHW.sum((2, 3)).to(overlap_NK.dtype))


def over_shown(loss_NK: Tensor, labelled_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the losses of the classes that each image shows, and their number.

    A class of which an image has no labelled pixel overlaps with nothing whatever is predicted, and is left out.
    """
    shown_NK = labelled_NK > 0
    return (loss_NK * shown_NK).sum(), shown_NK.sum(dtype=loss_NK.dtype)
