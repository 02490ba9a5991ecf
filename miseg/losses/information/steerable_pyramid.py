"""Complex steerable pyramid, as weights of a spectrum in the Gram matrices of its bands.

See `miseg.losses.information.complex_wavelet` for the bands, which are never computed.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LANES = 16
"""Columns that the loops of wavelet_spectra.c take at once."""


@dataclass
class Level:
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
    bands_FA: Tensor
    """Root of the weight of each band: float64 [frequencies, orientations], below 0 where the opposite is in it."""

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
def pyramid(size_HW: tuple[int, int], levels: int, orientations: int, device: torch.device) -> list[Level]:
    """Weights of each level for maps of this size.

    Args:
        size_HW: sides of the maps, each longer than 2^levels.
        levels: at least 1.
        orientations: A, at least 2; pairs of them are in the order of `torch.triu_indices`.
        device: where the weights lie.
    """
    height, width = size_HW
    down_H1 = 2 * math.pi * torch.fft.fftfreq(height, dtype=torch.float64, device=device).unsqueeze(1)
    across_W = 2 * math.pi * torch.fft.rfftfreq(width, dtype=torch.float64, device=device)
    radius_HW, angle_HW = torch.hypot(down_H1, across_W), torch.atan2(across_W, down_H1)
    first, second = torch.triu_indices(orientations, orientations, device=device)
    power = orientations - 1
    scale = 2 * 2**power * math.factorial(power) / math.sqrt(orientations * math.factorial(2 * power))
    directions_A = math.pi / orientations * torch.arange(orientations, dtype=torch.float64, device=device)
    # A band of a level has 4^(level − 1) times fewer pixels than the map, and Parseval divides by their number.
    all_levels = []
    for level in range(1, levels + 1):
        rows, columns = (0, width // 2 + 1) if level == 1 else (-(-height // 2**level), -(-width // 2**level))
        whole = Level(rows, columns, radius_HW, radius_HW, radius_HW)
        radius_F, angle_F = whole.block(radius_HW), whole.block(angle_HW)
        octave_F = torch.log2(2**level / math.pi * radius_F)
        radial_F = torch.where(octave_F.abs() < 1, torch.cos(math.pi / 2 * octave_F), 0)
        cosine_FA = torch.cos(angle_F.unsqueeze(1) - directions_A)
        energy_F1 = (radial_F.square() * 4 ** (level - 1) / (height * width)).unsqueeze(1)
        # The first column holds both a frequency and its opposite.
        energy_F1.view(-1, columns)[:, 0] /= 2
        bands_FA = energy_F1.sqrt() * scale * cosine_FA.sign() * cosine_FA.abs() ** power
        # A frequency is in the bands on its half-plane, its opposite in the others.
        here_FP, opposite_FP = (
            (sign * bands_FA[:, first]).clamp_min(0) * (sign * bands_FA[:, second]).clamp_min(0) for sign in (1, -1)
        )
        all_levels.append(Level(rows, columns, here_FP + opposite_FP, here_FP - opposite_FP, bands_FA))
    return all_levels


class Tables(NamedTuple):
    """The bands of all levels as the loops of wavelet_spectra.c take them.

    Attributes:
        levels_L4: int64, of each level the start of its bands, `Level.rows`, `Level.columns`, and its first range.
        bands: float32, of each level `Level.bands_FA` as [rows of the block, orientations, columns], padded to whole
            vectors. Rounded bands are bands: products of them in double precision make positive semidefinite matrices.
        ranges_R2: int64, of each row of each block the first column that has a weight, and the one after the last, in
            whole vectors.
    """

    levels_L4: Tensor
    bands: Tensor
    ranges_R2: Tensor


@functools.lru_cache(maxsize=8)
def tables(size_HW: tuple[int, int], levels: int, orientations: int) -> Tables:
    """`pyramid` on the CPU; arguments are the same."""
    about, bands, ranges, start, row = [], [], [], 0, 0
    for level in pyramid(size_HW, levels, orientations, torch.device("cpu")):
        bands_RCA = level.bands_FA.float().unflatten(0, (-1, level.columns))
        vectors = -(-level.columns // LANES)
        bands_RCA = F.pad(bands_RCA, (0, 0, 0, vectors * LANES - level.columns))
        shown_RV = (bands_RCA != 0).any(-1).unflatten(1, (vectors, LANES)).any(2)
        index_V = torch.arange(vectors)
        last_R = (shown_RV * (index_V + 1)).amax(1)
        first_R = index_V.where(shown_RV, vectors).amin(1).minimum(last_R)
        about.append((start, level.rows, level.columns, row))
        bands.append(bands_RCA.permute(0, 2, 1).flatten())
        ranges.append(LANES * torch.stack((first_R, last_R), 1))
        start, row = start + len(bands[-1]), row + len(ranges[-1])
    return Tables(torch.tensor(about), torch.cat(bands), torch.cat(ranges))
