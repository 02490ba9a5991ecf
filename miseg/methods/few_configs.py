"""Settings of the methods that learn from pairs of patches and map from a few labelled pixels; no torch here."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from miseg.methods.ranges import LEARNING_RATE, Around, Choice, Range, Space, Uniform
from miseg.methods.registry import MethodConfig, Supervision, register
from miseg.networks.configs import PatchEncoder
from miseg.settings import ADDED_LATER, check_choices

PATCHES = (5, 7, 9, 13)
"""Sides in pixels that are searched."""
REPRESENTATIONS = (10, 16, 32, 64)
"""Sizes of a representation that are searched."""
INFORMATION_RANGES: dict[str, Range] = {
    "method.encoder.patch": Choice(PATCHES, with_own=True),
    "method.encoder.representation": Choice(REPRESENTATIONS, with_own=True, name="z"),
    "method.alpha": Uniform(0.0, 1.0),
    "method.beta": Uniform(0.1, 2.0),
    "method.gamma": Uniform(0.0, 1.0),
    **LEARNING_RATE,
}
"""Settings that are searched of both methods that weigh global and local information, α, β and γ."""
CHOICES: dict[str, Range] = {
    "method.negatives": Choice(("chip", "batch")),
    "method.reduction": Choice(("mean", "sum")),
    "method.terms": Choice(("one", "all")),
    "method.encoder.representation": Choice(REPRESENTATIONS, name="z"),
}
"""Settings by which `P-similarity` differs from what its authors printed, for `miseg tune --space`. No default space
has them, for with the default networks a map by all terms takes several times as long."""


@register(
    "similarity",
    label="similarity",
    implementation="miseg.methods.few.similarity:MutualInformationSimilarityMethod",
    space=Space(INFORMATION_RANGES, identity="miseg.recipes.spaces.similarity"),
    in_studies=True,
)
@dataclass(frozen=True)
class MutualInformationSimilarity(MethodConfig):
    """α I(global) + β I(local) − γ |z_x − z_y|₁ over pairs of views, then nearest labelled pixels (Sanchez et al.).

    A weight of 0, `swap` and the pairs of the data are the switches of the paper's ablation.
    """

    supervision: ClassVar[Supervision] = "few"
    learns_from_pairs: ClassVar[bool] = True
    micro_batch: ClassVar[int | None] = 2

    encoder: PatchEncoder = field(default_factory=PatchEncoder)
    hidden: int = 128
    """Units of each hidden layer of the statistics networks."""
    discriminator: Literal["concatenate", "dot"] = "concatenate"
    """Kind of statistics network: concatenate and convolve, or encode and take the inner product."""
    alpha: float = 0.5
    """Weight of the global mutual information, 0 or more."""
    beta: float = 1.0
    """Weight of the local mutual information, 0 or more."""
    gamma: float = 0.1
    """Weight of the L1 difference of a pair's representations, 0 or more."""
    swap: bool = True
    """Whether a view's map is scored with the other view's representation, or with its own."""
    compare: Literal["global", "local", "representation"] = "local"
    """Measure of nearness to labelled pixels: global or local mutual information, or L1 between representations."""
    neighbours: int = 1
    """Number of the nearest labelled pixels that vote, 1 or more."""
    negatives: Literal["chip", "batch"] = field(default="chip", metadata=ADDED_LATER)
    """Patches that a patch is told from: its neighbour in the batch, which is of the same chip; or any of the whole
    batch, whose second views are shuffled, as published."""
    reduction: Literal["mean", "sum"] = field(default="mean", metadata=ADDED_LATER)
    """Reduction of the local information over the positions of a patch, and of the L1 term over the components of z.
    With sum, as published, β and γ weigh as many times more as there are positions and components."""
    terms: Literal["one", "all"] = field(default="one", metadata=ADDED_LATER)
    """Terms of algorithm 2 by which a pixel is compared with a labelled one: the score of the pixel's features with the
    label's representation alone; or all of D, the softplus of both paired and both unpaired scores, as published."""

    def __post_init__(self) -> None:
        check_choices(self)
        _check_information(self)
        _check_at_least_one(self, "hidden", "neighbours")

    @property
    def images_by(self) -> int | None:
        """See `MethodConfig`: patches that are told from any of the batch need all of it."""
        return self.micro_batch if self.negatives == "chip" else None

    @property
    def as_published(self) -> bool:
        """See `MethodConfig`."""
        return (self.negatives, self.reduction, self.terms) == ("batch", "sum", "all")


