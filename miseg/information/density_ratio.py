"""Mutual information from a model of the ratio p(x, y) / p(x) p(y), fitted without estimating any density."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve
from scipy.spatial.distance import cdist, pdist
from sklearn.model_selection import KFold

from miseg.information.results import Estimate
from miseg.information.samples import continuous

WIDTHS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Kernel widths to choose from, in median distances between the centres."""

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""λ to choose from: the basis functions lie in 0..1."""

_FLOOR = 1e-3
_MAX_ITERATIONS = 2000


class _Basis(NamedTuple):
    """φ_l(x, y) = k(x, x_l) k(y, y_l) with Gaussian k at some samples, and a last that is 1: kernels [N, L] each."""

    x_NL: np.ndarray
    y_NL: np.ndarray

    def of_pairs(self) -> np.ndarray:
        """φ [N, L] of samples that were drawn together."""
        return self.x_NL * self.y_NL

    def under_independence(self) -> np.ndarray:
        """The mean of φ, [L], over all pairings of an x with a y."""
        return self.x_NL.mean(0) * self.y_NL.mean(0)

    def part(self, samples_M: np.ndarray, kernels_L: np.ndarray) -> _Basis:
        return _Basis(*(kernel_NL[np.ix_(samples_M, kernels_L)] for kernel_NL in self))


@continuous
def mlmi(
    x_ND: np.ndarray,
    y_ND: np.ndarray,
    *,
    centres: int = 200,
    widths: Sequence[float] = WIDTHS,
    folds: int = 5,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Estimate:
    """The mean of log w(x, y) for the ratio w = Σ α_l φ_l of greatest likelihood.

    Suzuki, Sugiyama, Sese and Kanamori: Approximating mutual information by maximum likelihood density ratio
    estimation, JMLR W&CP 4 (2008): maximise ⟨log w⟩ over the samples where α ≥ 0 and the mean of w over all pairings of
    an x with a y is 1. φ_l is a product of Gaussian kernels at sample l, their width chosen by the likelihood of
    held-out folds. With β_l = α_l · (mean of φ_l over pairings) these are the weights of a mixture, so EM climbs to the
    paper's maximum, which is the only one; max_l ⟨φ_l / w⟩ / (mean of φ_l) − 1 bounds what is still missing.

    A constant among the φ is ours: it is the ratio under independence, and keeps samples far from every centre from a
    logarithm of 0. So is measuring widths in median distances between the centres, in x and in y. A kernel cannot be
    much narrower than the centres are apart: heavy dependence is underestimated.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy].
        centres: samples that carry a kernel, ≥ 1, drawn by `seed`; all where there are fewer.
        widths: to choose from, > 0, in median distances; one: no folds.
        folds: ≥ 2, at most N.
        tolerance: nats by which the likelihood may miss its maximum (ten times that while a width is chosen).
        seed: of centres and folds.

    Returns:
        The estimate; its details name the width and the nats that EM may have left.

    Raises:
        TypeError, ValueError: samples that do not fit, or a setting out of range.
    """
    _check(len(x_ND), centres, widths, folds)
    if not tolerance > 0:
        raise ValueError(f"tolerance = {tolerance}: use nats above 0, such as 1e-3")

    def score(train: _Basis, test: _Basis) -> np.ndarray:
        coefficients_L, _ = maximum_likelihood(train.of_pairs(), train.under_independence(), 10 * tolerance)
        with np.errstate(divide="ignore"):
            return np.log(test.of_pairs() @ coefficients_L).mean(keepdims=True)

    at_L = _centres(len(x_ND), centres, seed)
    bases = [_basis(x_ND, y_ND, at_L, width) for width in widths]
    chosen, _ = _select(bases, at_L, score, folds, seed)
    phi_NL = bases[chosen].of_pairs()
    coefficients_L, missing = maximum_likelihood(phi_NL, bases[chosen].under_independence(), tolerance)
    details = {"width": widths[chosen], "missing": missing}
    return Estimate(np.log(phi_NL @ coefficients_L).mean(), details=details)


@continuous
def lsmi(
    x_ND: np.ndarray,
    y_ND: np.ndarray,
    *,
    centres: int = 200,
    widths: Sequence[float] = WIDTHS,
    ridges: Sequence[float] = RIDGES,
    folds: int = 5,
    seed: int = 0,
) -> Estimate:
    """The mean of log w(x, y) for the ratio w = Σ α_l φ_l of least squares; what LSMI itself estimates is in details.

    Suzuki, Sugiyama, Kanamori and Sese: Mutual information estimation reveals global associations between stimuli and
    biological processes, BMC Bioinformatics 10 (2009) S52: α = (H + λI)⁻¹ h, with H the mean of φφᵀ over all pairings
    of an x with a y and h the mean of φ over the samples. Kernel width and λ are those of least ½ αᵀHα − hᵀα on folds
    held out.

    **LSMI's own value is no mutual information in nats** but the squared-loss one, ½ E_p(x)p(y)[(w − 1)²], estimated as
    ½ hᵀα − ½: details["squared_loss"]. The nats returned are the learned ratio's ⟨log w⟩ over the samples. The constant
    among the φ keeps the mean of w over all pairings within λ of 1, as a ratio's must be. Least squares lets w fall
    below 0 where samples are few: there w below 1e-3 is raised to it, and details["raised"] is the share of samples
    where that happened; the estimate is worth little once that is more than a few per cent.

    Basis and arguments are those of `mlmi`; ridges are λ > 0 to choose from.

    Raises:
        TypeError, ValueError: samples that do not fit, or a setting out of range.
    """
    _check(len(x_ND), centres, widths, folds)
    if not ridges or not all(0 < ridge < math.inf for ridge in ridges):
        raise ValueError(f"ridges = {tuple(ridges)}: use one λ above 0 or more")

    def score(train: _Basis, test: _Basis) -> np.ndarray:
        alpha_RL = least_squares(*_moments(train), ridges)
        H_LL, h_L = _moments(test)
        return alpha_RL @ h_L - np.einsum("rl,lm,rm->r", alpha_RL, H_LL, alpha_RL, optimize=True) / 2

    at_L = _centres(len(x_ND), centres, seed)
    bases = [_basis(x_ND, y_ND, at_L, width) for width in widths]
    chosen, ridge = _select(bases, at_L, score, folds, seed, alternatives=len(ridges))
    H_LL, h_L = _moments(bases[chosen])
    alpha_L = least_squares(H_LL, h_L, ridges)[ridge]
    ratio_N = bases[chosen].of_pairs() @ alpha_L
    details = {
        "squared_loss": h_L @ alpha_L / 2 - 0.5,
        "width": widths[chosen],
        "ridge": ridges[ridge],
        "raised": (ratio_N < _FLOOR).mean(),
    }
    return Estimate(np.log(np.maximum(ratio_N, _FLOOR)).mean(), details=details)


def maximum_likelihood(phi_NL: np.ndarray, mean_L: np.ndarray, tolerance: float) -> tuple[np.ndarray, float]:
    """α ≥ 0 [L] with Σ α_l mean_l = 1 that maximises ⟨log Σ α_l φ_l⟩, and the nats by which it may miss the maximum."""
    components_NL = phi_NL / mean_L
    weights_L = np.full(len(mean_L), 1 / len(mean_L))
    missing = math.inf
    for _ in range(_MAX_ITERATIONS):
        gains_L = (1 / (components_NL @ weights_L)) @ components_NL / len(components_NL)
        # The likelihood is concave in the weights: what any other gives is at most that along the best direction.
        missing = gains_L.max() - 1
        if missing < tolerance:
            break
        weights_L = weights_L * gains_L
    return weights_L / mean_L, missing


def least_squares(H_LL: np.ndarray, h_L: np.ndarray, ridges: Sequence[float]) -> np.ndarray:
    """(H + λI)⁻¹ h for each λ: [R, L]."""
    identity_LL = np.eye(len(h_L))
    return np.stack([solve(H_LL + ridge * identity_LL, h_L, assume_a="pos") for ridge in ridges])


def _moments(basis: _Basis) -> tuple[np.ndarray, np.ndarray]:
    """H and h of Suzuki et al. (2009): the mean over N² pairings is a product because φ is one."""
    x_LL, y_LL = (kernel_NL.T @ kernel_NL / len(kernel_NL) for kernel_NL in basis)
    return x_LL * y_LL, basis.of_pairs().mean(0)


def _centres(samples: int, centres: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(samples)[:centres])


def _basis(x_ND: np.ndarray, y_ND: np.ndarray, at_L: np.ndarray, width: float) -> _Basis:
    return _Basis(*(_kernels(values_ND, values_ND[at_L], width) for values_ND in (x_ND, y_ND)))


def _kernels(values_ND: np.ndarray, centres_LD: np.ndarray, width: float) -> np.ndarray:
    between = pdist(centres_LD)
    # Where most centres coincide the median says nothing; columns have variance 1.
    scale = np.median(between) if len(between) and np.median(between) > 0 else 1.0
    kernels_NL = np.exp(cdist(values_ND, centres_LD, "sqeuclidean") / (-2 * (width * scale) ** 2))
    return np.hstack((kernels_NL, np.ones((len(values_ND), 1))))


def _select(
    bases: list[_Basis],
    at_L: np.ndarray,
    score: Callable[[_Basis, _Basis], np.ndarray],
    folds: int,
    seed: int,
    *,
    alternatives: int = 1,
) -> tuple[int, int]:
    """The indices of the basis, and of the alternative within `score`, whose mean over held-out folds is highest."""
    if len(bases) * alternatives == 1:
        return 0, 0
    samples = np.arange(len(bases[0].x_NL))
    scores = np.zeros((len(bases), alternatives))
    for train, test in KFold(folds, shuffle=True, random_state=seed).split(samples):
        # A kernel whose centre is held out would know where that sample is; the constant has no centre.
        kernels_L = np.append(np.isin(at_L, train), True)
        for index, basis in enumerate(bases):
            scores[index] += score(basis.part(train, kernels_L), basis.part(test, kernels_L))
    best = np.unravel_index(scores.argmax(), scores.shape)
    return int(best[0]), int(best[1])


def _check(samples: int, centres: int, widths: Sequence[float], folds: int) -> None:
    if centres < 1:
        raise ValueError(f"centres = {centres}: use 1 or more; the papers use 200")
    if not widths or not all(0 < width < math.inf for width in widths):
        raise ValueError(f"widths = {tuple(widths)}: use one width above 0 or more, in median distances")
    if not 2 <= folds <= samples:
        raise ValueError(f"folds = {folds} of {samples} samples: use 2..{samples}; the papers use 5")
