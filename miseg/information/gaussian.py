"""Mutual information through entropies beside the Gaussian's: Gaussian, Edgeworth and kernel density estimates.

With S the covariance and J the negentropy (the Gaussian's entropy less the variable's own, which no linear map changes)

    I(x; y) = ½ log(det S_x det S_y / det S_xy) + J(x, y) − J(x) − J(y)

(Comon: Independent component analysis, Signal Processing 1994). The estimators here differ in J.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy.linalg import orth, subspace_angles
from scipy.spatial.distance import cdist
from scipy.special import digamma, logsumexp

from miseg.information.results import Estimate
from miseg.information.samples import InfiniteInformationError, continuous

Bandwidth = Literal["silverman", "scott"]

_BLOCK = 512
"""Rows of a distance matrix held at once: 40 MB for 10 000 samples."""


class _Whitened(NamedTuple):
    """The Gaussian part in nats, and x, y and both with mean 0 and the identity for covariance."""

    nats: float
    x_ND: np.ndarray
    y_ND: np.ndarray
    xy_ND: np.ndarray


def canonical_sines(x_ND: np.ndarray, y_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sines of the canonical angles, and orthonormal bases of the columns of x and of y, both of mean 0.

    The canonical correlations ρ are the angles' cosines. Columns that others of the same side determine are left out of
    the bases: they add nothing to what the side tells.

    Returns:
        √(1 − ρ²) of each of the min(Dx, Dy) angles, float64 [K]; [N, Dx] and [N, Dy].

    Raises:
        ValueError: too few samples.
        InfiniteInformationError: a linear combination of x's columns equals one of y's.
    """
    samples, columns = len(x_ND), x_ND.shape[1] + y_ND.shape[1]
    if samples <= columns + 1:
        raise ValueError(
            f"{samples} samples of {columns} columns have a singular covariance: use more than {columns + 1} samples, "
            "or fewer columns"
        )
    x_ND, y_ND = orth(x_ND), orth(y_ND)
    # Sines keep the digits that 1 − ρ² loses under heavy dependence.
    sines_K = np.sin(subspace_angles(x_ND, y_ND))
    if sines_K.min() < 1e-12:
        raise _infinite()
    return sines_K, x_ND, y_ND


def _infinite() -> InfiniteInformationError:
    return InfiniteInformationError(
        "a linear combination of x's columns equals one of y's: their joint covariance is singular and the mutual "
        "information infinite; leave the shared column out of one side"
    )


def _whiten(x_ND: np.ndarray, y_ND: np.ndarray) -> _Whitened:
    sines_K, x_ND, y_ND = canonical_sines(x_ND, y_ND)
    xy_ND = orth(np.hstack((x_ND, y_ND)))
    if xy_ND.shape[1] < x_ND.shape[1] + y_ND.shape[1]:
        raise _infinite()
    # det S_xy / det S_x det S_y is the product of 1 − ρ².
    scaled = (math.sqrt(len(x_ND)) * values for values in (x_ND, y_ND, xy_ND))
    return _Whitened(-np.log(sines_K).sum(), *scaled)


@continuous
def gaussian(x_ND: np.ndarray, y_ND: np.ndarray, *, unbiased: bool = False) -> Estimate:
    """½ log(det S_x det S_y / det S_xy): exact for Gaussian variables, else blind to all but correlation.

    It is a lower bound for variables with Gaussian marginals, and for others neither bound.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy], N > Dx + Dy + 1.
        unbiased: whether the bias of the log-determinants of Gaussian samples is taken off: ½ Σ_i ψ((N − i) / 2) a
            determinant, i = 1..D (Misra, Singh and Demchuk, Journal of Multivariate Analysis 2005); about Dx Dy / 2N.

    Raises:
        TypeError, ValueError: samples that do not fit, or too few.
        InfiniteInformationError: a linear combination of x's columns equals one of y's.
    """
    whitened = _whiten(x_ND, y_ND)
    if not unbiased:
        return Estimate(whitened.nats)
    samples = len(x_ND)
    x, y, xy = (
        digamma((samples - np.arange(1, values.shape[1] + 1)) / 2).sum() / 2
        for values in (whitened.x_ND, whitened.y_ND, whitened.xy_ND)
    )
    bias = x + y - xy
    return Estimate(whitened.nats - bias, details={"bias": bias})


