"""Settings of the methods, one frozen dataclass each. No torch here: a command line's --help must not wait for it.

A value out of range raises ValueError with the value, the range and the mend: a bad argument fails before Ray starts.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from miseg.methods.cluster_configs import (
    CoOccurrence,
    InfoSeg,
    InvariantInformation,
    PixelKMeans,
    RelativePosition,
    Supervision,
)
from miseg.networks.configs import Network, PatchEncoder, UNet


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy, averaged over valid pixels."""

    network: Network = field(default_factory=UNet)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Sigmoid cross-entropy, summed over classes and averaged over valid pixels: the RMI paper's baseline."""

    network: Network = field(default_factory=UNet)


@dataclass(frozen=True)
class RegionMutualInformation:
    """λ·BCE + (1 − λ)·RMI (Zhao et al. 2019, equation 16); the defaults are the paper's."""

    network: Network = field(default_factory=UNet)
    weight: float = 0.5
    """λ in 0..1: the share of the binary cross-entropy."""
    downsampling_factor: int = 4
    """DF ≥ 1: the factor by which labels and probabilities are shrunk before regions are taken."""
    region_size: int = 3
    """R ≥ 1: a region is R x R downsampled pixels."""
    downsampling: Literal["average", "max", "interpolation"] = "average"
    """How labels and probabilities are shrunk."""

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

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError where an image of height x width leaves no region at this DF and R."""
        smallest = self.downsampling_factor * self.region_size
        if min(height, width) < smallest:
            raise ValueError(
                f"downsampling factor {self.downsampling_factor} with region size {self.region_size} needs images of "
                f"at least {smallest} x {smallest} pixels; these are {height} x {width}: lower one of the two"
            )


@dataclass(frozen=True)
class AffinityField:
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

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight = {self.weight}: use 0 or more; both papers use 1")
        if not 0 < self.margin < math.inf:
            raise ValueError(f"margin = {self.margin}: use a value above 0 (nats); both papers use 3")
        if self.stride < 1:
            raise ValueError(f"stride = {self.stride}: use 1 (full resolution) or more; the RMI paper uses 8")

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError where an image of height x width leaves no pair of pixels at this stride."""
        if min(height, width) < 2 * self.stride:
            raise ValueError(
                f"stride {self.stride} needs images of at least {2 * self.stride} x {2 * self.stride} pixels; these "
                f"are {height} x {width}: lower it"
            )


@dataclass(frozen=True)
class MutualLearning:
    """Deep mutual learning (Zhang et al. 2018): networks with cross-entropy that also imitate each other."""

    network: Network = field(default_factory=UNet)
    """The first network; its predictions are the method's."""
    partners: tuple[Network, ...] | None = None
    """The other networks, at least one. Default: one of the first's architecture, with weights of its own."""
    weight: float = 1.0
    """Weight of the divergence from the others, 0 or more."""
    target: Literal["probabilities", "logits"] = "probabilities"
    """What is imitated: the others' class probabilities, or, as the Porto study's code did, their raw logits."""

    def __post_init__(self) -> None:
        if self.partners is not None and not self.partners:
            raise ValueError("partners = (): mutual learning takes two networks or more")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight = {self.weight}: use 0 or more; the paper uses 1")

    @property
    def networks(self) -> tuple[Network, ...]:
        """All networks, the first in front."""
        return (self.network, *((self.network,) if self.partners is None else self.partners))


