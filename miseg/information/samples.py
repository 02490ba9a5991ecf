"""Samples as estimators take them: checked, and with columns on one scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from miseg.information.results import Estimate


class InfiniteInformationError(ValueError):
    """The samples of one side determine the other's, so that their mutual information has no finite estimate."""


def read_samples(x_ND: Any, y_ND: Any) -> tuple[np.ndarray, np.ndarray]:
    """float64 [N, Dx] and [N, Dy] from arrays, tensors or sequences of numbers; [N] counts as [N, 1].

    Raises:
        TypeError: values that are no real numbers.
        ValueError: another number of axes, unequal numbers of samples, fewer than two, no column, or nan or infinity.
    """
    x_ND, y_ND = (_matrix(values, name) for values, name in ((x_ND, "x"), (y_ND, "y")))
    if len(x_ND) != len(y_ND):
        raise ValueError(f"x has {len(x_ND)} samples and y {len(y_ND)}: they are drawn in pairs")
    if len(x_ND) < 2:
        raise ValueError(f"{len(x_ND)} samples: at least 2 are needed")
    return x_ND, y_ND


def _matrix(values: Any, name: str) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} of type {array.dtype}: expected real numbers")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} of shape {array.shape}: expected [N] or [N, D] with D ≥ 1")
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(
            f"{name} holds {bad.sum()} values that are nan or infinite, the first in sample {bad.any(1).argmax()}: "
            "leave such samples out of both x and y"
        )
    return array


def standardise(values_ND: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1, without those that are constant, which carry no information."""
    values_ND = values_ND[:, values_ND.min(0) < values_ND.max(0)]
    # Squares of what is beyond 1e154 or below 1e-154 would leave the range of float64.
    values_ND = values_ND / np.abs(values_ND).max(0)
    values_ND = values_ND - values_ND.mean(0)
    values_ND = values_ND / np.abs(values_ND).max(0)
    return values_ND / values_ND.std(0)


Estimator = Callable[..., Estimate]
"""(x_ND, y_ND, **settings) -> Estimate."""


def in_drawn_order(x_ND: np.ndarray, y_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs in an order drawn by their values, which is the same in whatever order they come.

    Samples are a set, and an estimator that draws some by their numbers shall draw the same ones from every listing.
    A pair's lot is the sum, modulo 2^64, of one for each column's rank. So it stays where columns are shifted, scaled
    or change places, where x and y do, and where a constant column is added. Pairs with one lot, whose ranks
    are the same but for the columns, follow each other by their values.
    """
    both_ND = np.hstack((x_ND, y_ND))
    ranks_ND = np.stack([np.unique(column, return_inverse=True)[1] for column in both_ND.T], 1)
    keys_N = _mixed(ranks_ND.astype(np.uint64)).sum(1, dtype=np.uint64)
    sums_N = sum(
        (values / max(np.abs(values).max(), np.finfo(float).tiny) for values in both_ND.T), np.zeros(len(x_ND))
    )
    order_N = np.lexsort((*ranks_ND.T[::-1], sums_N, keys_N))
    return x_ND[order_N], y_ND[order_N]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Each number's bits spread over 64: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). 0 stays 0."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def continuous(estimator: Estimator) -> Estimator:
    """Checks the samples and hands them on standardised, in drawn order; 0 nats where a side is constant.

    Mutual information does not change where columns are shifted and scaled, but most estimators do. Nor does it where
    the pairs come in another order, but what draws some of them by their numbers does.
    """

    @wraps(estimator)
    def checked(x_ND: Any, y_ND: Any, **settings: Any) -> Estimate:
        x_ND, y_ND = (standardise(values) for values in in_drawn_order(*read_samples(x_ND, y_ND)))
        if x_ND.shape[1] == 0 or y_ND.shape[1] == 0:
            return Estimate(0.0)
        return estimator(x_ND, y_ND, **settings)

    return checked
