"""Distributions of pairs whose mutual information is known, and what they have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from miseg.information.discrete import plug_in


class Distribution(ABC):
    """A joint distribution of x and y.

    Attributes:
        name: its key in `DISTRIBUTIONS`.
        dims: (Dx, Dy), the columns of x and of y.
        mutual_information: in nats.
        error: nats by which that may be off: 0 for closed forms (which float64 rounds), else that of the integration.
        discrete: whether the samples are integer labels.
        source: where the mutual information is from.
    """

    name: str
    dims: tuple[int, int]
    mutual_information: float
    error: float = 0.0
    discrete: bool = False
    source: str

    def sample(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """n independent pairs: [n, Dx] and [n, Dy], float64 (int64 where discrete). The same seed gives the same.

        Raises:
            ValueError: n below 1.
        """
        if n < 1:
            raise ValueError(f"n = {n}: use 1 or more")
        return self._draw(n, np.random.default_rng(seed))

    @abstractmethod
    def _draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.dims}, {self.mutual_information:.4f} nats)"


class UniformNoise(Distribution):
    """x uniform in 0..1, y = x + noise uniform in −ε..ε.

    h(y) − log 2ε with the entropy of a trapezoidal density: ε − log 2ε for ε ≤ ½, 1 / 4ε above.

    Args:
        epsilon: ε > 0.
    """

    dims = (1, 1)
    source = "Czyż et al.: Beyond normal, NeurIPS 2023 (arXiv:2306.11078), appendix; the trapezoid's entropy"

    def __init__(self, name: str, epsilon: float) -> None:
        if not epsilon > 0:
            raise ValueError(f"epsilon = {epsilon}: use a half-width of the noise above 0")
        self.name = name
        self.epsilon = epsilon
        self.mutual_information = epsilon - math.log(2 * epsilon) if epsilon <= 0.5 else 1 / (4 * epsilon)

    def _draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = generator.random((n, 1))
        return x, x + generator.uniform(-self.epsilon, self.epsilon, (n, 1))


class Table(Distribution):
    """Labels 0..K-1 and 0..L-1 with a joint table of probabilities.

    Args:
        joint_KL: probabilities that sum to 1, x in rows and y in columns.
    """

    dims = (1, 1)
    discrete = True
    source = "the sum over the table"

    def __init__(self, name: str, joint_KL: Sequence[Sequence[float]]) -> None:
        self.name = name
        self.joint_KL = np.asarray(joint_KL, dtype=np.float64)
        if not math.isclose(self.joint_KL.sum(), 1, abs_tol=1e-9):
            raise ValueError(f"a table that sums to {self.joint_KL.sum()}: probabilities sum to 1")
        self.mutual_information = float(plug_in(self.joint_KL, correction="none"))

    def _draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        cells = generator.choice(self.joint_KL.size, n, p=self.joint_KL.ravel() / self.joint_KL.sum())
        x, y = np.unravel_index(cells, self.joint_KL.shape)
        return x[:, None], y[:, None]
