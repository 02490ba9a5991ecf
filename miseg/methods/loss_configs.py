"""Settings of the methods that are a network and a loss of its logits, beside Dice. No torch here: see `register`.

A value out of range raises ValueError with the value, the range and the mend: a bad argument fails before Ray starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miseg.methods.mixture import MIXTURE, CrossEntropyMixture
from miseg.methods.ranges import Choice, Uniform, Whole
from miseg.methods.registry import register
from miseg.networks.configs import Network, UNet

if TYPE_CHECKING:
    from torch import Tensor

# The losses are imported inside functions, because they bring torch along. What does not count has label -1 for them.


@register("jaccard", label="Jaccard", space=MIXTURE)
@dataclass(frozen=True)
class Jaccard(CrossEntropyMixture):
    """1 − soft Jaccard index (Rahman and Wang 2016), averaged over each image's classes."""

    network: Network = field(default_factory=UNet)

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over images and the classes that each shows, and their number."""
        from miseg.losses import jaccard_parts  # brings torch along

        return jaccard_parts(logits_NKHW, labels_NHW.where(valid_NHW, -1))


@register("lovasz", label="Lovász", space=MIXTURE)
@dataclass(frozen=True)
class LovaszSoftmax(CrossEntropyMixture):
    """Lovász extension of the Jaccard loss (Berman et al. 2018), averaged over each image's classes."""

    network: Network = field(default_factory=UNet)

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over images and the classes that each shows, and their number."""
        from miseg.losses import lovasz_softmax_parts  # brings torch along

        return lovasz_softmax_parts(logits_NKHW, labels_NHW.where(valid_NHW, -1))


@register(
    "tversky",
    label="Tversky",
    space={
        "method.alpha": Uniform(0.1, 1.0),
        "method.beta": Uniform(0.1, 1.0),
        "method.gamma": Uniform(0.75, 2.0),
        **MIXTURE,
    },
)
@dataclass(frozen=True)
class Tversky(CrossEntropyMixture):
    """1 − Tversky index (Salehi et al. 2017), averaged over each image's classes; the defaults are the paper's best."""

    network: Network = field(default_factory=UNet)
    alpha: float = 0.3
    """α, 0 or more: the weight of false positives. α = β = ½ is Dice, α = β = 1 Jaccard."""
    beta: float = 0.7
    """β, above 0: the weight of false negatives."""
    gamma: float = 1.0
    """γ, above 0: the loss is taken to the power 1/γ; 4/3 is the focal form of Abraham and Khan (2019)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"α (alpha) = {self.alpha}: use 0 or more; the paper's best is 0.3")
        if not 0 < self.beta < math.inf:
            raise ValueError(f"β (beta) = {self.beta}: use a value above 0; the paper's best is 0.7")
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"γ (gamma) = {self.gamma}: use a value above 0; 1 is no exponent, 4/3 the focal form's")

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over images and the classes that each shows, and their number."""
        from miseg.losses import tversky_parts  # brings torch along

        labels_NHW = labels_NHW.where(valid_NHW, -1)
        return tversky_parts(logits_NKHW, labels_NHW, alpha=self.alpha, beta=self.beta, gamma=self.gamma)


@register("focal", label="focal", space={"method.gamma": Uniform(0.0, 5.0), **MIXTURE})
@dataclass(frozen=True)
class Focal(CrossEntropyMixture):
    """−(1 − p)^γ log p of the right class's softmax probability p (Lin et al. 2017), averaged over valid pixels."""

    network: Network = field(default_factory=UNet)
    gamma: float = 2.0
    """γ, 0 or more: how little a pixel counts that is right already; 0 is cross-entropy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"γ (gamma) = {self.gamma}: use 0 (cross-entropy) or more; the paper uses 2")

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over valid pixels, and their number."""
        from miseg.losses import focal_parts  # brings torch along

        return focal_parts(logits_NKHW, labels_NHW.where(valid_NHW, -1), gamma=self.gamma)


