from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from miseg.evaluation import ClusterCounts, ConfusionMatrix, match_clusters
from miseg.evaluation.clusters import of_classes


def counted(clusters: int = 4, classes: int = 4, seed: int = 0) -> tuple[ClusterCounts, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, classes, (2, 9, 11), generator=generator)
    found = (truth * 3 + (torch.rand(truth.shape, generator=generator) < 0.4).long()) % clusters
    truth[0, :2] = 255
    counts = ClusterCounts(clusters, classes)
    counts.update(found, truth)
    return counts, found, truth


def test_counts_are_those_of_a_loop() -> None:
    counts, found, truth = counted()
    expected = np.zeros((4, 4), np.int64)
    for cluster, true in zip(found.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if true != 255:
            expected[cluster, true] += 1
    assert np.array_equal(counts.counts.numpy(), expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(4, 4), (3, 5)])
def test_one_to_one_is_the_best_of_all_permutations(seed: int, shape: tuple[int, int]) -> None:
    table = np.random.default_rng(seed).integers(0, 50, shape)
    match = match_clusters(table)
    best = max(
        sum(table[k, c] for k, c in enumerate(chosen)) for chosen in itertools.permutations(range(shape[1]), shape[0])
    )
    assert len(set(match.tolist())) == shape[0]
    assert table[np.arange(shape[0]), match.numpy()].sum() == best


def test_a_class_may_need_the_cluster_that_fits_another_better() -> None:
    assert match_clusters([[9, 8], [8, 0]]).tolist() == [1, 0]
    assert match_clusters([[9, 8], [8, 0]], many_to_one=True).tolist() == [0, 0]


def test_more_clusters_than_classes_are_matched_many_to_one() -> None:
    assert match_clusters(torch.tensor([[5, 1], [0, 7], [2, 2], [0, 0]])).tolist() == [0, 1, 0, 0]
    with pytest.raises(ValueError, match="3 clusters do not match 2 classes one to one"):
        match_clusters(np.ones((3, 2)), many_to_one=False)


def test_numbering_of_clusters_changes_no_score() -> None:
    counts, found, truth = counted()
    order = torch.tensor([2, 3, 1, 0])
    renumbered = ClusterCounts(4, 4)
    renumbered.update(order[found], truth)
    one, other = (c.matched(match_clusters(c.counts)) for c in (counts, renumbered))
    assert torch.equal(one.counts, other.counts)
    assert counts.entropy() == pytest.approx(renumbered.entropy())


def test_matched_is_the_confusion_matrix_of_the_mapped_prediction() -> None:
    counts, found, truth = counted(6, 4)
    match = match_clusters(counts.counts)
    expected = ConfusionMatrix(4)
    expected.update(match[found], truth)
    assert torch.equal(counts.matched(match).counts, expected.counts)


def test_the_likeliest_class_is_that_of_the_likeliest_cluster() -> None:
    probabilities = torch.rand(2, 5, 4, 3).softmax(1)
    match = torch.tensor([0, 2, 2, 1, 0])
    found = of_classes(probabilities, match, 4)
    assert torch.equal(found.argmax(1), match[probabilities.argmax(1)])
    torch.testing.assert_close(found.sum(1), torch.ones(2, 4, 3))
    assert (found[:, 3] == 0).all()


def test_a_collapse_is_told() -> None:
    counts = ClusterCounts(11, 2)
    counts.counts[3] = torch.tensor([900, 80])
    counts.counts[7] = torch.tensor([3, 17])
    told = counts.collapsed()
    assert told is not None and "1.10 of 11 clusters" in told and "9 never" in told
    assert counts.unused() == tuple(k for k in range(11) if k not in (3, 7))
    counts.counts[:] = 5
    assert counts.collapsed() is None and counts.unused() == ()
    assert counts.entropy() == pytest.approx(math.log(11))
    # Before anything was counted there is nothing to tell.
    assert ClusterCounts(11, 2).collapsed() is None and math.isnan(ClusterCounts(11, 2).entropy())


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ([1, 2], r"shape \(2,\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        ([[1, -1]], "negative"),
        ([[1.0, math.nan]], "negative or non-finite"),
    ],
)
def test_no_table(table: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        match_clusters(table)


def test_values_out_of_range_count_nothing() -> None:
    counts = ClusterCounts(3, 2)
    with pytest.raises(ValueError, match=r"clusters hold 0\.\.3: expected 0\.\.2"):
        counts.update(torch.tensor([0, 3]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"truth hold 0\.\.2: expected 0\.\.1 or 255 \(ignored\)"):
        counts.update(torch.tensor([0, 2]), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="for a truth of shape"):
        counts.update(torch.tensor([0, 2]), torch.tensor([0]))
    with pytest.raises(TypeError, match="integer"):
        counts.update(torch.tensor([0.5]), torch.tensor([0]))
    assert counts.counts.sum() == 0
    with pytest.raises(ValueError, match="0 clusters"):
        ClusterCounts(0, 2)
