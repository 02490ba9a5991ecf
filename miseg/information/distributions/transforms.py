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


def spiral(values_ND: np.ndarray) -> np.ndarray:
    """The first two columns turned by an angle of |x|² / D; the length |x|, and so the way back, is unchanged."""
    angles_N = (values_ND**2).mean(1)
    first, second, rest = values_ND[:, 0], values_ND[:, 1], values_ND[:, 2:]
    turned = np.cos(angles_N) * first - np.sin(angles_N) * second, np.sin(angles_N) * first + np.cos(angles_N) * second
    return np.column_stack((*turned, rest))


_TRANSFORMS: dict[str, Transform] = {
    change.__name__: change for change in (half_cube, asinh, normal_cdf, wiggly, cut, swiss_roll, spiral)
}


def transformed(name: str, of: str, by: str, sides: str = "xy") -> Transformed:
    """The distribution `of` that name, with `by` applied to the `sides` "x", "y" or "xy"."""
    of_x, of_y = (_TRANSFORMS[by] if side in sides else None for side in "xy")
    return Transformed(name, DISTRIBUTIONS[of], of_x, of_y)
