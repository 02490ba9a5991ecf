"""Mutual information from canonical correlations."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.stats import chi2

from miseg.information.gaussian import canonical_sines
from miseg.information.results import Estimate
from miseg.information.samples import continuous

Components = int | Literal["all", "significant"]


@continuous
def cca(x_ND: np.ndarray, y_ND: np.ndarray, *, components: Components = "significant", level: float = 0.05) -> Estimate:
    """−½ Σ log(1 − ρ²) over canonical correlations ρ: exact for Gaussian variables, else blind to all but correlation.

    Kay: Feature discovery under contextual supervision using mutual information, IJCNN 1992; the baseline of Czyż et
    al.: Beyond normal, NeurIPS 2023 (arXiv:2306.11078). Canonical correlations of samples are too large, by which "all"
    of them add about Dx Dy / 2N nats of noise: it is `gaussian`, computed the same way. "significant" leaves out what
    independent columns would show too, and so gives 0 where nothing is correlated, but misses many weak correlations.

    "significant" is a sequence of likelihood-ratio tests, each of whether all correlations but the k largest are 0:

        −(N − 1 − k − (Dx + Dy + 1) / 2 + Σ_{i ≤ k} 1 / ρ_i²) Σ_{i > k} log(1 − ρ_i²)  ~  χ² of (Dx − k)(Dy − k) degrees

    (Bartlett, Biometrika 32 (1941), with Lawley's factor, Biometrika 46 (1959)), up to the first that is not rejected.
    The test is for Gaussian variables: heavy tails reject too often.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy], N > Dx + Dy + 1.
        components: the number of canonical correlations, the largest first; "all"; or those that are "significant".
        level: of each test, in 0..1; used by "significant" alone.

    Returns:
        nats, with `components`, how many were summed, and `largest`, the first correlation, among the details.

    Raises:
        TypeError, ValueError: samples that do not fit, too few, or a setting out of range.
        InfiniteInformationError: a linear combination of x's columns equals one of y's.
    """
    if isinstance(components, str):
        if components not in ("all", "significant"):
            raise ValueError(f"components = {components!r}: use 'all', 'significant', or a number of 1 or more")
    elif components < 1:
        raise ValueError(f"components = {components}: use 1 or more, 'all' or 'significant'")
    if not 0 < level < 1:
        raise ValueError(f"level = {level}: use a probability between 0 and 1, such as 0.05")
    sines_K, x_ND, y_ND = canonical_sines(x_ND, y_ND)
    # In logarithms of sines, which keep the digits that 1 − ρ² loses under heavy dependence.
    nats_K = -np.log(np.sort(sines_K))
    if components == "significant":
        count = significant(nats_K, len(x_ND), (x_ND.shape[1], y_ND.shape[1]), level)
    else:
        count = len(nats_K) if components == "all" else min(int(components), len(nats_K))
    largest = float(np.sqrt(-np.expm1(-2 * nats_K[0])))
    return Estimate(nats_K[:count].sum(), details={"components": count, "largest": largest})


def significant(nats_K: np.ndarray, samples: int, dims: tuple[int, int], level: float) -> int:
    """Number of canonical correlations that the tests of `cca` find above 0.

    Args:
        nats_K: −½ log(1 − ρ²) of each, the largest first.
        samples: N.
        dims: (Dx, Dy).
        level: of each test.
    """
    inverse_squares_K = 1 / np.maximum(-np.expm1(-2 * nats_K), np.finfo(float).tiny)
    for k in range(len(nats_K)):
        factor = samples - 1 - k - (sum(dims) + 1) / 2 + inverse_squares_K[:k].sum()
        statistic = factor * 2 * nats_K[k:].sum()
        if chi2.sf(statistic, (dims[0] - k) * (dims[1] - k)) > level:
            return k
    return len(nats_K)
