"""Differences of mean IoU between methods that were run on the same seeds and measured on the same images.

Both seeds and images are samples: another training and another test set would give another difference. Every seed is
measured on the same images, so the two are crossed: seeds are drawn anew with the images as they are, and images with
the seeds as they are, one draw of images for all seeds. The two variances are added, which errs upwards where a method
does well on other images with another seed (Owen: The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007).
Of n seeds and of n images n − 1 are drawn, without which three seeds would seem to spread by a third less than they do
(Rao and Wu: Resampling inference with complex survey data, JASA 83, 1988). Of seeds that variance is known without
drawing.

Percentiles of a bootstrap cannot reach beyond the few seeds that were seen. So each part is multiplied by Student's t
of its own degrees of freedom, and half the interval is the root of t² · variance over both parts: it holds at least as
often as it says (Banerjee: Approximate confidence interval for linear functions of means of k populations when the
population variances are not equal, Sankhyā 22, 1960), which one t by Satterthwaite's formula does not with three seeds
(92 % instead of 95 where seeds prevail, in the simulation of the tests). The intervals of a table hold together by
Šidák's inequality (JASA 62, 1967), whatever the correlation of comparisons that share a baseline. From three seeds it
could not be estimated; if it were known to be one half, four intervals would be narrower by two per cent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

LEVEL = 0.95
"""Probability with which all intervals of a table hold."""

DRAWS = 2000
"""Of the bootstrap: its standard error is then known to about 2 %."""

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
        hits, unions = weights @ self.hits_NK, weights @ self.unions_NK
        occur = unions > 0
        ious = np.divide(hits, unions, out=np.zeros_like(hits), where=occur)
        classes = occur.sum(1)
        means = np.divide(ious.sum(1), classes, out=np.full(len(ious), np.nan), where=classes > 0)
        return means if weights_BN is not None else means[0]

    def image_iou(self) -> np.ndarray:
        """Mean IoU of each image by itself, [N]: to rank images, never a score."""
        return self.mean_iou(np.eye(len(self.ids)))


@dataclass(frozen=True)
class PairedDifference:
    """A method's mean IoU less the baseline's, in 0..1, and how well it is known.

    Attributes:
        estimate: the mean over seeds.
        of_seeds: the estimate's variance through the choice of seeds; nan with one seed, which cannot tell.
        of_images: the same through the choice of images; nan where fewer than two were counted one by one.
        seeds: seeds that both were run on.
        images: images that both were measured on; 0 where there is no count for each.
    """

    estimate: float
    of_seeds: float
    of_images: float
    seeds: int
    images: int

    @property
    def error(self) -> float:
        """The standard error through both, as far as they are known; nan where neither is."""
        parts = [part for part in (self.of_seeds, self.of_images) if not math.isnan(part)]
        return math.sqrt(sum(parts)) if parts else math.nan

    def half_width(self, comparisons: int, level: float = LEVEL) -> float:
        """Half the interval's width where so many intervals are to hold together; nan where no error is known."""
        parts = [
            quantile(comparisons, size - 1, level) ** 2 * part
            for part, size in ((self.of_seeds, self.seeds), (self.of_images, self.images))
            if not math.isnan(part)
        ]
        return math.sqrt(sum(parts)) if parts else math.nan

    def told_apart(self, comparisons: int, level: float = LEVEL) -> bool:
        """Whether the interval leaves 0 out."""
        half = self.half_width(comparisons, level)
        return abs(self.estimate) > half and not math.isnan(half)

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


def compare(
    method: Mapping[int, ImageCounts], baseline: Mapping[int, ImageCounts], *, draws: int = DRAWS, seed: int = 0
) -> PairedDifference | None:
    """The difference over the seeds and images that both have; None where they have none in common.

    Args:
        method: counts by seed.
        baseline: the same of the baseline.
        draws: of the bootstrap.
        seed: of its draws.
    """
    seeds = sorted(method.keys() & baseline.keys())
    ids = _common([runs[number] for runs in (method, baseline) for number in seeds])
    if not seeds or not ids:
        return None
    pairs = [(method[number].of_images(ids), baseline[number].of_images(ids)) for number in seeds]
    differences_S = np.array([own.mean_iou() - other.mean_iou() for own, other in pairs])
    of_images = math.nan
    if len(ids) > 1:
        drawn_BN = np.random.default_rng(seed).multinomial(len(ids) - 1, np.full(len(ids), 1 / len(ids)), draws)
        differences_BS = np.stack([own.mean_iou(drawn_BN) - other.mean_iou(drawn_BN) for own, other in pairs], axis=1)
        of_images = float(np.nanvar(differences_BS.mean(1), ddof=1))
    return PairedDifference(float(differences_S.mean()), _of_seeds(differences_S), of_images, len(seeds), len(ids))


def compare_scores(method: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
    """The same from a score a seed, in 0..1, where images are not counted: what is known is over seeds alone."""
    seeds = sorted(method.keys() & baseline.keys())
    if not seeds:
        return None
    differences_S = np.array([method[number] - baseline[number] for number in seeds])
    return PairedDifference(float(differences_S.mean()), _of_seeds(differences_S), math.nan, len(seeds), 0)


def _of_seeds(differences_S: np.ndarray) -> float:
    """The variance of the mean where n − 1 of n are drawn with replacement; nan where there is one."""
    return float(differences_S.var(ddof=1)) / len(differences_S) if len(differences_S) > 1 else math.nan


def _common(counts: Sequence[ImageCounts]) -> tuple[str, ...]:
    if not counts:
        return ()
    others = [set(image_counts.ids) for image_counts in counts[1:]]
    return tuple(name for name in counts[0].ids if all(name in ids for ids in others))
