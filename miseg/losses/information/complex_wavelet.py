"""Complex wavelet mutual information loss (CWMI): mutual information of the bands of a complex steerable pyramid.

Lu: Complex Wavelet Mutual Information Loss, 2025 (arXiv:2502.00563), as its code computes it, but for what
`complex_wavelet_mutual_information_parts` lists.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miseg.interface import IGNORE_INDEX
from miseg.losses.labels import shares_and_truth

DIAGONAL = 5e-4
"""α of the authors' code, added to the diagonal of the probabilities' Gram matrix."""

_MAPS, _MAPS_GPU = 8, 64
"""Maps whose spectra are at hand at once, on the CPU and on a GPU."""


def complex_wavelet_mutual_information_parts(
    logits_NKHW: Tensor,
    labels_NHW: Tensor,
    *,
    levels: int = 4,
    orientations: int = 4,
    ridge: float = 1e-6,
    ignore_index: int = IGNORE_INDEX,
) -> tuple[Tensor, Tensor]:
    """Log determinant of what the probabilities' bands leave unexplained of the labels' bands, summed over levels.

    A band is a map filtered by a two-octave bump of frequencies around π / 2^level, on the half-plane around one of A
    orientations; its values are complex. With Gram matrices G of the A bands, sums over pixels, of the one-hot labels Y
    and the softmax probabilities P of a class in an image, a level adds

        log det(M + ridge · tr(G_Y) / A · I),    M = G_Y − G_YP (G_P + αI)⁻¹ G_YPᴴ,    α = 5e-4,

    which is ½ log det of the real 2A x 2A matrix that the authors write. It is usually positive for large images, and
    falls as P explains Y. Any affine function of Y explains it, 1 − Y as well: mix the loss with cross-entropy.

    No band is computed: by Parseval, every Gram matrix is a weighted sum of the maps' spectra. So sides may be any that
    are longer than 2^levels; maps are periodic, as the Fourier transform takes them, and nothing is padded.

    Other than in the authors' code: filters lie at the spectrum's frequencies, where the code's lie a bin beside them
    for even sides; M has a ridge; a class that an image does not show, or shows everywhere, is left out of the mean,
    as its M is 0 whatever the probabilities; pixels that do not count are 0 in both maps and have a gradient of
    exactly 0.
    Spectra are taken in float32 (float64 for float64 logits), Gram matrices in float64, under autocast too.

    Args:
        logits_NKHW: floating [N, K, H, W], before the softmax.
        labels_NHW: integers [N, H, W]; those outside 0..K-1 do not count.
        levels: of the pyramid, at least 1.
        orientations: A, at least 2.
        ridge: above 0, the share of the mean label band's energy that is added to the diagonal of M.
        ignore_index: label value of pixels that do not count.

    Returns:
        Scalars: the sum over images and the classes that each shows, and the number of these, without gradient. Both
        are 0 where nothing counts; NaN logits give a NaN sum.

    Raises:
        ValueError: a setting out of range, logits or labels of another shape or type, or a side of 2^levels or fewer.
    """
    check_settings(levels, orientations, ridge)
    probabilities_NKHW, truth_NKHW, _ = shares_and_truth(logits_NKHW, labels_NHW, ignore_index)
    height, width = logits_NKHW.shape[2:]
    if min(height, width) <= 2**levels:
        raise ValueError(
            f"an image of {height} x {width} pixels has no band at level {levels}: use sides of {2**levels + 1} or "
            "more, or fewer levels"
        )
    probabilities_BHW, truth_BHW = probabilities_NKHW.flatten(0, 1), truth_NKHW.flatten(0, 1)
    pixels_B = truth_BHW.sum((1, 2))
    varied_B = ((pixels_B > 0) & (pixels_B < height * width)).nonzero().squeeze(1)
    count = probabilities_BHW.new_tensor(len(varied_B))
    with torch.autocast(logits_NKHW.device.type, enabled=False):
        total = _LogDeterminants.apply(probabilities_BHW, truth_BHW, varied_B, (levels, orientations), ridge)
    return total, count


def check_settings(levels: int, orientations: int, ridge: float) -> None:
    """Raise ValueError for settings that `complex_wavelet_mutual_information_parts` does not take."""
    if levels < 1:
        raise ValueError(f"levels = {levels}: use 1 or more; the paper uses 4")
    if orientations < 2:
        raise ValueError(f"orientations = {orientations}: use 2 or more; the paper uses 4")
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge = {ridge}: use a value above 0, such as 1e-6")


@dataclass
class _Level:
    """Weights of a level's spectrum in the Gram matrices, for the frequencies of `block`.

    A frequency and its opposite, whose spectrum is the conjugate, are one row.
    """

    rows: int
    """Of the block: 0, `rows` − 1 positive frequencies and as many negative; 0 where the block is the spectrum."""
    columns: int
    even_FP: Tensor
    """Of the spectrum's real part: float64 [frequencies, pairs of orientations]."""
    odd_FP: Tensor
    """Of its imaginary part."""

    def __post_init__(self) -> None:
        self._tables: dict[tuple[str, torch.dtype], Tensor] = {}

    def table(self, name: str, dtype: torch.dtype) -> Tensor:
        """Either of the weights in this precision, made once."""
        if (name, dtype) not in self._tables:
            self._tables[name, dtype] = (self.even_FP if name == "even" else self.odd_FP).to(dtype)
        return self._tables[name, dtype]

    def block(self, spectra: Tensor) -> Tensor:
        """[…, F] of spectra […, H, W // 2 + 1]."""
        if not self.rows:
            return spectra.flatten(-2)
        return torch.cat([spectra[..., rows, : self.columns] for rows in self._slices()], -2).flatten(-2)

    def add_to(self, spectra: Tensor, block: Tensor) -> None:
        """Adds the block where it was taken from; one that is the spectrum takes its place."""
        if not self.rows:
            spectra.copy_(block.view_as(spectra))
            return
        block = block.unflatten(-1, (-1, self.columns))
        positive, negative = self._slices()
        spectra[..., positive, : self.columns] += block[..., : self.rows, :]
        spectra[..., negative, : self.columns] += block[..., self.rows :, :]

    def _slices(self) -> tuple[slice, slice]:
        return slice(0, self.rows), slice(1 - self.rows, None)


