"""Clusters counted against classes, and the match that makes classes of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from miseg.evaluation.confusion import ConfusionMatrix, integers
from miseg.extras import require
from miseg.interface import IGNORE_INDEX


class ClusterCounts:
    """Pixels counted by cluster and true class, over as many images as are handed in.

    Args:
        num_clusters: K, at least 1.
        num_classes: C, at least 1.
        ignore_index: truth value of pixels that do not count.

    Attributes:
        counts: int64 [K, C] on the CPU. Ranks sum them in place, as those of a `ConfusionMatrix`.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, num_clusters: int, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        if num_clusters < 1 or num_classes < 1:
            raise ValueError(f"{num_clusters} clusters and {num_classes} classes: use 1 or more of each")
        self.num_clusters, self.num_classes, self.ignore_index = num_clusters, num_classes, ignore_index
        self.counts = torch.zeros(num_clusters, num_classes, dtype=torch.int64)

    def update(self, clusters: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> None:
        """Count the pixels of integer labels of equal shape, on any device.

        Raises:
            TypeError: labels that are no integers.
            ValueError: unequal shapes, or a value out of range other than an ignored truth. Nothing is counted then.
        """
        predicted, true = integers(clusters, "clusters"), integers(truth, "truth")
        if predicted.shape != true.shape:
            raise ValueError(f"clusters of shape {tuple(predicted.shape)} for a truth of shape {tuple(true.shape)}")
        true = true.to(predicted.device)
        counted = true != self.ignore_index
        predicted, true = predicted[counted], true[counted]
        for name, values, number in (("clusters", predicted, self.num_clusters), ("truth", true, self.num_classes)):
            if values.numel() and not (values.min() >= 0 and values.max() < number):
                raise ValueError(
                    f"{name} hold {values.min().item()}..{values.max().item()}: expected 0..{number - 1}"
                    + (f" or {self.ignore_index} (ignored)" if name == "truth" else "")
                )
        cells = torch.bincount(predicted * self.num_classes + true, minlength=self.counts.numel())
        self.counts += cells.view_as(self.counts).to(self.counts.device)

    def matched(self, match_K: Tensor) -> ConfusionMatrix:
        """The confusion matrix of predicting class `match_K[k]` wherever cluster k was found."""
        matrix = ConfusionMatrix(self.num_classes, self.ignore_index)
        matrix.counts.index_add_(1, match_K.cpu(), self.counts.T)
        return matrix

    def entropy(self) -> float:
        """Entropy of the clusters' use in nats, 0..log K; nan while nothing has been counted."""
        shares_K = self.counts.sum(1).double() / self.counts.sum()
        return torch.special.entr(shares_K).sum().item()

    def unused(self) -> tuple[int, ...]:
        """The clusters that no counted pixel is in."""
        return tuple((self.counts.sum(1) == 0).nonzero().flatten().tolist())

    def collapsed(self) -> str | None:
        """Description of a collapse of the clusters; None where there is none.

        exp(entropy) is the number of clusters that are effectively used. A solution has collapsed where, beyond the
        first, less than a tenth of the others are.
        """
        effective = math.exp(self.entropy())
        if self.num_clusters == 1 or not effective < 1 + 0.1 * (self.num_clusters - 1):
            return None
        return (
            f"{effective:.2f} of {self.num_clusters} clusters are effectively used (entropy {self.entropy():.2f} of "
            f"{math.log(self.num_clusters):.2f} nats), {len(self.unused())} never"
        )


def of_classes(probabilities_NKHW: Tensor, match_K: Tensor, num_classes: int) -> Tensor:
    """Probabilities [N, C, H, W] of the classes that the clusters stand for; a class without a cluster has 0.

    A class has the highest of its clusters' probabilities, before all are divided by their sum: the likeliest class is
    that of the likeliest cluster.
    """
    shape = (probabilities_NKHW.shape[0], num_classes, *probabilities_NKHW.shape[2:])
    index = match_K.to(probabilities_NKHW.device).view(1, -1, 1, 1).expand_as(probabilities_NKHW)
    highest = probabilities_NKHW.new_zeros(shape).scatter_reduce_(1, index, probabilities_NKHW, "amax")
    return highest / highest.sum(1, keepdim=True)


def match_clusters(counts_KC: Tensor | np.ndarray, *, many_to_one: bool | None = None) -> Tensor:
    """The class that each cluster stands for, chosen once for a whole data set.

    Up to as many clusters as classes are matched one to one such that most pixels agree (Hungarian algorithm; Kuhn
    1955), as IIC and InfoSeg are evaluated. More clusters are matched many to one: each stands for the class that most
    of its pixels have, which can only flatter the score and is no result beside one-to-one matches.

    Args:
        counts_KC: pixels by cluster and true class, non-negative, such as `ClusterCounts.counts`.
        many_to_one: whether classes may have several clusters; None: where there are more clusters than classes.

    Returns:
        int64 [K], the class of each cluster. Many to one, it is the lower of equally good classes; one to one, equally
        good matches may be any, the same one for the same counts.

    Raises:
        ValueError: no table, or a negative or non-finite count; or one to one with more clusters than classes.
    """
    counts = torch.as_tensor(counts_KC).detach().cpu()
    if counts.ndim != 2 or 0 in counts.shape:
        raise ValueError(f"counts of shape {tuple(counts.shape)}: expected clusters by classes, [K, C]")
    if not (counts >= 0).all() or not counts.double().isfinite().all():
        raise ValueError("counts hold a negative or non-finite number: count pixels")
    clusters, classes = counts.shape
    if many_to_one is None:
        many_to_one = clusters > classes
    if many_to_one:
        # argmax of equal values is any of them, in torch.
        return torch.from_numpy(counts.numpy().argmax(1))
    if clusters > classes:
        raise ValueError(f"{clusters} clusters do not match {classes} classes one to one: allow many to one")
    # Here alone: who opens a trained model needs no SciPy.
    require("networks", "the match of clusters with classes", "scipy")
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    match = torch.empty(clusters, dtype=torch.int64)
    match[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return match