@dataclass(frozen=True)
class MutualInformationSimilarity:
    """α I(global) + β I(local) − γ |z_x − z_y|₁ over pairs of views, then nearest labelled pixels (Sanchez et al.).

    A weight of 0, `swap` and the pairs of the data are the switches of the paper's ablation.
    """

    supervision: ClassVar[Supervision] = "few"
    learns_from_pairs: ClassVar[bool] = True

    encoder: PatchEncoder = field(default_factory=PatchEncoder)
    hidden: int = 128
    """Units of each hidden layer of the statistics networks."""
    discriminator: Literal["concatenate", "dot"] = "concatenate"
    """How a statistics network scores: concatenate and convolve, or encode and take the inner product."""
    alpha: float = 0.5
    """Weight of the global mutual information, 0 or more."""
    beta: float = 1.0
    """Weight of the local mutual information, 0 or more."""
    gamma: float = 0.1
    """Weight of the L1 difference of a pair's representations (mean over components), 0 or more."""
    swap: bool = True
    """Whether a view's map is scored with the other view's representation, or with its own."""
    compare: Literal["global", "local", "representation"] = "local"
    """What makes a labelled pixel near: global or local mutual information, or L1 between representations."""
    neighbours: int = 1
    """How many of the nearest labelled pixels vote, 1 or more."""

    def __post_init__(self) -> None:
        _check_information(self)
        _check_at_least_one(self, "hidden", "neighbours")


@dataclass(frozen=True)
class DeepInfoMax:
    """α I(global) + β I(local) of a patch and its own representation, whose components match a uniform prior.

    Hjelm et al. (2019): DIM(L) by default; DIM(G) is `alpha` 1, `beta` 0, `gamma` 1. Then nearest labelled pixels.
    """

    supervision: ClassVar[Supervision] = "few"
    learns_from_pairs: ClassVar[bool] = True

    encoder: PatchEncoder = field(default_factory=PatchEncoder)
    hidden: int = 128
    """Units of each hidden layer of the statistics networks and of the prior's discriminator."""
    discriminator: Literal["concatenate", "dot"] = "concatenate"
    """How a statistics network scores: concatenate and convolve, or encode and take the inner product."""
    alpha: float = 0.0
    """Weight of the global mutual information, 0 or more."""
    beta: float = 1.0
    """Weight of the local mutual information, 0 or more."""
    gamma: float = 0.1
    """Weight at which the encoder matches the uniform prior, 0 or more."""
    compare: Literal["global", "local", "representation"] = "representation"
    """What makes a labelled pixel near: global or local mutual information, or L1 between representations."""
    neighbours: int = 1
    """How many of the nearest labelled pixels vote, 1 or more."""

    def __post_init__(self) -> None:
        _check_information(self)
        _check_at_least_one(self, "hidden", "neighbours")


@dataclass(frozen=True)
class PatchAutoencoder:
    """A variational autoencoder of patches (Kingma and Welling 2014), then nearest labelled pixels."""

    supervision: ClassVar[Supervision] = "few"
    learns_from_pairs: ClassVar[bool] = True

    encoder: PatchEncoder = field(default_factory=PatchEncoder)
    weight: float = 1.0
    """Weight of the posterior's divergence from the prior, 0 or more; 1 is the paper's bound."""
    compare: Literal["representation"] = "representation"
    """What makes a labelled pixel near: L1 between representations."""
    neighbours: int = 1
    """How many of the nearest labelled pixels vote, 1 or more."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight = {self.weight}: use 0 or more; 1 is the paper's bound")
        _check_at_least_one(self, "neighbours")


MethodConfig = (
    CrossEntropy
    | BinaryCrossEntropy
    | RegionMutualInformation
    | AffinityField
    | MutualLearning
    | MutualInformationSimilarity
    | DeepInfoMax
    | PatchAutoencoder
    | InfoSeg
    | InvariantInformation
    | PixelKMeans
    | RelativePosition
    | CoOccurrence
)


def _check_information(settings: MutualInformationSimilarity | DeepInfoMax) -> None:
    for name in ("alpha", "beta", "gamma"):
        if not 0 <= getattr(settings, name) < math.inf:
            own = {field.name: field.default for field in dataclasses.fields(settings)}[name]
            raise ValueError(f"{name} = {getattr(settings, name)}: use 0 or more; the paper uses {own}")
    if settings.alpha == settings.beta == 0:
        raise ValueError("alpha = beta = 0: nothing would be learned; give one of the two a weight above 0")
    needed = {"global": settings.alpha, "local": settings.beta, "representation": 1.0}
    if needed[settings.compare] == 0:
        raise ValueError(f"compare = {settings.compare!r}: that network is not trained with a weight of 0; give it one")


def _check_at_least_one(settings: object, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} = {getattr(settings, name)}: use 1 or more")
