"""Mutual information of Gaussian variables from the correlation of their ranks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miseg.information import Estimate


def spearman(x_ND: Any, y_ND: Any) -> Estimate:
    """−½ log(1 − r²) of one column each, r = 2 sin(π ρ / 6) being Pearson's from Spearman's ρ (Pearson 1907)."""
    ranks = [np.asarray(values, dtype=float).ravel().argsort().argsort() for values in (x_ND, y_ND)]
    r = 2 * math.sin(math.pi * np.corrcoef(*ranks)[0, 1] / 6)
    return Estimate(-0.5 * math.log1p(-(r**2)))
