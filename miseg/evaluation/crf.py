"""The dense conditional random field as a stage of evaluation, through its reference implementation.

Krähenbühl and Koltun: Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NeurIPS 2011
(arXiv:1210.5644). `pydensecrf2` wraps the authors' C++ code; it is the optional extra `crf`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from miseg.extras import require

_PROBABILITY_FLOOR = 1e-5


@dataclass(frozen=True)
class DenseCRF:
    """Settings of the field; the kernels' widths are the RMI paper's, the weights its code's.

    The kernel between pixels i and j is bilateral_weight · exp(−|p_i − p_j|² / 2θα² − |I_i − I_j|² / 2θβ²)
    + gaussian_weight · exp(−|p_i − p_j|² / 2θγ²), with positions p in pixels and colours I in 0..255.
    """

    iterations: int = 10
    """Steps of mean-field inference, 1 or more; the RMI paper shows 1, 5 and 10."""
    theta_alpha: float = 30.0
    """Width of the bilateral kernel in position, pixels."""
    theta_beta: float = 13.0
    """Width of the bilateral kernel in colour, grey levels of 0..255."""
    theta_gamma: float = 3.0
    """Width of the Gaussian kernel in position, pixels."""
    bilateral_weight: float = 10.0
    """Weight of the bilateral kernel, 0 or more."""
    gaussian_weight: float = 3.0
    """Weight of the Gaussian kernel, 0 or more."""

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations = {self.iterations}: use 1 or more; the RMI paper shows 1, 5 and 10")
        for name in ("theta_alpha", "theta_beta", "theta_gamma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: use a value above 0")
        for name in ("bilateral_weight", "gaussian_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} = {getattr(self, name)}: use 0 or more")


def available() -> bool:
    """Whether the optional extra is installed."""
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError:
        return False
    return True


def dense_crf(
    image: np.ndarray | Tensor,
    probabilities: np.ndarray | Tensor,
    iterations: int = 10,
    *,
    settings: DenseCRF | None = None,
) -> np.ndarray:
    """Class probabilities of one image after mean-field inference, float32 [K, H, W] that sum to 1 over K.

    Args:
        image: uint8 [H, W, 3], red, green and blue.
        probabilities: floating [K, H, W] in 0..1. They need not sum to 1 (sigmoid outputs do not): they are divided by
            their sum over classes.
        iterations: steps of mean-field inference, 1 or more.
        settings: the kernels; `iterations` stands in for the one there.

    Raises:
        ValueError: image and probabilities of unequal size or of another shape or type, or values outside 0..1.
        MissingExtraError: (a ModuleNotFoundError) the extra 'crf' is not installed.
    """
    image_HWC, probabilities_KHW = _checked(image, probabilities)
    settings = replace(settings or DenseCRF(), iterations=iterations)
    require("crf", "the dense CRF", "pydensecrf")
    # Of the extra 'crf'.
    from pydensecrf.densecrf import DenseCRF2D

    classes, height, width = probabilities_KHW.shape
    floored_KHW = np.maximum(probabilities_KHW, _PROBABILITY_FLOOR)
    energy_KP = -np.log(floored_KHW / floored_KHW.sum(0)).reshape(classes, -1)
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(np.ascontiguousarray(energy_KP, dtype=np.float32))
    if settings.gaussian_weight:
        field.addPairwiseGaussian(sxy=settings.theta_gamma, compat=settings.gaussian_weight)
    if settings.bilateral_weight:
        field.addPairwiseBilateral(
            sxy=settings.theta_alpha,
            srgb=settings.theta_beta,
            rgbim=np.ascontiguousarray(image_HWC),
            compat=settings.bilateral_weight,
        )
    refined_KP = np.array(field.inference(settings.iterations), dtype=np.float32)
    return refined_KP.reshape(classes, height, width)


def _checked(image: np.ndarray | Tensor, probabilities: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray]:
    image_HWC, probabilities_KHW = (
        value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        for value in (image, probabilities)
    )
    if image_HWC.ndim != 3 or image_HWC.shape[2] != 3 or image_HWC.dtype != np.uint8:
        raise ValueError(f"an image of shape {image_HWC.shape} and type {image_HWC.dtype}: expected uint8 [H, W, 3]")
    if probabilities_KHW.ndim != 3 or not np.issubdtype(probabilities_KHW.dtype, np.floating):
        raise ValueError(
            f"probabilities of shape {probabilities_KHW.shape} and type {probabilities_KHW.dtype}: expected floating "
            "[K, H, W]"
        )
    if image_HWC.shape[:2] != probabilities_KHW.shape[1:]:
        raise ValueError(
            f"an image of {image_HWC.shape[0]} x {image_HWC.shape[1]} pixels with probabilities of "
            f"{probabilities_KHW.shape[1]} x {probabilities_KHW.shape[2]}: resize one of them"
        )
    if not (probabilities_KHW.min() >= 0 and probabilities_KHW.max() <= 1 + 1e-6):
        raise ValueError(
            f"probabilities from {probabilities_KHW.min():.3g} to {probabilities_KHW.max():.3g}: they lie in 0..1; "
            "logits take a softmax or sigmoid first"
        )
    return image_HWC, probabilities_KHW.astype(np.float32)
