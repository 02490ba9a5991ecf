"""Gaussian and Student-t pairs."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import digamma, gammaln

from miseg.information.distributions.distribution import Distribution


class Normal(Distribution):
    """Gaussian x and y of mean 0: ½ log(det S_x det S_y / det S).

    Args:
        dims: (Dx, Dy).
        covariance_DD: S, positive definite, of x's columns and then y's.

    Raises:
        ValueError: a matrix of another size or one that is not positive definite.
    """

    source = "Cover and Thomas: Elements of information theory, theorem 8.4.1"

    def __init__(self, name: str, dims: tuple[int, int], covariance_DD: np.ndarray) -> None:
        columns = sum(dims)
        if covariance_DD.shape != (columns, columns):
            raise ValueError(f"a covariance of shape {covariance_DD.shape} for {columns} columns")
        if np.linalg.eigvalsh(covariance_DD)[0] <= 0:
            raise ValueError("a covariance that is not positive definite")
        self.name = name
        self.dims = dims
        self.covariance_DD = covariance_DD
        parts = covariance_DD[: dims[0], : dims[0]], covariance_DD[dims[0] :, dims[0] :], covariance_DD
        x, y, xy = (np.linalg.slogdet(part).logabsdet for part in parts)
        self.mutual_information = float(x + y - xy) / 2

    def _draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        xy = generator.standard_normal((n, sum(self.dims))) @ np.linalg.cholesky(self.covariance_DD).T
        return xy[:, : self.dims[0]], xy[:, self.dims[0] :]


class Student(Normal):
    """Multivariate Student-t: Gaussian pairs of dispersion S, divided by √(χ²_ν / ν), the same for all columns.

    The shared divisor makes even uncorrelated columns dependent. From the entropies of Student-t vectors the mutual
    information is the Gaussian's plus

        c = f(ν) + f(ν + Dx + Dy) − f(ν + Dx) − f(ν + Dy),    f(t) = log Γ(t/2) − (t/2) ψ(t/2).

    Args:
        dims: (Dx, Dy).
        covariance_DD: the dispersion S, positive definite; the covariance is ν / (ν − 2) S for ν > 2.
        degrees_of_freedom: ν > 0.
    """

    source = (
        "entropies of Arellano-Valle, Contreras-Reyes and Genton, Scandinavian Journal of Statistics 40 (2013), "
        "equation 7; as in Czyż et al., NeurIPS 2023 (arXiv:2306.11078)"
    )

    def __init__(self, name: str, dims: tuple[int, int], covariance_DD: np.ndarray, degrees_of_freedom: float) -> None:
        if not degrees_of_freedom > 0:
            raise ValueError(f"degrees_of_freedom = {degrees_of_freedom}: use a number above 0")
        super().__init__(name, dims, covariance_DD)
        self.degrees_of_freedom = degrees_of_freedom
        halves = (degrees_of_freedom + np.array([0, sum(dims), *dims])) / 2
        terms = gammaln(halves) - halves * digamma(halves)
        self.mutual_information += float(terms @ (1, 1, -1, -1))

    def _draw(self, n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, y = super()._draw(n, generator)
        divisor = np.sqrt(generator.chisquare(self.degrees_of_freedom, (n, 1)) / self.degrees_of_freedom)
        return x / divisor, y / divisor


def sparse_covariance(dims: tuple[int, int], correlation: float) -> np.ndarray:
    """The identity but for the first two columns of x (one, where a side has no more) and their partners in y."""
    covariance = np.eye(sum(dims))
    for column in range(min(2, *dims)):
        partner = dims[0] + column
        covariance[column, partner] = covariance[partner, column] = correlation
    return covariance


def sparse_normal(name: str, dims: tuple[int, int], correlation: float) -> Normal:
    """Two columns of x, each correlated with one of y; the rest is noise."""
    return Normal(name, dims, sparse_covariance(dims, correlation))


def dense_normal(name: str, dims: tuple[int, int], correlation: float) -> Normal:
    """Every column correlated with every other, within x and y too."""
    columns = sum(dims)
    return Normal(name, dims, np.full((columns, columns), correlation) + (1 - correlation) * np.eye(columns))


def heavy_normal(name: str, dimension: int, nats: float) -> Normal:
    """Each column of x correlated with its partner in y so much that all together make these nats."""
    correlation = math.sqrt(-math.expm1(-2 * nats / dimension))
    covariance = np.kron([[1, correlation], [correlation, 1]], np.eye(dimension))
    return Normal(name, (dimension, dimension), covariance)


def student(name: str, dims: tuple[int, int], correlation: float, degrees_of_freedom: float) -> Student:
    """Student-t with the dispersion of `sparse_normal`."""
    return Student(name, dims, sparse_covariance(dims, correlation), degrees_of_freedom)
