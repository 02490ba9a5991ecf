"""Bounds of the information about discrete labels: their entropy, and a Gaussian lower bound that holds for labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import entr

from miseg.information.results import Estimate
from miseg.information.samples import read_samples


def label_entropy(y_ND: Any) -> float:
    """Entropy H(Y) of discrete vectors in nats, each distinct row a symbol: no mutual information with Y exceeds it.

    With the correction of Miller (1955), (symbols that occur − 1) / 2N. Where nearly every row differs from the others
    it is far too low: N samples show at most log N + ½ nats.

    Args:
        y_ND: [N, D] or [N], N ≥ 2.

    Raises:
        TypeError, ValueError: what are no finite numbers, or fewer than two samples.
    """
    _, y_ND = read_samples(y_ND, y_ND)
    return _entropy(y_ND) + (len(np.unique(y_ND, axis=0)) - 1) / (2 * len(y_ND))


def gaussian_label_bound(x_ND: Any, y_ND: Any, *, spacing: float = 1.0) -> Estimate:
    """H(Y) + D log w − ½ log((2πe)^D det(M + w²/12 I)): never above I(x; y), but for the samples' own noise.

    Zhao et al. (NeurIPS 2019, arXiv:1910.12037) bound I(Y; P) from below by h(Y) − ½ log((2πe)^D det M), M being the
    posterior covariance of Y given P, and drop h(Y). For labels h(Y) is −∞, and the bound says nothing. Here noise that
    is uniform in a cell of the values' spacing w makes labels continuous and loses nothing: h(Y + U | P) = H(Y | P) + D
    log w. Of all variables with a given covariance the Gaussian has the largest entropy, and M, the covariance of what
    is left of Y by linear regression on P, is no smaller than the mean of the conditional covariances; so the bound
    holds. It is loose where Y given P is far from Gaussian, as rare labels are, and may be far below 0.

    Args:
        x_ND: the predictions, [N, Dx] or [N].
        y_ND: the labels, [N, D] or [N], N > Dx + 1, every value a whole multiple of `spacing`.
        spacing: w > 0: 1 for one-hot labels, 1/DF² for their averages over DF x DF pixels.

    Raises:
        TypeError, ValueError: samples that do not fit, too few, or values that do not lie on the lattice.
    """
    x_ND, y_ND = read_samples(x_ND, y_ND)
    if not 0 < spacing < math.inf:
        raise ValueError(f"spacing = {spacing}: use the distance between neighbouring values of y, above 0")
    cells_ND = y_ND / spacing
    if np.abs(cells_ND - cells_ND.round()).max() > 1e-6:
        raise ValueError(f"y holds values that are no multiples of spacing = {spacing:g}: they are no labels")
    samples, columns = y_ND.shape
    if samples <= x_ND.shape[1] + 1:
        raise ValueError(f"{samples} samples for a regression on {x_ND.shape[1]} columns: use more")
    design = np.column_stack((np.ones(samples), x_ND))
    left_ND = y_ND - design @ np.linalg.lstsq(design, y_ND, rcond=None)[0]
    covariance = left_ND.T @ left_ND / (samples - design.shape[1]) + spacing**2 / 12 * np.eye(columns)
    entropy = _entropy(cells_ND.round())
    conditional = (columns * math.log(2 * math.pi * math.e) + np.linalg.slogdet(covariance)[1]) / 2
    return Estimate(entropy + columns * math.log(spacing) - conditional, details={"entropy": entropy})


def _entropy(y_ND: np.ndarray) -> float:
    counts = np.unique(y_ND, axis=0, return_counts=True)[1]
    return float(entr(counts / counts.sum()).sum())
