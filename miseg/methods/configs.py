"""Settings of the methods that learn from masks, and all others' by their names. No torch here: see `register`.

A value out of range raises ValueError with the value, the range and the mend: a bad argument fails before Ray starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from miseg.methods.cluster_configs import CoOccurrence, InfoSeg, InvariantInformation, PixelKMeans, RelativePosition
from miseg.methods.few_configs import DeepInfoMax, MutualInformationSimilarity, PatchAutoencoder
from miseg.methods.ranges import LEARNING_RATE, Around, Choice, Space, Uniform, Whole
from miseg.methods.registry import MethodConfig, register
from miseg.networks.configs import Network, UNet
from miseg.settings import ADDED_LATER

__all__ = [
    "AffinityField",
    "BinaryCrossEntropy",
    "CoOccurrence",
    "CrossEntropy",
    "DeepInfoMax",
    "InfoSeg",
    "InvariantInformation",
    "MethodConfig",
    "MutualInformationSimilarity",
    "MutualLearning",
    "PatchAutoencoder",
    "PixelKMeans",
    "RegionMutualInformation",
    "RelativePosition",
]

REGIONS = 20
"""Regions of an image, for each pixel of a region, that a covariance of these pixels is estimated from at least."""


@register(
    "ce",
    label="CE",
    implementation="miseg.methods.dense.cross_entropy:CrossEntropyMethod",
    in_studies=True,
)
@dataclass(frozen=True)
class CrossEntropy(MethodConfig):
    """Softmax cross-entropy, averaged over valid pixels."""

    network: Network = field(default_factory=UNet)


@register(
    "bce",
    label="BCE",
    implementation="miseg.methods.dense.binary_cross_entropy:BinaryCrossEntropyMethod",
    in_studies=True,
)
@dataclass(frozen=True)
class BinaryCrossEntropy(MethodConfig):
    """Sigmoid cross-entropy, summed over classes and averaged over valid pixels: the RMI paper's baseline."""

    network: Network = field(default_factory=UNet)


@register(
    "rmi",
    label="RMI",
    implementation="miseg.methods.dense.region_mutual_information:RegionMutualInformationMethod",
    space=Space(
        {
            "method.weight": Uniform(0.0, 1.0, name="lambda"),
            "method.downsampling_factor": Whole(1, 6),
            "method.region_size": Whole(1, 5),
            "method.downsampling": Choice(("average", "max", "interpolation")),
            **LEARNING_RATE,
        },
        identity="miseg.recipes.spaces.region_mutual_information",
    ),
    in_studies=True,
)
@dataclass(frozen=True)
class RegionMutualInformation(MethodConfig):
    """λ·BCE + (1 − λ)·RMI (Zhao et al. 2019, equation 16); the defaults are the paper's."""

    network: Network = field(default_factory=UNet)
    weight: float = 0.5
    """λ in 0..1: the share of the binary cross-entropy."""
    downsampling_factor: int = 4
    """DF ≥ 1: the factor by which labels and probabilities are shrunk before regions are taken."""
    region_size: int = 3
    """R ≥ 1: a region is R x R downsampled pixels."""
    downsampling: Literal["average", "max", "interpolation"] = "average"
    """Manner of downsampling labels and probabilities."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"λ (weight) = {self.weight}: it lies in 0..1; 1 is pure BCE, the paper uses 0.5")
        if self.downsampling_factor < 1:
            raise ValueError(
                f"downsampling factor = {self.downsampling_factor}: use 1 (none) or more; the paper uses 4"
            )
        if self.region_size < 1:
            raise ValueError(f"region size = {self.region_size}: use 1 or more; the paper uses 3")
        if self.downsampling not in ("average", "max", "interpolation"):
            raise ValueError(f"downsampling = {self.downsampling!r}: use average, max or interpolation")

    def fitted(self, height: int, width: int) -> dict[str, tuple[Any, str]]:
        """The largest DF and R, up to the settings' own, that leave `REGIONS` regions for each of a region's pixels."""
        for size in range(self.region_size, 0, -1):
            for factor in range(self.downsampling_factor, 0, -1):
                regions = max(0, height // factor - size + 1) * max(0, width // factor - size + 1)
                if regions >= REGIONS * size**2 or factor == size == 1:
                    reason = f"{regions:,} regions of {size}x{size} an image"
                    return {"downsampling_factor": (factor, reason), "region_size": (size, reason)}
        raise AssertionError

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError where an image of height x width leaves no region at this DF and R."""
        smallest = self.downsampling_factor * self.region_size
        if min(height, width) < smallest:
            raise ValueError(
                f"downsampling factor {self.downsampling_factor} with region size {self.region_size} needs images of "
                f"at least {smallest} x {smallest} pixels; these are {height} x {width}: lower one of the two"
            )


