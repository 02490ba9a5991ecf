"""Differences of mean IoU between methods that were run on the same seeds and measured on the same images.

Both seeds and images are samples: another training and another test set would give another difference. Every seed is
measured on the same images, so the two are crossed: seeds vary with the images as they are, and images with the seeds
as they are. The two variances are added, which errs upwards where a method does well on other images with another seed
(Owen: The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007).

The variance through images is the jackknife's: mean IoU is a ratio of sums over images, and of few images a bootstrap
leaves out those that alone show a class, which makes it too small (Efron and Stein: The jackknife estimate of variance,
Annals of Statistics 9, 1981: it errs upwards). Its degrees of freedom are Satterthwaite's (Biometrics Bulletin 2,
1946), 2N / (kurtosis − 1) of the jackknife's pseudo-values and N − 1 at most: fewer where one image prevails.

Each part is multiplied by Student's t of its own degrees of freedom, and half the interval is the root of t² · variance
over both parts: it holds at least as often as it says (Banerjee: Approximate confidence interval for linear functions
of means of k populations when the population variances are not equal, Sankhyā 22, 1960), which one t by
Satterthwaite's formula does not with three seeds (92 % instead of 95 where seeds prevail, in the simulation of the
tests). The intervals of a table hold together by Šidák's inequality (JASA 62, 1967), whatever the correlation of
comparisons that share a baseline. From three seeds it could not be estimated; if it were known to be one half, four
intervals would be narrower by two per cent.

One seed says nothing of how trainings differ, so there is no interval then: one over images alone told 97 of 100 pairs
of equal methods apart in a simulation where seeds prevail (five points between seeds, half a point between images).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

LEVEL = 0.95
"""Probability with which all intervals of a table hold."""

MOST_SEEDS = 200
"""More are not proposed."""


@dataclass(frozen=True)
class ImageCounts:
    """Hits and unions of each class in each image: enough for the IoU of any of the images together.

    Attributes:
        ids: the N images.
        hits_NK: pixels of each class that are predicted right.
        unions_NK: pixels that are of the class or predicted as it.
    """

    ids: tuple[str, ...]
    hits_NK: np.ndarray
    unions_NK: np.ndarray

    @classmethod
    def of(cls, ids: Sequence[str], confusion_NKK: np.ndarray) -> ImageCounts:
        """From confusion matrices, integer [N, K, K] with truth in rows, or flattened to [N, K * K].

        Raises:
            ValueError: matrices that are not square or negative, another number of ids, or an id twice.
        """
        counts = np.asarray(confusion_NKK)
        if counts.ndim == 2 and counts.shape[1] and math.isqrt(counts.shape[1]) ** 2 == counts.shape[1]:
            counts = counts.reshape(len(counts), math.isqrt(counts.shape[1]), -1)
        if counts.ndim != 3 or counts.shape[1] != counts.shape[2]:
            raise ValueError(f"confusion matrices of shape {counts.shape}: expected [N, K, K] or [N, K * K]")
        if (counts < 0).any():
            raise ValueError("confusion matrices hold counts below 0: expected numbers of pixels")
        if len(ids) != len(counts) or len(set(ids)) < len(ids):
            raise ValueError(f"{len(ids)} ids ({len(set(ids))} of them different) for {len(counts)} images")
        hits_NK = np.diagonal(counts, axis1=1, axis2=2)
        return cls(tuple(ids), hits_NK, counts.sum(1) + counts.sum(2) - hits_NK)

    def of_images(self, ids: Sequence[str]) -> ImageCounts:
        """The counts of the images named, in that order."""
        index_of = {name: index for index, name in enumerate(self.ids)}
        chosen = [index_of[name] for name in ids]
        return ImageCounts(tuple(ids), self.hits_NK[chosen], self.unions_NK[chosen])

    def mean_iou(self, weights_BN: np.ndarray | None = None) -> np.ndarray:
        """Mean IoU in 0..1 of all images together, or [B] of each weighting; classes that do not occur are left out."""
        weights = np.ones((1, len(self.ids))) if weights_BN is None else np.asarray(weights_BN, np.float64)
        means = _mean_iou(weights @ self.hits_NK, weights @ self.unions_NK)
        return means if weights_BN is not None else means[0]

    def without_each(self) -> np.ndarray:
        """Mean IoU in 0..1 of all images but one, [N], by the one that is left out; nan where none is left."""
        return _mean_iou(self.hits_NK.sum(0) - self.hits_NK, self.unions_NK.sum(0) - self.unions_NK)

    def image_iou(self) -> np.ndarray:
        """Mean IoU of each image by itself, [N]; nan where none of its pixels counts."""
        return _mean_iou(self.hits_NK, self.unions_NK)


def _mean_iou(hits_BK: np.ndarray, unions_BK: np.ndarray) -> np.ndarray:
    """Mean IoU [B] from sums over images; classes that do not occur are left out, and nan is where none does."""
    occur = unions_BK > 0
    ious = np.divide(hits_BK, unions_BK, out=np.zeros(hits_BK.shape), where=occur)
    classes = occur.sum(1)
    return np.divide(ious.sum(1), classes, out=np.full(len(ious), np.nan), where=classes > 0)


@dataclass(frozen=True)
class PairedDifference:
    """A method's mean IoU less the baseline's, in 0..1, and how well it is known.

    Attributes:
        estimate: the mean over seeds.
        of_seeds: the estimate's variance through the choice of seeds; nan with one seed, which cannot tell.
        of_images: the same through the choice of images; nan where fewer than two were counted one by one.
        seeds: seeds that both were run on.
        images: images that both were measured on; 0 where there is no count for each.
        freedom: degrees of freedom of `of_images`; nan for one less than there are images.
    """

    estimate: float
    of_seeds: float
    of_images: float
    seeds: int
    images: int
    freedom: float = math.nan

    @property
    def error(self) -> float:
        """The standard error through both, or of seeds alone where images are not counted; nan of one seed."""
        return math.sqrt(self.of_seeds + (0.0 if math.isnan(self.of_images) else self.of_images))

    def half_width(self, comparisons: int, level: float = LEVEL) -> float:
        """Half the interval's width where so many intervals are to hold together; nan of one seed."""
        squared = quantile(comparisons, self.seeds - 1, level) ** 2 * self.of_seeds if self.seeds > 1 else math.nan
        if self.images > 1:
            freedom = self.images - 1 if math.isnan(self.freedom) else self.freedom
            squared += quantile(comparisons, freedom, level) ** 2 * self.of_images
        return math.sqrt(squared)

    def told_apart(self, comparisons: int, level: float = LEVEL) -> bool:
        """Whether the interval leaves 0 out; one without a width is of seeds that change nothing, and tells nothing."""
        half = self.half_width(comparisons, level)
        return abs(self.estimate) > half > 0

    def seeds_needed(self, comparisons: int, level: float = LEVEL) -> int | None:
        """Seeds with which a difference as large as this, spread as these, would be told apart; None: not with 200.

        More seeds do not help where the images' share alone is too large.
        """
        if self.seeds < 2 or self.estimate == 0:
            return None
        for seeds in range(self.seeds, MOST_SEEDS + 1):
            if replace(self, of_seeds=self.of_seeds * self.seeds / seeds, seeds=seeds).told_apart(comparisons, level):
                return seeds
        return None


