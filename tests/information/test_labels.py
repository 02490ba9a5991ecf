"""The ceiling and the Gaussian bound for labels, where their mutual information with x is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import entr
from scipy.stats import norm

from miseg.information import estimate, gaussian_label_bound, label_entropy


def noisy_labels(n: int, share: float, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """y = 1 with probability `share`, x = y + normal noise: [n, 1] each."""
    generator = np.random.default_rng(seed)
    y = (generator.random((n, 1)) < share).astype(float)
    return y + noise * generator.standard_normal((n, 1)), y


def truth(share: float, noise: float) -> float:
    """I(x; y) = h(x) − h(x | y), the first integrated."""

    def density(x: float) -> float:
        return (1 - share) * norm.pdf(x, 0, noise) + share * norm.pdf(x, 1, noise)

    entropy = quad(lambda x: entr(density(x)), -8 * noise, 1 + 8 * noise, limit=200)[0]
    return entropy - 0.5 * math.log(2 * math.pi * math.e * noise**2)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_the_bound_is_below_the_truth_and_the_gaussian_value_need_not_be(share: float, noise: float) -> None:
    x, y = noisy_labels(20_000, share, noise)
    known = truth(share, noise)
    assert gaussian_label_bound(x, y) <= known + 0.01
    assert known <= label_entropy(y) + 0.01
    # What RMI maximises is no bound: of nearly certain labels it tells more than they hold.
    if noise == 0.05 and share == 0.5:
        assert estimate("gaussian", x, y) > 3 * math.log(2) > 3 * (known - 0.01)


def test_the_bound_of_perfect_predictions_is_the_entropy_less_what_a_uniform_cell_falls_short_of_a_gaussian() -> None:
    y = np.random.default_rng(0).integers(0, 2, (5000, 4))
    short = 2 * math.log(2 * math.pi * math.e / 12)
    assert gaussian_label_bound(y, y) == pytest.approx(label_entropy(y) - 15 / 10_000 - short, abs=1e-9)


def test_the_bound_is_what_its_equation_says() -> None:
    generator = np.random.default_rng(3)
    y = generator.integers(0, 3, (400, 2)).astype(float)
    x = y @ generator.standard_normal((2, 3)) + generator.standard_normal((400, 3))
    joint = np.cov(np.hstack((x, y)).T) * 399 / 396
    left = joint[3:, 3:] - joint[3:, :3] @ np.linalg.inv(joint[:3, :3]) @ joint[:3, 3:]
    counts = np.unique(y, axis=0, return_counts=True)[1] / 400
    conditional = math.log(2 * math.pi * math.e) + 0.5 * math.log(np.linalg.det(left + np.eye(2) / 12))
    assert gaussian_label_bound(x, y) == pytest.approx(entr(counts).sum() - conditional, abs=1e-9)


def test_scaled_labels_mixed_predictions_and_another_order_change_nothing() -> None:
    generator = np.random.default_rng(1)
    y = generator.integers(0, 5, (600, 3)) / 4
    x = y + 0.2 * generator.standard_normal((600, 3))
    first = gaussian_label_bound(x, y, spacing=0.25)
    mixed = x @ generator.standard_normal((3, 3)) + 7
    order = generator.permutation(600)
    assert gaussian_label_bound(mixed, y, spacing=0.25) == pytest.approx(first, abs=1e-9)
    assert gaussian_label_bound(x[order], y[order], spacing=0.25) == pytest.approx(first, abs=1e-9)
    assert gaussian_label_bound(x, 4 * y, spacing=1) == pytest.approx(first, abs=1e-9)


def test_constant_predictions_tell_nothing_and_break_nothing() -> None:
    y = np.random.default_rng(2).integers(0, 2, (500, 1))
    assert gaussian_label_bound(np.ones((500, 1)), y) <= 0
    assert label_entropy(np.zeros((500, 9))) == 0


def test_the_entropy_of_known_labels() -> None:
    y = np.random.default_rng(4).choice(3, 50_000, p=[0.7, 0.2, 0.1])
    assert label_entropy(y) == pytest.approx(entr([0.7, 0.2, 0.1]).sum(), abs=0.01)


@pytest.mark.parametrize(
    ("x", "y", "spacing", "message"),
    [
        ([0.0, 1, 2, 3], [0.0, 1, 0, 1], 0.0, "spacing"),
        ([0.0, 1, 2, 3], [0.0, 0.4, 0, 1], 0.25, "no multiples"),
        ([0.0, 1], [0.0, 1], 1.0, "use more"),
        ([0.0, 1, np.nan], [0.0, 1, 1], 1.0, "nan"),
        ([0.0, 1, 2], [0.0, 1], 1.0, "pairs"),
    ],
)
def test_bad_input_is_named(x: list[float], y: list[float], spacing: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian_label_bound(x, y, spacing=spacing)
