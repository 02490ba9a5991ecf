"""The losses of logits and labels, each beside a slow reference written from its paper's equation, pixel by pixel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from miseg.losses import focal_parts, jaccard_parts, lovasz_softmax_parts, tversky_parts

Parts = Callable[..., tuple[Tensor, Tensor]]


class LabelLoss(NamedTuple):
    """A loss and its reference, (logits, labels) -> sum and count; no label of the reference's is ignored but 255."""

    parts: Parts
    slow: Callable[[Tensor, Tensor], tuple[Tensor, int]]
    rolls: bool = True
    """Whether pixels may be moved around the image's borders without a change."""


def pixels(logits: Tensor, labels: Tensor, n: int) -> Iterator[tuple[Tensor, int]]:
    """The softmax probabilities [K] and the label of every pixel of image n that counts."""
    classes = logits.shape[1]
    for row, column in itertools.product(range(logits.shape[2]), range(logits.shape[3])):
        label = int(labels[n, row, column])
        if 0 <= label < classes and label != 255:
            e = torch.exp(logits[n, :, row, column])
            yield e / e.sum(), label


def over_shown(
    logits: Tensor, labels: Tensor, loss: Callable[[list[Tensor], list[bool]], Tensor]
) -> tuple[Tensor, int]:
    """Σ loss(probabilities of a class, whether it is the label) over images and the classes that each shows."""
    total, count = logits.sum() * 0, 0
    for n in range(len(logits)):
        probabilities, own = [list(values) for values in zip(*pixels(logits, labels, n), strict=True)] or ([], [])
        for k in sorted(set(own)):
            total = total + loss([p[k] for p in probabilities], [label == k for label in own])
            count += 1
    return total, count


def slow_jaccard(p: list[Tensor], g: list[bool]) -> Tensor:
    """1 − Σ p g / Σ (p + g − p g)."""
    return 1 - sum(x * y for x, y in zip(p, g, strict=True)) / sum(x + y - x * y for x, y in zip(p, g, strict=True))


def slow_tversky(p: list[Tensor], g: list[bool], alpha: float, beta: float, gamma: float) -> Tensor:
    """(1 − TP / (TP + α FP + β FN))^(1/γ)."""
    hits = sum(x * y for x, y in zip(p, g, strict=True))
    false_positives = sum(x * (1 - y) for x, y in zip(p, g, strict=True))
    false_negatives = sum((1 - x) * y for x, y in zip(p, g, strict=True))
    return (1 - hits / (hits + alpha * false_positives + beta * false_negatives)) ** (1 / gamma)


def slow_lovasz(p: list[Tensor], g: list[bool]) -> Tensor:
    """Σ mᵢ (Δ(first i) − Δ(first i − 1)), with Δ counted from sets of pixels."""
    errors = [1 - x if y else x for x, y in zip(p, g, strict=True)]
    order = sorted(range(len(p)), key=lambda i: -errors[i].item())

    def delta(wrong: set[int]) -> float:
        truth = {i for i, y in enumerate(g) if y}
        predicted = truth ^ wrong
        return 1 - len(truth & predicted) / len(truth | predicted)

    return sum(errors[i] * (delta(set(order[: rank + 1])) - delta(set(order[:rank]))) for rank, i in enumerate(order))  # type: ignore[return-value]


def slow_focal(logits: Tensor, labels: Tensor, gamma: float) -> tuple[Tensor, int]:
    """Σ −(1 − p)^γ log p over all pixels that count."""
    every = [p[label] for n in range(len(logits)) for p, label in pixels(logits, labels, n)]
    return sum((-((1 - p) ** gamma) * torch.log(p) for p in every), logits.sum() * 0), len(every)


def _tversky(**settings: float) -> LabelLoss:
    return LabelLoss(partial(tversky_parts, **settings), partial(over_shown, loss=partial(slow_tversky, **settings)))


LABEL_LOSSES = {
    "jaccard": LabelLoss(jaccard_parts, partial(over_shown, loss=slow_jaccard)),
    "lovasz": LabelLoss(lovasz_softmax_parts, partial(over_shown, loss=slow_lovasz)),
    "tversky": _tversky(alpha=0.3, beta=0.7, gamma=1.0),
    "focal-tversky": _tversky(alpha=0.4, beta=0.9, gamma=4 / 3),
    "focal": LabelLoss(focal_parts, partial(slow_focal, gamma=2.0)),
    "focal-0.5": LabelLoss(partial(focal_parts, gamma=0.5), partial(slow_focal, gamma=0.5)),
}
"""Each by a name for tests."""
