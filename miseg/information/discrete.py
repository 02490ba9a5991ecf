"""Mutual information of discrete variables, and of continuous ones cut into bins."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import entr

from miseg.information.results import Estimate
from miseg.information.samples import continuous, read_samples

Correction = Literal["miller-madow", "none"]

_PER_CELL = 5
"""Samples that a cell of the joint table should expect: Cellucci, Albano and Rapp (2005) after Cochran's rule."""


def plug_in(joint_KL: Any, *, samples: float | None = None, correction: Correction = "miller-madow") -> Estimate:
    """Σ p_kl log(p_kl / p_k p_l) of a joint table, with the correction of Miller (1955) for its upward bias.

    The bias of an entropy is −(cells occupied − 1) / 2N to first order (Paninski: Estimation of entropy and mutual
    information, Neural Computation 2003), so (K + L − KL − 1) / 2N is added here, counting the rows,
    columns and cells that are occupied. Of independent variables the corrected value may be negative; it is never above
    log min(K, L), which no information between K and L symbols exceeds. Of samples, K and L are the distinct ones.

    Args:
        joint_KL: counts or masses ≥ 0, [K, L], of any sum above 0; x in rows, y in columns. A soft table, such as the
            mean of outer products of probabilities, will do.
        samples: N, the number of samples that the table sums up; None: the table holds counts, and N is their sum.
        correction: "miller-madow", or "none" for a table that is no estimate but the truth.

    Raises:
        ValueError: a table that is none, a setting out of range, or a correction asked of masses without `samples`.
    """
    _check_correction(correction)
    if hasattr(joint_KL, "detach"):
        joint_KL = joint_KL.detach().cpu()
    table_KL = np.asarray(joint_KL, dtype=np.float64)
    if table_KL.ndim != 2 or not np.isfinite(table_KL).all() or (table_KL < 0).any() or not table_KL.sum() > 0:
        raise ValueError(f"a joint table of shape {table_KL.shape}: expected [K, L], finite, ≥ 0, not all 0")
    if correction != "none" and samples is None:
        if (table_KL != np.round(table_KL)).any():
            raise ValueError("masses that are no counts: give samples=N for the correction, or correction='none'")
        samples = table_KL.sum()
    if samples is not None and not samples > 0:
        raise ValueError(f"samples = {samples}: use the number of samples that the table sums up, above 0")
    masses = table_KL.sum(1), table_KL.sum(0), table_KL.ravel()
    return _of_masses(*masses, min(table_KL.shape), samples if correction != "none" else None)


def plug_in_samples(x_ND: Any, y_ND: Any, *, correction: Correction = "miller-madow") -> Estimate:
    """`plug_in` of the joint table of integer samples [N, Dx] and [N, Dy]; each distinct row is one symbol.

    Raises:
        TypeError, ValueError: samples that do not fit or are no integers, or an unknown correction.
    """
    _check_correction(correction)
    x_ND, y_ND = read_samples(x_ND, y_ND)
    for values, name in ((x_ND, "x"), (y_ND, "y")):
        if (values != np.round(values)).any():
            raise ValueError(f"{name} holds values that are no integers: use 'histogram' or 'ksg', or label them first")
    return _of_rows(x_ND, y_ND, correction)


@continuous
def histogram(
    x_ND: np.ndarray, y_ND: np.ndarray, *, bins: int | None = None, correction: Correction = "miller-madow"
) -> Estimate:
    """Plug-in of a histogram whose bins hold equally many samples in every column.

    Equal masses make the estimate unchanged by monotone transforms of a column. By rule the number of bins B is
    the largest that leaves N / B^(Dx + Dy) ≥ 5 samples a cell under independence: Cellucci, Albano and Rapp:
    Statistical validation of mutual information calculations, Physical Review E 71 (2005) 066208. Equal values share a
    bin. Bins hide dependence finer than they are: at most min(Dx, Dy) log B nats can be seen, and with many columns
    nothing.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy].
        bins: B ≥ 2 in each column; None: the rule.
        correction: "miller-madow" or "none", as in `plug_in`.

    Raises:
        TypeError, ValueError: samples that do not fit, a setting out of range, or too few samples for two bins.
    """
    _check_correction(correction)
    samples, columns = len(x_ND), x_ND.shape[1] + y_ND.shape[1]
    if bins is None:
        # The tolerance keeps an exact power, such as 5 · 7², from losing a bin to rounding.
        bins = int((samples / _PER_CELL) ** (1 / columns) + 1e-9)
        if bins < 2:
            raise ValueError(
                f"{samples} samples in {columns} columns leave fewer than {_PER_CELL} a cell with two bins: use "
                f"{_PER_CELL} · 2^{columns} samples or more, fewer columns, or set bins"
            )
    if bins < 2:
        raise ValueError(f"bins = {bins}: use 2 or more, or None for the rule")
    estimate = _of_rows(_binned(x_ND, bins), _binned(y_ND, bins), correction)
    return Estimate(estimate, details={"bins": bins})


def _binned(values_ND: np.ndarray, bins: int) -> np.ndarray:
    # Edges are samples themselves, so that no interpolation depends on the column's scale.
    edges_BD = np.quantile(values_ND, np.arange(1, bins) / bins, axis=0, method="closest_observation")
    return np.stack([np.searchsorted(edges, values) for edges, values in zip(edges_BD.T, values_ND.T, strict=True)], 1)


def _of_rows(x_ND: np.ndarray, y_ND: np.ndarray, correction: str) -> Estimate:
    x, y, joint = (np.unique(rows, axis=0, return_counts=True)[1] for rows in (x_ND, y_ND, np.hstack((x_ND, y_ND))))
    return _of_masses(x, y, joint, min(len(x), len(y)), len(x_ND) if correction != "none" else None)


def _of_masses(x_K: np.ndarray, y_L: np.ndarray, joint_M: np.ndarray, symbols: int, samples: float | None) -> Estimate:
    entropies = [entr(masses / masses.sum()).sum() for masses in (x_K, y_L, joint_M)]
    nats = entropies[0] + entropies[1] - entropies[2]
    if samples is None:
        return Estimate(nats)
    occupied = [np.count_nonzero(masses) for masses in (x_K, y_L, joint_M)]
    correction = (occupied[0] + occupied[1] - occupied[2] - 1) / (2 * samples)
    return Estimate(min(nats + correction, math.log(symbols)), details={"plug_in": nats, "correction": correction})


def _check_correction(correction: str) -> None:
    if correction not in get_args(Correction):
        raise ValueError(f"correction = {correction!r}: use one of {', '.join(get_args(Correction))}")