@register(
    "affinity",
    label="affinity field",
    implementation="miseg.methods.dense.affinity_field:AffinityFieldMethod",
    space=Space(
        {
            "method.weight": Around(10),
            "method.margin": Around(3),
            "method.stride": Choice((1, 2, 4, 8), with_own=True),
            **LEARNING_RATE,
        },
        identity="miseg.recipes.spaces.affinity_field",
    ),
    in_studies=True,
)
@dataclass(frozen=True)
class AffinityField(MethodConfig):
    """Softmax cross-entropy + weight · 20^(−progress) · affinity field loss (Ke et al. 2018).

    The defaults are how Zhao et al. (2019) ran it beside RMI; the original takes `stride` 1.
    """

    network: Network = field(default_factory=UNet)
    weight: float = 1.0
    """Weight of the affinity terms at the start of training, 0 or more."""
    margin: float = 3.0
    """Nats up to which the distributions on two sides of an edge are pushed apart, above 0."""
    stride: int = 8
    """The factor by which labels and logits are shrunk before pairs of pixels are taken; 1 is full resolution."""
    pairs: Literal["counted", "published"] = field(default="counted", metadata=ADDED_LATER)
    """Pairs that are compared: of two pixels that count; or, as the RMI paper's code does, also pairs with an ignored
    pixel or the image's border, which are neighbours without a class."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight = {self.weight}: use 0 or more; both papers use 1")
        if not 0 < self.margin < math.inf:
            raise ValueError(f"margin = {self.margin}: use a value above 0 (nats); both papers use 3")
        if self.stride < 1:
            raise ValueError(f"stride = {self.stride}: use 1 (full resolution) or more; the RMI paper uses 8")

    def fitted(self, height: int, width: int) -> dict[str, tuple[Any, str]]:
        """The largest stride, up to the settings' own, that leaves 32 pixels along the shorter side."""
        stride = max(1, min(self.stride, min(height, width) // 32))
        return {"stride": (stride, f"{height // stride}x{width // stride} pixels are compared")}

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError where an image of height x width leaves no pair of pixels at this stride."""
        if min(height, width) < 2 * self.stride:
            raise ValueError(
                f"stride {self.stride} needs images of at least {2 * self.stride} x {2 * self.stride} pixels; these "
                f"are {height} x {width}: lower it"
            )


@register(
    "mutual",
    label="mutual learning",
    implementation="miseg.methods.dense.mutual_learning:MutualLearningMethod",
    space=Space(
        {
            "method.weight": Around(10),
            **LEARNING_RATE,
        },
        identity="miseg.recipes.spaces.mutual_learning",
    ),
    in_studies=True,
)
@dataclass(frozen=True)
class MutualLearning(MethodConfig):
    """Deep mutual learning (Zhang et al. 2018): networks with cross-entropy that also imitate each other."""

    network: Network = field(default_factory=UNet)
    """The first network; its predictions are the method's."""
    partners: tuple[Network, ...] | None = None
    """The other networks, at least one. Default: one of the first's architecture, with weights of its own."""
    weight: float = 1.0
    """Weight of the divergence from the others, 0 or more."""
    target: Literal["probabilities", "logits"] = "probabilities"
    """Target of imitation: the others' class probabilities, or, as the Porto study's code did, their raw logits."""

    def __post_init__(self) -> None:
        if self.partners is not None and not self.partners:
            raise ValueError("partners = (): mutual learning takes two networks or more")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight = {self.weight}: use 0 or more; the paper uses 1")

    @property
    def networks(self) -> tuple[Network, ...]:
        """All networks, the first in front."""
        return (self.network, *((self.network,) if self.partners is None else self.partners))
