"""Simulated studies whose true differences are known: methods on the same few images, with several seeds each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miseg.evaluation.paired import ImageCounts, compare

SHIFTS = (0.0, 0.1, -0.1, 0.2)
"""Of four methods beside the baseline, on the scale of logits: IoU differs by up to five points."""


@dataclass(frozen=True)
class Design:
    """A kind of study.

    Attributes:
        images: of its test split.
        seeds: of each method.
        classes: number of classes.
        even: concentration of the Dirichlet distribution of an image's classes; below 1 most images lack most classes.
        sizes: deviation of the logarithm of an image's pixels.
        of_seed: deviation of a training's logits; those of an image and of a method on an image are 0.7 and 0.5.
    """

    images: int
    seeds: int
    classes: int
    even: float
    sizes: float
    of_seed: float = 0.1


def study(rng: np.random.Generator, design: Design, images: int, seeds: int) -> list[dict[int, ImageCounts]]:
    """Counts by seed of the baseline and of the four methods, all on the same images."""
    shares_NK = rng.dirichlet(np.full(design.classes, design.even), images)
    unions_NK = np.round(1e6 * shares_NK * rng.lognormal(0, design.sizes, (images, 1))).astype(np.int64)
    image_NK = 0.5 + rng.normal(0, 0.7, unions_NK.shape)
    ids = tuple(map(str, range(images)))
    methods = []
    for shift in (0.0, *SHIFTS):
        own_NK = image_NK + shift + rng.normal(0, 0.5, unions_NK.shape)
        runs = {}
        for seed in range(seeds):
            logits_NK = own_NK + rng.normal(0, design.of_seed, design.classes) + rng.normal(0, 0.2, unions_NK.shape)
            hits_NK = np.round(unions_NK / (1 + np.exp(-logits_NK))).astype(np.int64)
            runs[seed] = ImageCounts(ids, hits_NK, unions_NK)
        methods.append(runs)
    return methods


def true_differences(design: Design) -> np.ndarray:
    """Differences of mean IoU over 80,000 images and 160 seeds: known to a tenth of a point or so."""
    rng = np.random.default_rng(99)
    means = []
    for _ in range(20):
        methods = study(rng, design, images=4000, seeds=8)
        means.append([np.mean([run.mean_iou() for run in runs.values()]) for runs in methods])
    baseline, *others = np.mean(means, axis=0)
    return np.array(others) - baseline


def joint_coverage(design: Design, studies: int, seed: int = 0) -> float:
    """Share of studies in which all four intervals hold the true difference."""
    truths = true_differences(design)
    rng = np.random.default_rng(seed)
    covered = 0
    for _ in range(studies):
        baseline, *methods = study(rng, design, design.images, design.seeds)
        holds = []
        for method, truth in zip(methods, truths, strict=True):
            difference = compare(method, baseline)
            assert difference is not None
            holds.append(abs(difference.estimate - truth) <= difference.half_width(len(methods)))
        covered += all(holds)
    return covered / studies
