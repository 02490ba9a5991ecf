"""Mutual information from the distances of nearest neighbours."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma
from sklearn.neighbors import KDTree, NearestNeighbors

from miseg.information.results import Estimate
from miseg.information.samples import continuous


@continuous
def ksg(
    x_ND: np.ndarray, y_ND: np.ndarray, *, neighbours: int = 3, form: int = 1, jitter: float = 1e-10, seed: int = 0
) -> Estimate:
    """ψ(k) + ψ(N) less the mean of ψ over the numbers of neighbours in x and in y alone.

    Kraskov, Stögbauer and Grassberger: Estimating mutual information, Physical Review E 69 (2004) 066138
    (arXiv:cond-mat/0305641). Distances are maximum norms of standardised columns; ε_i is that from sample i to its k-th
    neighbour in x and y together.

        form 1, equation 8:  ψ(k) + ψ(N) − ⟨ψ(n_x + 1) + ψ(n_y + 1)⟩, with n_x the samples nearer than ε_i in x;
        form 2, equation 9:  ψ(k) − 1/k + ψ(N) − ⟨ψ(n_x) + ψ(n_y)⟩, with n_x those as near in x as the farthest, in x,
                             of the k neighbours.

    Both vanish in the mean under independence. They underestimate once dependence is so heavy that the density is not
    even within ε_i: N must grow exponentially with the mutual information (Gao, Ver Steeg and Galstyan, AISTATS 2015).

    Equal values break the counting of neighbours. Columns that hold any, and only those, get Gaussian noise, as the
    paper advises: so discrete columns have a finite estimate, but `plug_in` is the one for them.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy].
        neighbours: k, 1..N-1; the paper advises 2 to 4. A larger k has less variance and more bias.
        form: 1 or 2.
        jitter: the noise's standard deviation, in those of the column; 0: none, and then equal values as such.
        seed: of the noise.

    Raises:
        TypeError, ValueError: samples that do not fit, a setting out of range, or (without jitter) a sample that occurs
            more than k times.
    """
    samples = len(x_ND)
    if form not in (1, 2):
        raise ValueError(f"form = {form}: use 1 (equation 8) or 2 (equation 9)")
    if not 1 <= neighbours < samples:
        raise ValueError(
            f"neighbours = {neighbours} of {samples} samples: use 1..{samples - 1} (the number of other samples)"
        )
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter = {jitter}: use 0 (none) or a small part of a standard deviation, such as 1e-10")
    if jitter:
        generator = np.random.default_rng(seed)
        x_ND, y_ND = (_without_ties(values, jitter, generator) for values in (x_ND, y_ND))
    search = NearestNeighbors(n_neighbors=neighbours, metric="chebyshev").fit(np.hstack((x_ND, y_ND)))
    distances_NK, nearest_NK = search.kneighbors()
    if not distances_NK[:, -1].all():
        raise ValueError(
            f"sample {distances_NK[:, -1].argmin()} occurs more than {neighbours} times: set jitter (1e-10), or use "
            "more neighbours; for discrete variables use 'plug_in'"
        )
    if form == 1:
        # The next smaller number makes "nearer than" of "no farther than".
        radius_N = np.nextafter(distances_NK[:, -1], 0)
        counts = [_within(values, radius_N) for values in (x_ND, y_ND)]
        mean = sum(digamma(count_N + 1).mean() for count_N in counts)
        return Estimate(digamma(neighbours) + digamma(samples) - mean)
    counts = [_within(values, np.abs(values[nearest_NK] - values[:, None]).max((1, 2))) for values in (x_ND, y_ND)]
    mean = sum(digamma(count_N).mean() for count_N in counts)
    return Estimate(digamma(neighbours) - 1 / neighbours + digamma(samples) - mean)


def _without_ties(values_ND: np.ndarray, jitter: float, generator: np.random.Generator) -> np.ndarray:
    tied_D = np.array([len(np.unique(column)) < len(column) for column in values_ND.T])
    return values_ND + tied_D * jitter * generator.standard_normal(values_ND.shape)


def _within(values_ND: np.ndarray, radius_N: np.ndarray) -> np.ndarray:
    """Number of other samples within the radius of each, int64 [N]."""
    return KDTree(values_ND, metric="chebyshev").query_radius(values_ND, radius_N, count_only=True) - 1
