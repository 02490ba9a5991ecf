"""Log determinants of complex wavelet mutual information from spectra of maps, with their gradient.

See `miseg.losses.information.complex_wavelet`. P are probabilities, Y labels, E = Y − P the error.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miseg.losses.information import compiled
from miseg.losses.information.gram_determinants import log_det
from miseg.losses.information.steerable_pyramid import Level, pyramid, tables

_MAPS, _MAPS_GPU = 8, 64
"""Maps whose spectra PyTorch has at hand at once, on the CPU and on a GPU."""

_PIXELS = 1 << 21
"""Pixels of maps that the compiled loops have at hand at once."""


class LogDeterminants(torch.autograd.Function):
    """Sum of log det(M + ridge) over levels and the maps of `varied_B`, with its gradient to the probabilities.

    Gram matrices of spectra in float64 are positive semidefinite whatever the spectra's rounding.
    """

    @staticmethod
    def forward(
        ctx: Any,
        probabilities_BHW: Tensor,
        truth_BHW: Tensor,
        varied_B: Tensor,
        bands: tuple[int, int],
        ridge: float,
    ) -> Tensor:
        levels = pyramid(tuple(probabilities_BHW.shape[1:]), *bands, probabilities_BHW.device)
        total = torch.zeros((), dtype=torch.float64, device=probabilities_BHW.device)
        gradient_BHW = torch.zeros_like(probabilities_BHW) if ctx.needs_input_grad[0] else None
        for index_B in varied_B.split(_MAPS_GPU if probabilities_BHW.is_cuda else _MAPS):
            maps_BHW = probabilities_BHW[index_B]
            maps_2BHW = torch.stack((maps_BHW, truth_BHW[index_B].to(maps_BHW.dtype) - maps_BHW))
            spectra_2BHW = torch.fft.rfft2(maps_2BHW)
            grams_4BLP = _gram_sums(spectra_2BHW, levels)
            values_BL, of_grams_4BLP = log_det(grams_4BLP, bands[1], ridge)
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


class CompiledLogDeterminants(torch.autograd.Function):
    """The same from float32 logits, by the loops of wavelet_spectra.c, with its gradient to the logits.

    A few maps at a time: P + iE by the softmax, its transform, the Gram matrices; then the gradient's spectra, two maps
    as one complex one, and their transform. Probabilities are not kept: the gradient takes the softmax once more.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits_NKHW: Tensor,
        labels_NHW: Tensor,
        varied_NK: Tensor,
        bands: tuple[int, int],
        ridge: float,
    ) -> Tensor:
        images, _, *size = logits_NKHW.shape
        shift_NHW, inverse_NHW = (torch.empty((images, *size)) for _ in range(2))
        total = torch.zeros((), dtype=torch.float64)
        at_once = max(1, _PIXELS // (size[0] * size[1]) // 2) * 2
        maps_BHW = torch.empty((at_once, *size), dtype=torch.complex64)
        of_maps_NBHW: list[Tensor] = []
        for n, (logits_KHW, labels_HW) in enumerate(zip(logits_NKHW, labels_NHW, strict=True)):
            classes_B = varied_NK[n].nonzero().squeeze(1)
            softmax = shift_NHW[n], inverse_NHW[n]
            compiled.call("wavelet_softmax", logits_KHW, _image(logits_KHW, 0), *softmax)
            # Of the real and of the imaginary part of each, the gradient to a map.
            of_maps_BHW = torch.empty(((len(classes_B) + 1) // 2, *size), dtype=torch.complex64)
            for first in range(0, len(classes_B), at_once):
                part_B = classes_B[first : first + at_once]
                image = _image(logits_KHW, len(part_B))
                compiled.call("wavelet_maps", logits_KHW, labels_HW, image, part_B, *softmax, maps_BHW)
                values_BL, gradient_BHW = _of_maps(maps_BHW[: len(part_B)], bands, ridge, ctx.needs_input_grad[0])
                total += values_BL.sum()
                if gradient_BHW is not None:
                    of_maps_BHW[first // 2 : first // 2 + len(gradient_BHW)] = gradient_BHW
            of_maps_NBHW.append(of_maps_BHW)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(logits_NKHW, labels_NHW, varied_NK, shift_NHW, inverse_NHW, *of_maps_NBHW)
        return total.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor | None, ...]:
        logits_NKHW, labels_NHW, varied_NK, shift_NHW, inverse_NHW, *of_maps_NBHW = ctx.saved_tensors
        slots_NK = (varied_NK.cumsum(1) - 1).masked_fill_(~varied_NK, -1)
        gradient_NKHW, scale = torch.empty_like(logits_NKHW), ctypes.c_float(of_total.item())
        for n, of_maps_BHW in enumerate(of_maps_NBHW):
            image = _image(logits_NKHW[n], 2 * len(of_maps_BHW), gradient_NKHW[n])
            softmax = slots_NK[n], shift_NHW[n], inverse_NHW[n]
            arguments = image, *softmax, of_maps_BHW, scale, gradient_NKHW[n]
            compiled.call("wavelet_backward", logits_NKHW[n], labels_NHW[n], *arguments)
        return gradient_NKHW, None, None, None, None


def _of_maps(
    maps_BHW: Tensor, bands: tuple[int, int], ridge: float, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """[B, levels] of complex maps P + iE, and the gradient to P: of two maps one complex [(B + 1) // 2, H, W]."""
    maps, height, width = maps_BHW.shape
    levels, pairs = bands[0], bands[1] * (bands[1] + 1) // 2
    table, sizes = tables((height, width), *bands), compiled.structure(height, width, maps, levels, pairs)
    spectra_BHW = torch.fft.fft2(maps_BHW).contiguous()
    sums_BLP4 = torch.empty((maps, levels, pairs, 4), dtype=torch.float64)
    compiled.call("wavelet_grams", spectra_BHW, sizes, table.levels_L4, table.weights, table.ranges_R2, sums_BLP4)
    values_BL, of_grams_4BLP = log_det(sums_BLP4.permute(3, 0, 1, 2), bands[1], ridge)
    if not with_gradient:
        return values_BL, None
    factors_BLP3 = _spectrum_weights(of_grams_4BLP).permute(1, 2, 3, 0).float().contiguous()
    of_spectra_BHW = maps_BHW[: (maps + 1) // 2]  # what it holds has been transformed
    weights = table.levels_L4, table.single, table.ranges_R2
    compiled.call("wavelet_gradient", spectra_BHW, sizes, *weights, factors_BLP3, of_spectra_BHW)
    return values_BL, torch.fft.ifft2(of_spectra_BHW, norm="forward")


def _image(logits_KHW: Tensor, maps: int, gradient_KHW: Tensor | None = None) -> Any:
    strides = logits_KHW.stride(), (logits_KHW if gradient_KHW is None else gradient_KHW).stride()
    return compiled.structure(*logits_KHW.shape, maps, *strides[0], *strides[1])


def _gram_sums(spectra_2BHW: Tensor, levels: list[Level]) -> Tensor:
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


def _spectrum_gradient(spectra_2BHW: Tensor, of_grams_4BLP: Tensor, levels: list[Level]) -> Tensor:
    """Half spectrum for the inverse transform: complex [B, H, W // 2 + 1]."""
    weights_3BLP = _spectrum_weights(of_grams_4BLP)
    even_2BLP, odd_BLP = weights_3BLP[:2], weights_3BLP[2]
    size = spectra_2BHW.shape[1:]
    real_2BHW, imaginary_BHW = even_2BLP.new_empty((2, *size)), even_2BLP.new_empty(size)
    for index, level in enumerate(levels):
        level.add_to(real_2BHW, even_2BLP[:, :, index] @ level.table("even", odd_BLP.dtype).mT)
        level.add_to(imaginary_BHW, odd_BLP[:, index] @ level.table("odd", odd_BLP.dtype).mT)
    gradient_BHW = torch.complex(real_2BHW[0], imaginary_BHW) * spectra_2BHW[0]
    gradient_BHW += torch.complex(real_2BHW[1], imaginary_BHW) * spectra_2BHW[1]
    # The inverse transform counts each column twice, for the opposite frequencies, but the first.
    gradient_BHW[..., 0] *= 2
    return gradient_BHW


def _spectrum_weights(of_grams_4BLP: Tensor) -> Tensor:
    """[3, B, levels, pairs]: of P's and E's spectra by even weights, and of i times both by odd ones. dE = −dP."""
    of_p, of_e, real, imaginary = of_grams_4BLP
    return torch.stack((of_p - real / 2, real / 2 - of_e, imaginary / -2))
