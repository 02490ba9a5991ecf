"""One-to-one transforms, which leave mutual information as it is, on distributions where it is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from miseg.information.catalog import DISTRIBUTIONS
from miseg.information.distributions.distribution import Distribution

Transform = Callable[[np.ndarray], np.ndarray]
"""[N, D] -> [N, E], one-to-one on the samples' support."""


class Transformed(Distribution):
    """Another distribution's pairs, x, y or both transformed one to one.

    Args:
        base: the distribution.
        of_x: what is done to x; None: nothing.
        of_y: what is done to y; None: nothing.
    """

    def __init__(self, name: str, base: Distribution, of_x: Transform | None, of_y: Transform | None) -> None:
        self.name = name
        self.base = base
        self.transforms = of_x, of_y
        self.dims = tuple(part.shape[1] for part in self.sample(2, 0))
        self.mutual_information = base.mutual_information
        self.error = base.error
        self.source = f"{base.source}; unchanged by one-to-one transforms (Kraskov et al. 2004, appendix)"

    def _draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        pair = self.base._draw(n, generator)
        x, y = (part if change is None else change(part) for part, change in zip(pair, self.transforms, strict=True))
        return x, y


def half_cube(values_ND: np.ndarray) -> np.ndarray:
    """x √|x|: longer tails."""
    return values_ND * np.sqrt(np.abs(values_ND))


def asinh(values_ND: np.ndarray) -> np.ndarray:
    """asinh x: shorter tails."""
    return np.arcsinh(values_ND)


def normal_cdf(values_ND: np.ndarray) -> np.ndarray:
    """Φ(x): a standard normal's values become uniform in 0..1."""
    return ndtr(values_ND)


def wiggly(values_ND: np.ndarray) -> np.ndarray:
    """x + ½ sin x + ⅒ sin 4x: rising everywhere, at slopes of 0.1 to 1.9."""
    return values_ND + 0.5 * np.sin(values_ND) + 0.1 * np.sin(4 * values_ND)


def cut(values_ND: np.ndarray) -> np.ndarray:
    """(Φ(x) + ½) mod 1: the upper half of a standard normal's values goes below the lower. One-to-one, not monotone."""
    return (ndtr(values_ND) + 0.5) % 1


def swiss_roll(values_N1: np.ndarray) -> np.ndarray:
    """[N, 1] -> [N, 2]: a standard normal's values, made uniform, along one and a half turns of a spiral."""
    angles_N1 = 1.5 * math.pi * (1 + 2 * ndtr(values_N1))
    return angles_N1 / (4.5 * math.pi) * np.hstack((np.cos(angles_N1), np.sin(angles_N1)))


def spiral(values_ND: np.ndarray, first: int = 0) -> np.ndarray:
    """Column `first` and the next turned by an angle of |x|² / D; the length |x|, and so the way back, is unchanged."""
    angles_N = (values_ND**2).mean(1)
    turned_ND = values_ND.copy()
    one, two = values_ND[:, first], values_ND[:, first + 1]
    turned_ND[:, first] = np.cos(angles_N) * one - np.sin(angles_N) * two
    turned_ND[:, first + 1] = np.sin(angles_N) * one + np.cos(angles_N) * two
    return turned_ND


# What the benchmark of Czyż et al. (`bmi.py`) has in another form than above.


def spiral_y(values_ND: np.ndarray) -> np.ndarray:
    """`spiral` of the second and the third column."""
    return spiral(values_ND, first=1)


def wiggly_x(values_ND: np.ndarray) -> np.ndarray:
    """x + 0.4 sin x + 0.2 sin(1.7 x + 1) + 0.03 sin(3.3 x − 2.5): rising everywhere, at slopes above 0.16."""
    waves_ND = 0.4 * np.sin(values_ND) + 0.2 * np.sin(1.7 * values_ND + 1) + 0.03 * np.sin(3.3 * values_ND - 2.5)
    return values_ND + waves_ND


def wiggly_y(values_ND: np.ndarray) -> np.ndarray:
    """x − 0.4 sin 0.4 x + 0.17 sin(1.3 x + 3.5) + 0.02 sin(4.3 x − 2.5): rising everywhere, at slopes above 0.53."""
    waves_ND = 0.17 * np.sin(1.3 * values_ND + 3.5) + 0.02 * np.sin(4.3 * values_ND - 2.5)
    return values_ND - 0.4 * np.sin(0.4 * values_ND) + waves_ND


def swiss_roll_21(values_N1: np.ndarray) -> np.ndarray:
    """[N, 1] -> [N, 2]: `swiss_roll` on another scale, its angle divided by 21."""
    return swiss_roll(values_N1) * (4.5 * math.pi / 21)


def bimodal_x(values_ND: np.ndarray) -> np.ndarray:
    """A standard normal's values become those of 0.3 · normal at 0 + 0.7 · normal at 5, rising."""
    return _quantiles(ndtr(values_ND), (0.3, 0.7), (0.0, 5.0))


def bimodal_y(values_ND: np.ndarray) -> np.ndarray:
    """A standard normal's values become those of 0.5 · normal at −1 + 0.5 · normal at 3, rising."""
    return _quantiles(ndtr(values_ND), (0.5, 0.5), (-1.0, 3.0))


def _quantiles(shares_ND: np.ndarray, weights: tuple[float, float], means: tuple[float, float]) -> np.ndarray:
    """Values at which the cumulative distribution of two normals of variance 1 has these shares, by bisection."""
    low_ND = np.full_like(shares_ND, min(means) - 10)
    high_ND = np.full_like(shares_ND, max(means) + 10)
    # The interval's width, below 30, is halved to less than float64 can tell apart.
    for _ in range(60):
        middle_ND = (low_ND + high_ND) / 2
        below_ND = sum(weight * ndtr(middle_ND - mean) for weight, mean in zip(weights, means, strict=True))
        low_ND, high_ND = (
            np.where(below_ND < shares_ND, middle_ND, low_ND),
            np.where(below_ND < shares_ND, high_ND, middle_ND),
        )
    return (low_ND + high_ND) / 2


_TRANSFORMS: dict[str, Transform] = {
    change.__name__: change
    for change in (
        *(half_cube, asinh, normal_cdf, wiggly, cut, swiss_roll, spiral),
        *(spiral_y, wiggly_x, wiggly_y, swiss_roll_21, bimodal_x, bimodal_y),
    )
}


def transformed(name: str, of: str, by: str, sides: str = "xy") -> Transformed:
    """The distribution `of` that name, with `by` applied to the `sides` "x", "y" or "xy"."""
    of_x, of_y = (_TRANSFORMS[by] if side in sides else None for side in "xy")
    return Transformed(name, DISTRIBUTIONS[of], of_x, of_y)


def transformed_apart(name: str, of: str, by_x: str, by_y: str) -> Transformed:
    """The distribution `of` that name, with `by_x` applied to x and `by_y` to y."""
    return Transformed(name, DISTRIBUTIONS[of], _TRANSFORMS[by_x], _TRANSFORMS[by_y])