@functools.lru_cache(maxsize=8)
def _pyramid(size_HW: tuple[int, int], levels: int, orientations: int, device: torch.device) -> list[_Level]:
    height, width = size_HW
    down_H1 = 2 * math.pi * torch.fft.fftfreq(height, dtype=torch.float64, device=device).unsqueeze(1)
    across_W = 2 * math.pi * torch.fft.rfftfreq(width, dtype=torch.float64, device=device)
    radius_HW, angle_HW = torch.hypot(down_H1, across_W), torch.atan2(across_W, down_H1)
    first, second = torch.triu_indices(orientations, orientations, device=device)
    power = orientations - 1
    scale = 2 * 2**power * math.factorial(power) / math.sqrt(orientations * math.factorial(2 * power))
    directions_A = math.pi / orientations * torch.arange(orientations, dtype=torch.float64, device=device)
    # A band of a level has 4^(level − 1) times fewer pixels than the map, and Parseval divides by their number.
    pyramid = []
    for level in range(1, levels + 1):
        rows, columns = (0, width // 2 + 1) if level == 1 else (-(-height // 2**level), -(-width // 2**level))
        whole = _Level(rows, columns, radius_HW, radius_HW)
        radius_F, angle_F = whole.block(radius_HW), whole.block(angle_HW)
        octave_F = torch.log2(2**level / math.pi * radius_F)
        radial_F = torch.where(octave_F.abs() < 1, torch.cos(math.pi / 2 * octave_F), 0)
        cosine_FA = torch.cos(angle_F.unsqueeze(1) - directions_A)
        ahead_FA, behind_FA = (scale * (sign * cosine_FA).clamp_min(0) ** power for sign in (1, -1))
        here_FP, opposite_FP = (band[:, first] * band[:, second] for band in (ahead_FA, behind_FA))
        energy_F1 = (radial_F.square() * 4 ** (level - 1) / (height * width)).unsqueeze(1)
        # The first column holds both a frequency and its opposite.
        energy_F1.view(-1, columns)[:, 0] /= 2
        pyramid.append(_Level(rows, columns, energy_F1 * (here_FP + opposite_FP), energy_F1 * (here_FP - opposite_FP)))
    return pyramid


class _LogDeterminants(torch.autograd.Function):
    """Sum of log det(M + ridge) over levels and the maps of `varied_B`, with its gradient to the probabilities.

    The matrices are those of P and of the error E = Y − P, because M becomes small as the prediction becomes right.
    Gram matrices of spectra in float64 are positive semidefinite whatever the spectra's rounding.
    """

    @staticmethod
    def forward(
        ctx: Any,
        probabilities_BHW: Tensor,
        truth_BHW: Tensor,
        varied_B: Tensor,
        pyramid: tuple[int, int],
        ridge: float,
    ) -> Tensor:
        levels = _pyramid(tuple(probabilities_BHW.shape[1:]), *pyramid, probabilities_BHW.device)
        total = torch.zeros((), dtype=torch.float64, device=probabilities_BHW.device)
        gradient_BHW = torch.zeros_like(probabilities_BHW) if ctx.needs_input_grad[0] else None
        for index_B in varied_B.split(_MAPS_GPU if probabilities_BHW.is_cuda else _MAPS):
            maps_BHW = probabilities_BHW[index_B]
            maps_2BHW = torch.stack((maps_BHW, truth_BHW[index_B].to(maps_BHW.dtype) - maps_BHW))
            spectra_2BHW = torch.fft.rfft2(maps_2BHW)
            grams_4BLP = _gram_sums(spectra_2BHW, levels)
            values_BL, of_grams_4BLP = _log_det(grams_4BLP, pyramid[1], ridge)
            total += values_BL.sum()
            if gradient_BHW is not None:
                of_spectra_BHW = _spectrum_gradient(spectra_2BHW, of_grams_4BLP.to(maps_BHW.dtype), levels)
                size = maps_BHW.shape[1:]
                gradient_BHW[index_B] = torch.fft.irfft2(of_spectra_BHW, size, norm="forward")
        if gradient_BHW is not None:
            ctx.save_for_backward(gradient_BHW)
        return total.to(probabilities_BHW.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_BHW,) = ctx.saved_tensors
        return gradient_BHW * of_total, None, None, None, None


def _gram_sums(spectra_2BHW: Tensor, levels: list[_Level]) -> Tensor:
    """float64 [4, B, levels, pairs]: G_P, G_E, and the real and the imaginary part of G_EP."""
    (p_re, e_re), (p_im, e_im) = spectra_2BHW.real.double(), spectra_2BHW.imag.double()
    energies_4BHW = p_re.new_empty((4, *p_re.shape))
    torch.mul(p_re, p_re, out=energies_4BHW[0]).addcmul_(p_im, p_im)
    torch.mul(e_re, e_re, out=energies_4BHW[1]).addcmul_(e_im, e_im)
    torch.mul(e_re, p_re, out=energies_4BHW[2]).addcmul_(e_im, p_im)
    torch.mul(e_im, p_re, out=energies_4BHW[3]).addcmul_(e_re, p_im, value=-1)
    sums = []
    for level in levels:
        energies_4BF = level.block(energies_4BHW)
        sums.append(torch.cat((energies_4BF[:3] @ level.even_FP, energies_4BF[3:] @ level.odd_FP)))
    return torch.stack(sums, 2)


def _log_det(grams_4BLP: Tensor, orientations: int, ridge: float) -> tuple[Tensor, Tensor]:
    """log det(M + ridge) [B, levels], NaN where it has none, and its gradient [4, B, levels, pairs]."""
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


def _spectrum_gradient(spectra_2BHW: Tensor, of_grams_4BLP: Tensor, levels: list[_Level]) -> Tensor:
    """Half spectrum for the inverse transform: complex [B, H, W // 2 + 1]."""
    of_p, of_e, real, imaginary = of_grams_4BLP
    # dE = −dP. The inverse transform counts each column twice, for the opposite frequencies, but the first.
    even_2BLP, odd_BLP = torch.stack((of_p - real / 2, real / 2 - of_e)), imaginary / -2
    size = spectra_2BHW.shape[1:]
    real_2BHW, imaginary_BHW = even_2BLP.new_empty((2, *size)), even_2BLP.new_empty(size)
    for index, level in enumerate(levels):
        level.add_to(real_2BHW, even_2BLP[:, :, index] @ level.table("even", of_p.dtype).mT)
        level.add_to(imaginary_BHW, odd_BLP[:, index] @ level.table("odd", of_p.dtype).mT)
    gradient_BHW = torch.complex(real_2BHW[0], imaginary_BHW) * spectra_2BHW[0]
    gradient_BHW += torch.complex(real_2BHW[1], imaginary_BHW) * spectra_2BHW[1]
    gradient_BHW[..., 0] *= 2
    return gradient_BHW
