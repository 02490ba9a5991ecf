"""KSG against Kraskov's equations in loops over all pairs, against the truth, and beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from miseg.information import DISTRIBUTIONS, estimate


def reference(x: np.ndarray, y: np.ndarray, neighbours: int, form: int) -> float:
    """Equations 8 and 9 of Kraskov et al. (2004), a sample and a neighbour at a time."""
    x, y = ((values - values.mean(0)) / values.std(0) for values in (x, y))
    samples = len(x)
    terms = []
    for i in range(samples):
        in_x = [max(abs(x[i] - x[j])) for j in range(samples)]
        in_y = [max(abs(y[i] - y[j])) for j in range(samples)]
        others = sorted((j for j in range(samples) if j != i), key=lambda j: max(in_x[j], in_y[j]))
        nearest = others[:neighbours]
        if form == 1:
            radius = max(in_x[nearest[-1]], in_y[nearest[-1]])
            counts = [sum(distances[j] < radius for j in others) for distances in (in_x, in_y)]
            terms.append(sum(digamma(count + 1) for count in counts))
        else:
            radii = [max(distances[j] for j in nearest) for distances in (in_x, in_y)]
            pairs = zip((in_x, in_y), radii, strict=True)
            counts = [sum(distances[j] <= radius for j in others) for distances, radius in pairs]
            terms.append(sum(digamma(count) for count in counts))
    return digamma(neighbours) - (form == 2) / neighbours + digamma(samples) - np.mean(terms)


@pytest.mark.parametrize("form", [1, 2])
@pytest.mark.parametrize("neighbours", [1, 3, 10])
@pytest.mark.parametrize("name", ["normal-1x1-0.75", "normal-2x5-sparse", "student-1x1-dof1"])
def test_equals_the_equations(form: int, neighbours: int, name: str) -> None:
    x, y = DISTRIBUTIONS[name].sample(70, 3)
    found = estimate("ksg", x, y, neighbours=neighbours, form=form)
    assert found == pytest.approx(reference(x, y, neighbours, form), abs=1e-10)


@pytest.mark.parametrize("form", [1, 2])
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("normal-1x1-independent", 0.03),
        ("normal-1x1-0.75", 0.05),
        ("normal-1x1-0.99", 0.06),
        ("normal-2x2-dense", 0.06),
        ("student-1x1-dof1", 0.09),
        ("uniform-noise-0.1", 0.06),
        ("uniform-noise-0.75", 0.05),
        ("half-cube-normal-1x1", 0.06),
        ("wiggly-normal-1x1", 0.06),
        ("cut-normal-1x1", 0.06),
        ("swiss-roll-normal-2x1", 0.06),
        ("mixture-1x1-cross", 0.06),
        ("mixture-1x1-clusters", 0.06),
    ],
)
def test_near_the_truth_in_few_columns(form: int, name: str, tolerance: float) -> None:
    distribution = DISTRIBUTIONS[name]
    found = estimate("ksg", *distribution.sample(2000, 0), form=form)
    assert found == pytest.approx(distribution.mutual_information, abs=tolerance)


@pytest.mark.parametrize("form", [1, 2])
def test_independent_samples_give_zero_in_the_mean(form: int) -> None:
    """In ten columns and of 150 samples too, which is what sets KSG apart from the others."""
    distribution = DISTRIBUTIONS["normal-5x5-independent"]
    found = np.array([estimate("ksg", *distribution.sample(150, seed), form=form) for seed in range(40)])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(40) + 0.005


@pytest.mark.parametrize("name", ["normal-1x1-0.75", "normal-1x1-0.99", "uniform-noise-0.1", "mixture-1x1-cross"])
def test_as_accurate_as_scikit_learns_on_the_same_samples(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    errors = []
    for seed in range(5):
        x, y = distribution.sample(1000, seed)
        theirs = mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0]
        errors.append([abs(value - distribution.mutual_information) for value in (estimate("ksg", x, y), theirs)])
    ours, of_scikit_learn = np.mean(errors, axis=0)
    assert ours < of_scikit_learn + 0.002


def test_repeated_samples_are_jittered_by_the_seed_or_named() -> None:
    x, y = DISTRIBUTIONS["normal-1x1-0.75"].sample(200, 0)
    repeated = [np.repeat(values, 5, axis=0) for values in (x, y)]
    found = estimate("ksg", *repeated)
    assert np.isfinite(found) and found == estimate("ksg", *repeated)
    assert found != estimate("ksg", *repeated, seed=1)
    with pytest.raises(ValueError, match=r"sample 0 occurs more than 3 times: set jitter"):
        estimate("ksg", *repeated, jitter=0)
    # Two copies are within the three neighbours asked for.
    twice = [np.repeat(values, 2, axis=0) for values in (x, y)]
    assert np.isfinite(estimate("ksg", *twice, jitter=0))


def test_samples_without_ties_are_not_jittered() -> None:
    x, y = DISTRIBUTIONS["normal-1x1-0.75"].sample(300, 0)
    assert estimate("ksg", x, y, jitter=0.5) == estimate("ksg", x, y, jitter=0)
    rounded = x.round(1)
    assert estimate("ksg", rounded, y, seed=0) != estimate("ksg", rounded, y, seed=1)
    assert estimate("ksg", rounded, y) == pytest.approx(estimate("ksg", x, y), abs=0.1)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"neighbours": 0}, r"neighbours = 0 of 20 samples: use 1\.\.19"),
        ({"neighbours": 20}, r"neighbours = 20 of 20 samples: use 1\.\.19"),
        ({"form": 3}, r"form = 3: use 1 \(equation 8\) or 2 \(equation 9\)"),
        ({"jitter": -1e-10}, r"jitter = -1e-10: use 0 \(none\)"),
    ],
)
def test_bad_settings_are_named(settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        estimate("ksg", *DISTRIBUTIONS["normal-1x1-0.75"].sample(20, 0), **settings)


def test_heavy_dependence_needs_more_samples_than_there_are() -> None:
    distribution = DISTRIBUTIONS["normal-5x5-12nats"]
    assert estimate("ksg", *distribution.sample(1000, 0)) < 0.7 * distribution.mutual_information