@register(
    "cldice",
    label="clDice",
    space={"method.alpha": Uniform(0.1, 1.0), "method.iterations": Whole(2, 20), **MIXTURE},
)
@dataclass(frozen=True)
class CentreLineDice(CrossEntropyMixture):
    """(1 − α) (1 − Dice) + α (1 − clDice) of soft skeletons (Shit et al. 2021), averaged over each image's classes."""

    network: Network = field(default_factory=UNet)
    alpha: float = 0.5
    """α in 0..1: the share of clDice; the paper takes up to 0.5."""
    iterations: int = 10
    """Of the skeleton, 0 or more: half the width in pixels of the widest structure, or more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"α (alpha) = {self.alpha}: it lies in 0..1; the paper takes 0.5 at most")
        if self.iterations < 0:
            raise ValueError(
                f"iterations = {self.iterations}: use half the widest structure's width in pixels, or more"
            )

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over images and the classes that each shows, and their number."""
        from miseg.losses import cl_dice_parts  # brings torch along

        labels_NHW = labels_NHW.where(valid_NHW, -1)
        return cl_dice_parts(logits_NKHW, labels_NHW, alpha=self.alpha, iterations=self.iterations)


@register("boundary", label="Boundary", space=MIXTURE)
@dataclass(frozen=True)
class BoundaryDistance(CrossEntropyMixture):
    """λ · CE + (1 − λ) · mean signed distance to the classes' boundaries (Kervadec et al. 2019), in pixels."""

    network: Network = field(default_factory=UNet)
    weight: float = field(default=0.01, kw_only=True)
    """λ in 0..1 at the end of training: the share of softmax cross-entropy. 0 is the loss alone, from the start."""
    rebalance: bool = True
    """Whether λ falls from 1 to `weight` in a line, as in the paper, whose α rises by 0.01 an epoch; or is `weight`."""

    def share(self, progress: float) -> float:
        """1 at the start of training and λ at its end. Without cross-entropy (λ = 0), or a fall, λ throughout."""
        falls = self.rebalance and self.weight > 0
        return self.weight + (1 - self.weight) * (1 - progress) if falls else self.weight

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over valid pixels, and their number."""
        from miseg.losses import boundary_parts  # brings torch along

        return boundary_parts(logits_NKHW, labels_NHW.where(valid_NHW, -1))


@register("cwmi", label="CWMI", space={"method.orientations": Choice((4, 8)), **MIXTURE})
@dataclass(frozen=True)
class ComplexWaveletMutualInformation(CrossEntropyMixture):
    """λ · CE + (1 − λ) · complex wavelet mutual information (Lu 2025), averaged over each image's classes."""

    network: Network = field(default_factory=UNet)
    weight: float = field(default=9 / 19, kw_only=True)
    """λ in 0..1: the share of softmax cross-entropy. The paper's 0.9 · CE + CWMI is 1.9 times the default."""
    levels: int = 4
    """Of the steerable pyramid, at least 1; images have sides longer than 2^levels."""
    orientations: int = 4
    """Bands of a level, at least 2."""
    ridge: float = 1e-6
    """Above 0: the share of the labels' energy that keeps the determinant away from 0."""
    warmup: float = 0.02
    """Share of the training steps, 0..1, that are cross-entropy alone; the authors' code: the first of 50 epochs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 1:
            raise ValueError(f"levels = {self.levels}: use 1 or more; the paper uses 4")
        if self.orientations < 2:
            raise ValueError(f"orientations = {self.orientations}: use 2 or more; the paper uses 4")
        if not 0 < self.ridge < math.inf:
            raise ValueError(f"ridge = {self.ridge}: use a value above 0, such as 1e-6")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup = {self.warmup}: it is a share of the steps, 0..1; the paper's is 0.02")

    def share(self, progress: float) -> float:
        """1 in the warm-up, then λ. Without cross-entropy (λ = 0) there is no warm-up."""
        return 1.0 if progress < self.warmup and self.weight > 0 else self.weight

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over images and the classes that each shows, and their number."""
        from miseg.losses import complex_wavelet_mutual_information_parts  # brings torch along

        return complex_wavelet_mutual_information_parts(
            logits_NKHW,
            labels_NHW.where(valid_NHW, -1),
            levels=self.levels,
            orientations=self.orientations,
            ridge=self.ridge,
        )
