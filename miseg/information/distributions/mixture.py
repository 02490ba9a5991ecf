"""Mixtures of Gaussians in the plane, their mutual information integrated."""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy
from scipy.stats import multivariate_normal

from miseg.information.distributions.distribution import Distribution

_REACH = 9.0
"""Standard deviations around the means that the integral covers; 1e-18 of the mass is outside."""


class GaussianMixture(Distribution):
    """x and y of one column each, jointly a mixture of bivariate Gaussians.

    The mutual information is ∬ p log p / p_x p_y by the trapezoid rule on a square grid, which for densities that
    vanish smoothly at the ends converges faster than any power of the step (Trefethen and Weideman, SIAM Review 2014);
    `error` is the change on halving the step, and at least 1e-9.

    Args:
        weights_K: shares of the components, which sum to 1.
        means_K2: their means.
        covariances_K22: their covariances, positive definite.
        steps: intervals of the grid along an axis.
    """

    dims = (1, 1)
    source = "numerical integration over a grid"

    def __init__(
        self,
        name: str,
        weights_K: np.ndarray,
        means_K2: np.ndarray,
        covariances_K22: np.ndarray,
        steps: int = 400,
    ) -> None:
        if not np.isclose(weights_K.sum(), 1):
            raise ValueError(f"weights that sum to {weights_K.sum()}: shares of a mixture sum to 1")
        self.name = name
        self.weights_K, self.means_K2, self.covariances_K22 = weights_K, means_K2, covariances_K22
        coarse, fine = (self._integral(number) for number in (steps, 2 * steps))
        self.mutual_information = fine
        self.error = max(abs(fine - coarse), 1e-9)

    def density(self, points: np.ndarray) -> np.ndarray:
        """p(x, y) at points [..., 2], without the last axis."""
        parts = zip(self.weights_K, self.means_K2, self.covariances_K22, strict=True)
        return sum(weight * multivariate_normal(mean, covariance).pdf(points) for weight, mean, covariance in parts)

    def _integral(self, steps: int) -> float:
        reach = _REACH * np.sqrt(self.covariances_K22.max())
        grid = np.linspace(self.means_K2.min() - reach, self.means_K2.max() + reach, steps + 1)
        step = grid[1] - grid[0]
        density = self.density(np.stack(np.meshgrid(grid, grid, indexing="ij"), -1))
        masses = density * step
        x, y = masses.sum(1), masses.sum(0)
        joint = xlogy(density, density).sum() * step
        return float(joint - xlogy(x, x).sum() - xlogy(y, y).sum()) * step

    def _draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        component_N = generator.choice(len(self.weights_K), n, p=self.weights_K)
        factors_N22 = np.linalg.cholesky(self.covariances_K22)[component_N]
        noise = np.einsum("nij,nj->ni", factors_N22, generator.standard_normal((n, 2)))
        xy = self.means_K2[component_N] + noise
        return xy[:, :1], xy[:, 1:]


def cross(name: str) -> GaussianMixture:
    """Two equal components of correlation 0.9 and −0.9: uncorrelated, yet dependent."""
    covariances = np.array([[[1, 0.9], [0.9, 1]], [[1, -0.9], [-0.9, 1]]])
    return GaussianMixture(name, np.full(2, 0.5), np.zeros((2, 2)), covariances)


def clusters(name: str) -> GaussianMixture:
    """Three round components of unequal weight, the middle of each on the diagonal: near the entropy of the weights."""
    means = np.array([[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]])
    return GaussianMixture(name, np.array([0.5, 0.3, 0.2]), means, np.tile(0.25 * np.eye(2), (3, 1, 1)))
