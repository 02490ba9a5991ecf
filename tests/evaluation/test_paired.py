"""Paired differences: the estimate, its interval's coverage where the truth is known, and several at once."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from miseg.evaluation import ConfusionMatrix
from miseg.evaluation.paired import ImageCounts, PairedDifference, compare, compare_scores, quantile
from tests.support.paired_studies import Design, joint_coverage

PIXELS = 10_000


def counts(ious_N: np.ndarray) -> ImageCounts:
    """Two classes, each with the IoU given in each image, over unions of one size: the mean IoU is their mean."""
    hits_N = np.round(np.clip(ious_N, 0, 1) * PIXELS).astype(np.int64)
    hits_NK = np.stack([hits_N, hits_N], axis=1)
    return ImageCounts(tuple(map(str, range(len(ious_N)))), hits_NK, np.full_like(hits_NK, PIXELS))


def runs(
    rng: np.random.Generator, level: float, seeds: int, image_N: np.ndarray, of_seed: float, of_image: float
) -> dict[int, ImageCounts]:
    own_N = image_N + rng.normal(0, of_image, len(image_N))
    return {seed: counts(level + rng.normal(0, of_seed) + own_N) for seed in range(seeds)}


# The estimate


def test_counts_are_those_of_the_confusion_matrix() -> None:
    rng = np.random.default_rng(0)
    confusion_NKK = rng.integers(0, 50, (7, 4, 4))
    confusion_NKK[:, 3] = confusion_NKK[:, :, 3] = 0  # a class that does not occur
    found = ImageCounts.of([f"i{n}" for n in range(7)], confusion_NKK)
    flat = ImageCounts.of([f"i{n}" for n in range(7)], confusion_NKK.reshape(7, 16))
    assert np.array_equal(found.hits_NK, flat.hits_NK) and np.array_equal(found.unions_NK, flat.unions_NK)

    def scored(images: list[int]) -> float:
        matrix = ConfusionMatrix(4)
        for image in images:
            matrix.counts += matrix.counts.new_tensor(confusion_NKK[image])
        return matrix.mean_iou()

    assert found.mean_iou() == pytest.approx(scored(list(range(7))), rel=1e-12)
    drawn = [2, 2, 5, 0]
    weights = np.bincount(drawn, minlength=7)[None].astype(float)
    assert found.mean_iou(weights)[0] == pytest.approx(scored(drawn), rel=1e-12)
    assert found.image_iou()[3] == pytest.approx(scored([3]), rel=1e-12)


@pytest.mark.parametrize(
    ("ids", "shape", "said"),
    [
        (["a"], (1, 3, 4), "expected [N, K, K]"),
        (["a"], (1, 5), "expected [N, K, K]"),
        (["a"], (2, 3, 3), "1 ids"),
        (["a", "a"], (2, 3, 3), "(1 of them different)"),
    ],
)
def test_what_is_no_list_of_matrices_is_refused(ids: list[str], shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("[", r"\[").replace("(", r"\(").replace(")", r"\)")):
        ImageCounts.of(ids, np.zeros(shape, np.int64))
    with pytest.raises(ValueError, match="below 0"):
        ImageCounts.of(["a"], -np.ones((1, 2, 2), np.int64))


def test_only_common_seeds_and_images_are_paired() -> None:
    method = {1: counts(np.array([0.5, 0.6, 0.9])), 2: counts(np.array([0.7, 0.8, 0.1])), 9: counts(np.ones(3))}
    base = {1: counts(np.array([0.4, 0.4])), 2: counts(np.array([0.3, 0.3])), 4: counts(np.zeros(2))}
    found = compare(method, base)
    assert found is not None
    # Images 0 and 1, seeds 1 and 2: (0.55 − 0.4 + 0.75 − 0.3) / 2.
    assert found.estimate == pytest.approx(0.3)
    assert (found.seeds, found.images) == (2, 2)
    assert found.of_seeds == pytest.approx(np.var([0.15, 0.45], ddof=1) / 2)
    assert compare({1: counts(np.ones(2))}, {2: counts(np.ones(2))}) is None
    assert compare({}, {}) is None


def test_the_order_of_images_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    ious = rng.uniform(0.2, 0.8, 20)
    base, method = counts(ious), counts(ious + 0.1)
    shuffled = method.of_images([str(n) for n in rng.permutation(20)])
    assert compare({0: shuffled}, {0: base}).estimate == pytest.approx(0.1, abs=1e-4)  # type: ignore[union-attr]
    # The same image has the same deviation in both: paired, nothing is left of it.
    found = compare({0: shuffled, 1: shuffled}, {0: base, 1: base})
    assert found is not None and found.error < 1e-4


def test_a_row_that_is_the_baseline_differs_by_nothing() -> None:
    same = {seed: counts(np.array([0.3, 0.5, 0.4])) for seed in range(3)}
    found = compare(same, same)
    assert found is not None and (found.estimate, found.half_width(4)) == (0.0, 0.0)
    assert not found.told_apart(4)


# The interval


def test_the_standard_error_is_that_of_the_design() -> None:
    """Of means over seeds and images, which are crossed, the variance is known in closed form."""
    rng = np.random.default_rng(3)
    seed_S, image_N = rng.normal(0, 0.02, 12), rng.normal(0, 0.05, 80)
    base = {s: counts(np.full(80, 0.4)) for s in range(12)}
    method = {s: counts(0.5 + seed_S[s] + image_N) for s in range(12)}
    found = compare(method, base)
    assert found is not None
    of_seeds, of_images = seed_S.var(ddof=1) / 12, image_N.var(ddof=1) / 80
    assert found.of_seeds == pytest.approx(of_seeds, rel=1e-3)
    assert found.of_images == pytest.approx(of_images, rel=1e-3)  # of a mean the jackknife's is the usual one
    assert found.error**2 == pytest.approx(of_seeds + of_images, rel=1e-3)
    assert 60 < found.freedom <= 79
    expected = stats.t.ppf(0.975, 11) ** 2 * of_seeds + stats.t.ppf(0.975, found.freedom) ** 2 * of_images
    assert found.half_width(1) ** 2 == pytest.approx(expected, rel=1e-3)


def test_the_jackknife_leaves_out_each_image_for_real() -> None:
    rng = np.random.default_rng(5)
    pairs = [[ImageCounts.of(list("abcdef"), rng.integers(0, 9, (6, 3, 3))) for _ in range(2)] for _ in range(2)]
    found = compare({0: pairs[0][0], 1: pairs[1][0]}, {0: pairs[0][1], 1: pairs[1][1]})
    left_out = []
    for name in "abcdef":
        ids = [other for other in "abcdef" if other != name]
        left_out.append(np.mean([a.of_images(ids).mean_iou() - b.of_images(ids).mean_iou() for a, b in pairs]))
    assert found is not None
    assert found.of_images == pytest.approx(5 / 6 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))


def test_an_image_that_prevails_leaves_few_degrees_of_freedom() -> None:
    ious = np.random.default_rng(6).uniform(0.48, 0.52, 12)
    alone = ious + np.where(np.arange(12) == 3, 0.4, 0.0)
    base = {seed: counts(np.full(12, 0.5)) for seed in range(3)}
    usual, prevailing = (compare({seed: counts(own) for seed in range(3)}, base) for own in (ious, alone))
    assert usual is not None and prevailing is not None
    assert 2 <= prevailing.freedom < 4 < usual.freedom <= 11


def test_seeds_drawn_for_real_have_the_variance_that_is_computed() -> None:
    """n − 1 of n, with replacement: the slow way to what `of_seeds` says."""
    rng = np.random.default_rng(4)
    values = np.array([0.03, 0.01, 0.08])
    found = compare_scores(dict(enumerate(values)), dict.fromkeys(range(3), 0.0))
    drawn = values[rng.integers(0, 3, (200_000, 2))].mean(1)
    assert found is not None and found.of_seeds == pytest.approx(drawn.var(), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("of_seed", "of_image"), [(0.02, 0.03), (0.003, 0.1)], ids=["seeds", "images"])
def test_intervals_cover_the_truth_as_often_as_they_say(of_seed: float, of_image: float) -> None:
    """Three seeds, four comparisons with one baseline: together they hold in 95 of 100 studies."""
    rng = np.random.default_rng(7)
    studies, images, truths = 250, 30, (0.0, 0.02, 0.05, -0.03)
    each = together = normal = 0
    for _ in range(studies):
        image_N = rng.normal(0, 0.1, images)
        base = runs(rng, 0.45, 3, image_N, of_seed, of_image)
        kept = []
        for truth in truths:
            found = compare(runs(rng, 0.45 + truth, 3, image_N, of_seed, of_image), base)
            assert found is not None
            each += abs(found.estimate - truth) <= found.half_width(1)
            kept.append(abs(found.estimate - truth) <= found.half_width(4))
            # What a normal quantile, as of many seeds, would give.
            normal += abs(found.estimate - truth) <= 1.96 * found.error
        together += all(kept)
    # The four of a study share a baseline, so they count for less than four: two standard errors are 0.02.
    assert each / (4 * studies) > 0.94
    assert together / studies > 0.93
    if of_seed > 0.01:
        assert normal / (4 * studies) < 0.9


SPARSE = Design(images=15, seeds=10, classes=11, even=0.1, sizes=0.3)
FEW = [
    Design(images=5, seeds=10, classes=3, even=2.0, sizes=0.3),
    Design(images=5, seeds=10, classes=8, even=0.2, sizes=0.8),
    Design(images=10, seeds=10, classes=3, even=2.0, sizes=0.3),
    Design(images=10, seeds=10, classes=3, even=2.0, sizes=0.8),
    Design(images=15, seeds=10, classes=3, even=2.0, sizes=0.8),
    Design(images=10, seeds=10, classes=8, even=0.2, sizes=0.3),
    Design(images=15, seeds=10, classes=8, even=0.2, sizes=0.8),
    SPARSE,
    Design(images=30, seeds=10, classes=5, even=0.5, sizes=0.3),
    Design(images=10, seeds=3, classes=8, even=0.2, sizes=0.3, of_seed=0.3),
    Design(images=15, seeds=5, classes=5, even=0.5, sizes=0.3, of_seed=0.05),
]
"""The range in which docs/studies.md says that intervals hold."""


def test_intervals_of_few_images_hold_in_a_small_simulation() -> None:
    """A small part of the next test: where a bootstrap of the images gave 0.90."""
    assert joint_coverage(SPARSE, studies=80) >= 0.9


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("design", FEW, ids=str)
def test_intervals_of_few_images_hold_together_as_often_as_is_said(design: Design) -> None:
    coverage = joint_coverage(design, studies=500)
    print(f"{design}: {coverage:.3f}")
    # Of 500 studies the standard error is 0.01.
    assert coverage >= 0.93


@pytest.mark.slow
def test_equal_methods_are_seldom_told_apart() -> None:
    """Where seeds prevail, one seed told 97 of 100 pairs of equal methods apart; now it tells none."""
    rng, told = np.random.default_rng(8), {1: 0, 3: 0}
    for _ in range(150):
        image_N = rng.normal(0, 0.1, 30)
        methods = [runs(rng, 0.45, 3, image_N, 0.05, 0.005) for _ in range(2)]
        for seeds in told:
            found = compare(*({seed: method[seed] for seed in range(seeds)} for method in methods))
            assert found is not None
            told[seeds] += found.told_apart(1)
    assert told[1] == 0 and told[3] <= 15


def test_several_intervals_hold_together() -> None:
    """Šidák's quantile for independent comparisons, and Dunnett's is below it: beside a slow reference."""
    for comparisons in (1, 2, 5):
        each = 2 * stats.norm.cdf(quantile(comparisons, 1e9)) - 1
        assert each**comparisons == pytest.approx(0.95, abs=1e-6)
    # Dunnett (1955), two-sided 5 %, infinitely many degrees of freedom: 1.96, 2.21, 2.35, 2.44, 2.51.
    for comparisons, dunnett in enumerate((1.96, 2.21, 2.35, 2.44, 2.51), start=1):
        cholesky = np.linalg.cholesky(np.full((comparisons, comparisons), 0.5) + 0.5 * np.eye(comparisons))
        draws = np.random.default_rng(0).normal(size=(200_000, comparisons)) @ cholesky.T
        reference = np.quantile(np.abs(draws).max(1), 0.95)
        assert reference == pytest.approx(dunnett, abs=0.02)
        assert reference - 0.02 < quantile(comparisons, 1e9) < 1.035 * reference
    assert quantile(1, 2) == pytest.approx(4.303, abs=1e-3)  # Student's table


def test_one_seed_gives_no_interval() -> None:
    ious = np.random.default_rng(0).uniform(0.3, 0.6, 50)
    found = compare({5: counts(ious + np.linspace(0, 0.1, 50))}, {5: counts(ious)})
    assert found is not None and (found.seeds, found.images) == (1, 50)
    assert math.isnan(found.of_seeds) and found.of_images > 0
    assert math.isnan(found.error) and math.isnan(found.half_width(1)) and not found.told_apart(1)
    assert found.seeds_needed(1) is None
    lone = compare({5: counts(np.array([0.5]))}, {5: counts(np.array([0.4]))})
    assert lone is not None and lone.estimate == pytest.approx(0.1)
    assert math.isnan(lone.half_width(1)) and not lone.told_apart(1)


def test_scores_without_images_give_the_paired_t_interval() -> None:
    ours, base = {1: 0.40, 2: 0.44, 3: 0.41, 7: 0.9}, {1: 0.35, 2: 0.36, 3: 0.38, 8: 0.1}
    found = compare_scores(ours, base)
    assert found is not None and (found.seeds, found.images) == (3, 0)
    test = stats.ttest_rel([0.40, 0.44, 0.41], [0.35, 0.36, 0.38]).confidence_interval(0.95)
    assert found.estimate - found.half_width(1) == pytest.approx(test.low)
    assert found.estimate + found.half_width(1) == pytest.approx(test.high)
    one = compare_scores({1: 0.5}, {1: 0.4})
    assert one is not None and math.isnan(one.half_width(1)) and not one.told_apart(1)
    assert compare_scores({1: 0.5}, {2: 0.4}) is None


def test_the_seeds_that_would_be_needed_are_the_fewest_that_do() -> None:
    found = PairedDifference(0.02, of_seeds=0.0002, of_images=0.00002, seeds=3, images=100)
    assert not found.told_apart(4)
    needed = found.seeds_needed(4)
    assert needed is not None and needed > 3

    def told(seeds: int) -> bool:
        return PairedDifference(0.02, 0.0002 * 3 / seeds, 0.00002, seeds, 100).told_apart(4)

    assert next(seeds for seeds in itertools.count(3) if told(seeds)) == needed
    # The images alone spread too far: no number of seeds helps.
    assert PairedDifference(0.02, 0.0002, 0.001, 3, 100).seeds_needed(4) is None


def test_seeds_that_change_nothing_tell_nothing() -> None:
    """Two seeds of a method without chance are one measurement: an interval of no width told every difference apart."""
    difference = compare_scores({0: 0.5, 1: 0.5}, {0: 0.4, 1: 0.4})
    assert difference is not None and difference.half_width(1) == 0
    assert not difference.told_apart(1)
