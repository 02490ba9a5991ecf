"""The losses of logits and labels, each beside a slow reference written from its paper's equation, pixel by pixel."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from miseg.losses import (
    boundary_parts,
    cl_dice_parts,
    complex_wavelet_mutual_information_parts,
    focal_parts,
    jaccard_parts,
    lovasz_softmax_parts,
    tversky_parts,
)

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


def slow_cl_dice(logits: Tensor, labels: Tensor, alpha: float, iterations: int) -> tuple[Tensor, int]:
    """(1 − α) (1 − Dice) + α (1 − clDice) of an image and a class, skeletons made pixel by pixel."""
    total, count = logits.sum() * 0, 0
    for n in range(len(logits)):
        places = [(r, c) for r, c in itertools.product(*map(range, labels.shape[1:])) if 0 <= labels[n, r, c] < 255]
        places = [place for place in places if labels[n][place] < logits.shape[1]]
        for k in sorted({int(labels[n][place]) for place in places}):
            p = {place: logits[n, :, place[0], place[1]].softmax(0)[k] for place in places}
            g = {place: torch.tensor(float(labels[n][place] == k), dtype=torch.float64) for place in places}
            skeleton_p, skeleton_g = (_slow_skeleton(values, iterations) for values in (p, g))
            precision = (sum(skeleton_p[i] * g[i] for i in places) + 1) / (sum(skeleton_p.values()) + 1)
            sensitivity = (sum(skeleton_g[i] * p[i] for i in places) + 1) / (sum(skeleton_g.values()) + 1)
            dice = (2 * sum(p[i] * g[i] for i in places) + 1) / (sum(p.values()) + sum(g.values()) + 1)
            centre_line = 2 * precision * sensitivity / (precision + sensitivity)
            total = total + (1 - alpha) * (1 - dice) + alpha * (1 - centre_line)
            count += 1
    return total, count


def _slow_skeleton(values: dict[tuple[int, int], Tensor], iterations: int) -> dict[tuple[int, int], Tensor]:
    """Algorithm 1 of clDice on the pixels that there are: of no other does it know."""

    def extreme(of: Callable[..., Tensor], maps: dict[tuple[int, int], Tensor], reach: int) -> dict:
        """`of` over pixels no further away than `reach`: 1 is a plus, 2 a square."""
        steps = [(i, j) for i, j in itertools.product((-1, 0, 1), repeat=2) if abs(i) + abs(j) <= reach]
        return {
            (r, c): of(torch.stack([maps[r + i, c + j] for i, j in steps if (r + i, c + j) in maps])) for r, c in maps
        }

    def opened(maps: dict[tuple[int, int], Tensor]) -> dict[tuple[int, int], Tensor]:
        return extreme(torch.amax, extreme(torch.amin, maps, 1), 2)

    wide = opened(values)
    skeleton = {i: torch.relu(values[i] - wide[i]) for i in values}
    for _ in range(iterations):
        values = extreme(torch.amin, values, 1)
        wide = opened(values)
        skeleton = {i: s + (1 - s) * torch.relu(values[i] - wide[i]) for i, s in skeleton.items()}
    return skeleton


def slow_boundary(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Σ φ p, with distances from each pixel to every other."""
    total, count = logits.sum() * 0, 0
    for n in range(len(logits)):
        own = {
            (r, c): int(labels[n, r, c])
            for r, c in itertools.product(*map(range, labels.shape[1:]))
            if 0 <= labels[n, r, c] < logits.shape[1]
        }
        count += len(own)
        for k in {label for label in own.values() if len(set(own.values())) > 1}:
            for place, label in own.items():
                nearest = min(math.dist(place, other) for other in own if (own[other] == k) != (label == k))
                distance = 1 - nearest if label == k else nearest
                total = total + distance * logits[n, :, place[0], place[1]].softmax(0)[k]
    return total, count