def quantile(comparisons: int, freedom: float, level: float = LEVEL) -> float:
    """Student's t so that `comparisons` intervals hold together with probability `level`."""
    each = level ** (1 / max(1, comparisons))
    return float(stats.t.ppf((1 + each) / 2, freedom))


def compare(method: Mapping[int, ImageCounts], baseline: Mapping[int, ImageCounts]) -> PairedDifference | None:
    """The difference over the seeds and images that both have; None where they have none in common.

    Args:
        method: counts by seed.
        baseline: the same of the baseline.
    """
    seeds = sorted(method.keys() & baseline.keys())
    ids = _common([runs[number] for runs in (method, baseline) for number in seeds])
    if not seeds or not ids:
        return None
    pairs = [(method[number].of_images(ids), baseline[number].of_images(ids)) for number in seeds]
    differences_S = np.array([own.mean_iou() - other.mean_iou() for own, other in pairs])
    of_images, freedom = _of_images(pairs, float(differences_S.mean()))
    return PairedDifference(
        float(differences_S.mean()), _of_seeds(differences_S), of_images, len(seeds), len(ids), freedom
    )


def compare_scores(method: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
    """The same from a score a seed, in 0..1, where images are not counted: what is known is over seeds alone."""
    seeds = sorted(method.keys() & baseline.keys())
    if not seeds:
        return None
    differences_S = np.array([method[number] - baseline[number] for number in seeds])
    return PairedDifference(float(differences_S.mean()), _of_seeds(differences_S), math.nan, len(seeds), 0)


def _of_seeds(differences_S: np.ndarray) -> float:
    """The variance of the mean; nan where there is one seed."""
    return float(differences_S.var(ddof=1)) / len(differences_S) if len(differences_S) > 1 else math.nan


def _of_images(pairs: Sequence[tuple[ImageCounts, ImageCounts]], estimate: float) -> tuple[float, float]:
    """The jackknife's variance of the estimate through the choice of images, and its degrees of freedom.

    Both are nan where there are fewer than two images, or one without which no class is left.
    """
    images = len(pairs[0][0].ids)
    if images < 2:
        return math.nan, math.nan
    left_out_N = np.mean([own.without_each() - other.without_each() for own, other in pairs], axis=0)
    deviations_N = (images - 1) * (left_out_N.mean() - left_out_N)
    second = float(np.mean(deviations_N**2))
    if math.isnan(second):
        return math.nan, math.nan
    # Rounding alone is no spread: its kurtosis would be anything.
    if second <= (1e-12 * (1 + abs(estimate))) ** 2:
        return second / (images - 1), images - 1.0
    kurtosis = float(np.mean(deviations_N**4)) / second**2
    freedom = 2 * images / max(kurtosis - 1, 1e-9)
    return second / (images - 1), min(max(freedom, 2.0), images - 1.0)


def _common(counts: Sequence[ImageCounts]) -> tuple[str, ...]:
    if not counts:
        return ()
    others = [set(image_counts.ids) for image_counts in counts[1:]]
    return tuple(name for name in counts[0].ids if all(name in ids for ids in others))