@continuous
def edgeworth(x_ND: np.ndarray, y_ND: np.ndarray) -> Estimate:
    """The Gaussian's, with negentropies from the Edgeworth expansion to third-order cumulants.

    Van Hulle: Edgeworth approximation of multivariate differential entropy, Neural Computation 17 (2005). For whitened
    variables J ≈ (1/12) Σ_ijk κ_ijk² over all ordered triples, that is 1/12 Σ κ_iii² + 1/4 Σ κ_iij² + 1/2 Σ κ_ijk²
    with i < j < k in the last; where the last weight is printed as 1/72, rotating the whitened variables would change
    the entropy. For variables near Gaussian only: J ignores all but skewness, has no ceiling for heavy tails, and
    noise in the D³ cumulants raises the estimate by about ((Dx + Dy)³ − Dx³ − Dy³) / 2N.

    It fails downward too, far below 0: J(x) and J(y) are taken off, and an outlier of one side alone has its whole
    third cumulant there. Of 2,000 samples of a Cauchy pair (`student-1x1-dof1`, 0.64 nats) five seeds gave −70 to 26
    nats. A value below 0 or of many nats says that the samples are not near Gaussian, and nothing else.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy], N > Dx + Dy + 1.

    Raises:
        TypeError, ValueError: samples that do not fit, or too few.
        InfiniteInformationError: a linear combination of x's columns equals one of y's.
    """
    whitened = _whiten(x_ND, y_ND)
    x, y, xy = (_third_order(values) for values in (whitened.x_ND, whitened.y_ND, whitened.xy_ND))
    return Estimate(whitened.nats + xy - x - y, details={"gaussian": whitened.nats})


def _third_order(values_ND: np.ndarray) -> float:
    cumulants_DDD = sum(
        np.einsum("ni,nj,nk->ijk", *[values_ND[start : start + _BLOCK]] * 3, optimize=True)
        for start in range(0, len(values_ND), _BLOCK)
    ) / len(values_ND)
    return (cumulants_DDD**2).sum() / 12


@continuous
def kde(x_ND: np.ndarray, y_ND: np.ndarray, *, bandwidth: Bandwidth | float = "silverman") -> Estimate:
    """The mean of log p(x, y) / p(x) p(y) over the samples, each density estimated from the other samples.

    Moon, Rajagopalan and Lall: Estimation of mutual information using kernel density estimators, Physical Review E 52
    (1995): Gaussian kernels with the samples' covariance times h², D the columns of x, of y or of both,

        "silverman"  h = (4 / (D + 2) N)^(1 / (D + 4)), the best for Gaussian samples,
        "scott"      h = N^(−1 / (D + 4)).

    Leaving the sample itself out keeps a small h from rewarding itself. Smoothing widens the joint density more than
    the marginals: dependence is underestimated off the Gaussian, and in ten columns the densities are hardly known
    at all. The cost is O(N² (Dx + Dy)).

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy], N > Dx + Dy + 1.
        bandwidth: a rule, or h > 0 for all three densities, in standard deviations.

    Raises:
        TypeError, ValueError: samples that do not fit, too few, or a bandwidth out of range.
        InfiniteInformationError: a linear combination of x's columns equals one of y's.
    """
    if isinstance(bandwidth, str):
        if bandwidth not in get_args(Bandwidth):
            raise ValueError(f"bandwidth = {bandwidth!r}: use one of {', '.join(get_args(Bandwidth))}, or a number")
    elif not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth = {bandwidth}: use a number above 0 (standard deviations), or a rule")
    whitened = _whiten(x_ND, y_ND)
    x, y, xy = (_kernel_negentropy(values, bandwidth) for values in (whitened.x_ND, whitened.y_ND, whitened.xy_ND))
    return Estimate(whitened.nats + xy - x - y, details={"gaussian": whitened.nats})


def _kernel_negentropy(values_ND: np.ndarray, bandwidth: str | float) -> float:
    samples, columns = values_ND.shape
    if isinstance(bandwidth, str):
        factor = 4 / (columns + 2) if bandwidth == "silverman" else 1
        width = float((factor / samples) ** (1 / (columns + 4)))
    else:
        width = bandwidth
    log_kernels = []
    for start in range(0, samples, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, samples))
        exponents = cdist(values_ND[rows], values_ND, "sqeuclidean") / (-2 * width**2)
        exponents[np.arange(len(rows)), rows] = -np.inf
        log_kernels.append(logsumexp(exponents, axis=1))
    log_density = np.concatenate(log_kernels).mean() - math.log(samples - 1) - columns * math.log(width)
    # (2π)^(D/2) of the kernel cancels against that in the Gaussian's entropy D/2 · log 2πe.
    return log_density + columns / 2