def slow_cwmi(
    logits: Tensor, labels: Tensor, levels: int = 4, orientations: int = 4, ridge: float = 1e-6
) -> tuple[Tensor, int]:
    """½ Σ log det of the real 2A x 2A matrices: each band is made by a transform of its own, in float64."""
    total, count = logits.sum() * 0, 0
    for n, k in itertools.product(*map(range, logits.shape[:2])):
        counted = (labels[n] >= 0) & (labels[n] < logits.shape[1])
        truth = (labels[n] == k).double()
        if len(truth.unique()) == 1:
            continue
        probabilities = logits[n].where(counted, 0).softmax(0)[k].double() * counted
        for level in range(1, levels + 1):
            y, p = (_band_rows(values, level, orientations) for values in (truth, probabilities))
            y, p = (rows - rows.mean(1, keepdim=True) for rows in (y, p))
            eye = torch.eye(2 * orientations, dtype=torch.float64)
            inverse = torch.linalg.inv(p @ p.T + 5e-4 * eye)
            posterior = y @ y.T - y @ p.T @ inverse @ p @ y.T
            energy = (y @ y.T).diagonal().mean().clamp_min(5e-4)
            total = total + torch.logdet(posterior + ridge * energy * eye) / 2
        count += 1
    return total, count


def _band_rows(values: Tensor, level: int, orientations: int) -> Tensor:
    """[2A, 2 pixels]: a level's complex bands at the map's size, scaled to the sums of squares of the smaller bands."""
    bands = []
    for band in _filters(values.shape[0], values.shape[1], level, orientations):
        bands.append(2 ** (level - 1) * torch.fft.ifft2(torch.fft.fft2(values) * band).flatten())
    z = torch.stack(bands)
    return torch.cat((torch.cat((z.real, z.imag)), torch.cat((-z.imag, z.real))), 1)


@functools.cache
def _filters(height: int, width: int, level: int, orientations: int) -> Tensor:
    """float64 [A, height, width], frequency by frequency, as the paper's recursion multiplies low and high passes."""
    a, filters = orientations, torch.zeros(orientations, height, width, dtype=torch.float64)
    alpha = 2 ** (a - 1) * math.factorial(a - 1) / math.sqrt(a * math.factorial(2 * (a - 1)))

    def falling(r: float, start: float) -> float:
        return 1.0 if r <= start else 0.0 if r >= 2 * start else math.cos(math.pi / 2 * math.log2(r / start))

    def rising(r: float, end: float) -> float:
        return 1.0 if r >= end else 0.0 if r <= end / 2 else math.cos(math.pi / 2 * math.log2(r / end))

    for i, j in itertools.product(range(height), range(width)):
        x, y = (math.tau * ((f + n // 2) % n - n // 2) / n for f, n in ((i, height), (j, width)))
        r, theta = math.hypot(x, y), math.atan2(y, x)
        radial = falling(r, math.pi / 2)
        for passed in range(1, level):
            radial *= falling(r, math.pi / 2 / 2**passed)
        radial *= rising(r, math.pi / 2 / 2 ** (level - 1))
        for k in range(a):
            filters[k, i, j] = 2 * alpha * radial * max(0.0, math.cos(theta - math.pi * k / a)) ** (a - 1)
    return filters


def _tversky(**settings: float) -> LabelLoss:
    return LabelLoss(partial(tversky_parts, **settings), partial(over_shown, loss=partial(slow_tversky, **settings)))


LABEL_LOSSES = {
    "jaccard": LabelLoss(jaccard_parts, partial(over_shown, loss=slow_jaccard)),
    "lovasz": LabelLoss(lovasz_softmax_parts, partial(over_shown, loss=slow_lovasz)),
    "tversky": _tversky(alpha=0.3, beta=0.7, gamma=1.0),
    "focal-tversky": _tversky(alpha=0.4, beta=0.9, gamma=4 / 3),
    "focal": LabelLoss(focal_parts, partial(slow_focal, gamma=2.0)),
    "cldice": LabelLoss(
        partial(cl_dice_parts, alpha=0.6, iterations=2), partial(slow_cl_dice, alpha=0.6, iterations=2), rolls=False
    ),
    "boundary": LabelLoss(boundary_parts, slow_boundary, rolls=False),
    "cwmi": LabelLoss(
        partial(complex_wavelet_mutual_information_parts, levels=2, orientations=3),
        partial(slow_cwmi, levels=2, orientations=3),
    ),
    "focal-0.5": LabelLoss(partial(focal_parts, gamma=0.5), partial(slow_focal, gamma=0.5)),
}
"""Each by a name for tests."""
