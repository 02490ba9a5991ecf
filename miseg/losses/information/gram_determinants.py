"""Log determinant of what one set of bands leaves unexplained of another, from their Gram matrices."""

from __future__ import annotations

import torch
from torch import Tensor

DIAGONAL = 5e-4
"""α of the CWMI authors' code, added to the diagonal of the probabilities' Gram matrix."""


def log_det(grams_4BLP: Tensor, orientations: int, ridge: float) -> tuple[Tensor, Tensor]:
    """log det(M + ridge) of each map and level, and its gradient: see `complex_wavelet_mutual_information_parts`.

    The matrices are those of P and of the error E = Y − P, because M becomes small as the prediction becomes right.

    Args:
        grams_4BLP: float64 [4, B, levels, pairs], sums over frequencies: G_P, G_E, the real and the imaginary part of
            G_EP.
        orientations: A; pairs of them are in the order of `torch.triu_indices`.
        ridge: share of the mean label band's energy that is added to the diagonal of M.

    Returns:
        float64 [B, levels], NaN where there is none, and the gradient to the sums [4, B, levels, pairs].
    """
    first, second = torch.triu_indices(orientations, orientations, device=grams_4BLP.device)
    pair_AA = torch.empty(orientations, orientations, dtype=torch.long, device=grams_4BLP.device)
    pair_AA[first, second] = pair_AA[second, first] = torch.arange(len(first), device=grams_4BLP.device)
    of_p, of_e, real, imaginary = grams_4BLP[..., pair_AA]
    of_ep = torch.complex(real, imaginary)
    # Y = P + E, so tr(G_Y) does not depend on P.
    label_energy_BL = (of_p + of_e + 2 * real).diagonal(dim1=2, dim2=3).mean(2)
    eye_AA = torch.eye(orientations, dtype=torch.float64, device=grams_4BLP.device)
    # M is the Schur complement of G_P + αI in the matrix of (P, Y) with α beside P alone; with E in Y's place, the
    # α of P comes along, since E holds −P.
    upper = torch.cat((of_p + DIAGONAL * eye_AA, of_ep.mH - DIAGONAL * eye_AA), 3)
    ridge_BLAA = (DIAGONAL + ridge * label_energy_BL.clamp_min(DIAGONAL))[..., None, None] * eye_AA
    lower = torch.cat((of_ep - DIAGONAL * eye_AA, of_e + ridge_BLAA), 3)
    factor, info_BL = torch.linalg.cholesky_ex(torch.cat((upper, lower), 2))
    value_BL = 2 * factor.diagonal(dim1=2, dim2=3)[..., orientations:].real.log().sum(2)
    # log det M = log det of the whole − log det (G_P + αI), and d log det Σ = tr(Σ⁻¹ dΣ).
    weights = torch.cholesky_inverse(factor)
    p, e = slice(0, orientations), slice(orientations, None)
    of_p = weights[..., p, p].real - torch.cholesky_inverse(factor[..., p, p]).real
    of_ep = 2 * weights[..., p, e]
    entries = torch.stack((of_p, weights[..., e, e].real, of_ep.real, -of_ep.imag))
    entries = entries + entries.mT * (1 - eye_AA)
    return torch.where(info_BL == 0, value_BL, torch.nan), entries[..., first, second]
