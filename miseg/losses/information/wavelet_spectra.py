"""Log determinants of complex wavelet mutual information from spectra of maps, with their gradient.

See `miseg.losses.information.complex_wavelet`. P are probabilities, Y labels, E = Y − P the error.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from miseg.losses.information import compiled
from miseg.losses.information.gram_determinants import DIAGONAL, log_det
from miseg.losses.information.steerable_pyramid import Level, pyramid, tables

_MAPS, _MAPS_GPU = 8, 64
"""Maps whose spectra PyTorch has at hand at once, on the CPU and on a GPU."""

_PIXELS = 1 << 18
"""Pixels of maps that the compiled loops have at hand at once, for each thread: few enough for a cache."""


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
        # An empty tensor is split into one empty part, which torch 2.4 cannot transform.
        for index_B in varied_B.split(_MAPS_GPU if probabilities_BHW.is_cuda else _MAPS) if len(varied_B) else ():
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

    A few maps at a time, so that they stay in the cache: P + iE, its transform, the Gram matrices; then the gradient's
    spectra, two maps as one complex one, and their transform.
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
        arguments = logits_NKHW, labels_NHW, varied_NK, bands, ridge
        total, ctx.slopes = _values_and_slopes(*arguments, with_slopes=ctx.needs_input_grad[0])
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(logits_NKHW, labels_NHW, varied_NK)
            ctx.settings = bands, ridge
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor | None, ...]:
        # The gradient takes the slopes' place: a second pass over a graph that was retained computes them anew.
        slopes, ctx.slopes = ctx.slopes, None
        logits_NKHW, labels_NHW, varied_NK = ctx.saved_tensors
        if slopes is None:
            _, slopes = _values_and_slopes(logits_NKHW, labels_NHW, varied_NK, *ctx.settings, with_slopes=True)
        gradient_NKHW = _gradient(logits_NKHW, labels_NHW, varied_NK, slopes, of_total.item())
        return gradient_NKHW, None, None, None, None


class _Slopes(NamedTuple):
    """Gradients of the maps, each times its probability, and what the gradient of the logits needs beside them.

    Attributes:
        slopes_NKHW: without values for classes that are not varied.
        mean_NHW: their sum over classes.
        shift_NHW: probabilities are e^(logit - shift) * inverse.
        inverse_NHW: see `shift_NHW`.
    """

    slopes_NKHW: Tensor
    mean_NHW: Tensor
    shift_NHW: Tensor
    inverse_NHW: Tensor


def _values_and_slopes(
    logits_NKHW: Tensor,
    labels_NHW: Tensor,
    varied_NK: Tensor,
    bands: tuple[int, int],
    ridge: float,
    *,
    with_slopes: bool,
) -> tuple[Tensor, _Slopes | None]:
    """The sum of `CompiledLogDeterminants`, and what its gradient is made of."""
    images, classes, *size = logits_NKHW.shape
    shift_NHW, inverse_NHW = torch.empty((images, *size)), torch.empty((images, *size))
    slopes_NKHW = torch.empty((images if with_slopes else 0, classes, *size))
    mean_NHW = torch.zeros((len(slopes_NKHW), *size))
    # What channels-last logits of a class are is copied, so that they lie side by side.
    planes_KHW = torch.empty((0 if logits_NKHW.stride(3) == 1 else classes, *size))
    at_once = max(1, _PIXELS * torch.get_num_threads() // (size[0] * size[1]) // 2) * 2
    maps_BHW = torch.empty((min(at_once, classes + classes % 2), *size), dtype=torch.complex64)
    total = torch.zeros((), dtype=torch.float64)
    for n, logits_KHW in enumerate(logits_NKHW):
        softmax = shift_NHW[n], inverse_NHW[n]
        compiled.call("wavelet_softmax", logits_KHW, _image(logits_KHW, 0), planes_KHW, *softmax)
        planar_KHW = planes_KHW if len(planes_KHW) else logits_KHW
        varied_B = varied_NK[n].nonzero().squeeze(1)
        for part_B in varied_B.split(at_once) if len(varied_B) else ():
            of_part = planar_KHW, labels_NHW[n], _image(planar_KHW, len(part_B)), part_B, *softmax
            compiled.call("wavelet_maps", *of_part, maps_BHW)
            values_BL, of_maps_BHW = _of_maps(maps_BHW[: len(part_B)], bands, ridge, with_slopes)
            total += values_BL.sum()
            if of_maps_BHW is not None:
                compiled.call("wavelet_slopes", *of_part, of_maps_BHW, slopes_NKHW[n], mean_NHW[n])
    return total.float(), _Slopes(slopes_NKHW, mean_NHW, shift_NHW, inverse_NHW) if with_slopes else None


def _gradient(logits_NKHW: Tensor, labels_NHW: Tensor, varied_NK: Tensor, slopes: _Slopes, of_total: float) -> Tensor:
    """The gradient of the logits in their layout; the slopes are written over where that is theirs."""
    gradient_NKHW = slopes.slopes_NKHW if logits_NKHW.is_contiguous() else torch.empty_like(logits_NKHW)
    if gradient_NKHW.stride() != logits_NKHW.stride():
        logits_NKHW, gradient_NKHW = logits_NKHW.contiguous(), slopes.slopes_NKHW
    varied_NK, scale = varied_NK.to(torch.int8), ctypes.c_float(of_total)
    for n, logits_KHW in enumerate(logits_NKHW):
        softmax = slopes.shift_NHW[n], slopes.inverse_NHW[n]
        arguments = labels_NHW[n], _image(logits_KHW, 0), varied_NK[n], *softmax, slopes.mean_NHW[n], scale
        compiled.call("wavelet_backward", logits_KHW, *arguments, slopes.slopes_NKHW[n], gradient_NKHW[n])
    return gradient_NKHW


def _of_maps(
    maps_BHW: Tensor, bands: tuple[int, int], ridge: float, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """[B, levels] of complex maps P + iE, and the gradient to P: of two maps one complex [(B + 1) // 2, H, W]."""
    maps, height, width = maps_BHW.shape
    table, sizes = tables((height, width), *bands), compiled.structure(height, width, maps, *bands)
    spectra_BHW = torch.fft.fft2(maps_BHW).contiguous()
    values_BL = torch.empty((maps, bands[0]), dtype=torch.float64)
    of_spectra_BHW = maps_BHW[: (maps + 1) // 2]  # what it holds has been transformed
    results = values_BL, of_spectra_BHW if with_gradient else ctypes.c_void_p(None)
    diagonals = ctypes.c_double(ridge), ctypes.c_double(DIAGONAL)
    compiled.call("wavelet_determinants", spectra_BHW, sizes, *table, *diagonals, *results)
    return values_BL, torch.fft.ifft2(of_spectra_BHW, norm="forward") if with_gradient else None


def _image(values_KHW: Tensor, maps: int) -> Any:
    return compiled.structure(*values_KHW.shape, maps, *values_KHW.stride())


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