@register(
    "deep-infomax",
    label="Deep InfoMax",
    implementation="miseg.methods.few.deep_infomax:DeepInfoMaxMethod",
    space=Space(INFORMATION_RANGES, identity="miseg.recipes.spaces.deep_infomax"),
    in_studies=True,
)
@dataclass(frozen=True)
class DeepInfoMax(MethodConfig):
    """α I(global) + β I(local) of a patch and its own representation, whose components match a uniform prior.

    Hjelm et al. (2019): DIM(L) by default; DIM(G) is `alpha` 1, `beta` 0, `gamma` 1. Then nearest labelled pixels.
    """

    supervision: ClassVar[Supervision] = "few"
    learns_from_pairs: ClassVar[bool] = True
    micro_batch: ClassVar[int | None] = 2

    encoder: PatchEncoder = field(default_factory=PatchEncoder)
    hidden: int = 128
    """Units of each hidden layer of the statistics networks and of the prior's discriminator."""
    discriminator: Literal["concatenate", "dot"] = "concatenate"
    """Kind of statistics network: concatenate and convolve, or encode and take the inner product."""
    alpha: float = 0.0
    """Weight of the global mutual information, 0 or more."""
    beta: float = 1.0
    """Weight of the local mutual information, 0 or more."""
    gamma: float = 0.1
    """Weight at which the encoder matches the uniform prior, 0 or more."""
    compare: Literal["global", "local", "representation"] = "representation"
    """Measure of nearness to labelled pixels: global or local mutual information, or L1 between representations."""
    neighbours: int = 1
    """Number of the nearest labelled pixels that vote, 1 or more."""
    negatives: Literal["chip", "batch"] = field(default="chip", metadata=ADDED_LATER)
    """Patches that a patch is told from: its neighbour in the batch, which is of the same chip; or any of the whole
    batch, which is shuffled, as published."""

    def __post_init__(self) -> None:
        check_choices(self)
        _check_information(self)
        _check_at_least_one(self, "hidden", "neighbours")

    @property
    def images_by(self) -> int | None:
        """See `MethodConfig`: patches that are told from any of the batch need all of it."""
        return self.micro_batch if self.negatives == "chip" else None

    @property
    def as_published(self) -> bool:
        """See `MethodConfig`."""
        return self.negatives == "batch"


@register(
    "autoencoder",
    label="autoencoder",
    implementation="miseg.methods.few.patch_autoencoder:PatchAutoencoderMethod",
    space=Space(
        {
            "method.weight": Around(100),
            "method.encoder.patch": Choice(PATCHES, with_own=True),
            "method.encoder.representation": Choice(REPRESENTATIONS, with_own=True, name="z"),
            **LEARNING_RATE,
        },
        identity="miseg.recipes.spaces.autoencoder",
    ),
    in_studies=True,
)
@dataclass(frozen=True)
class PatchAutoencoder(MethodConfig):
    """A variational autoencoder of patches (Kingma and Welling 2014), then nearest labelled pixels."""

    supervision: ClassVar[Supervision] = "few"
    learns_from_pairs: ClassVar[bool] = True

    encoder: PatchEncoder = field(default_factory=PatchEncoder)
    weight: float = 1.0
    """Weight of the posterior's divergence from the prior, 0 or more; 1 is the paper's bound."""
    compare: Literal["representation"] = "representation"
    """Measure of nearness to labelled pixels: L1 between representations."""
    neighbours: int = 1
    """Number of the nearest labelled pixels that vote, 1 or more."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight = {self.weight}: use 0 or more; 1 is the paper's bound")
        _check_at_least_one(self, "neighbours")


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
