"""Settings of the methods that learn without any label; no torch here, as in `miseg.methods.configs`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from miseg.methods.ranges import LEARNING_RATE, Around, Multiples, Space
from miseg.methods.registry import MethodConfig, Supervision, register
from miseg.networks.configs import VGG, InfoSegNetwork


@register(
    "kmeans",
    label="K-means",
    implementation="miseg.methods.unsupervised.k_means:PixelKMeansMethod",
    space=Space({"method.samples": Around(10, whole=True)}, identity="miseg.recipes.spaces.k_means"),
    in_studies=True,
)
@dataclass(frozen=True)
class PixelKMeans(MethodConfig):
    """K-means of the pixels' colours: what no learning gives."""

    supervision: ClassVar[Supervision] = "none"

    clusters: int | None = None
    """K; None: as many as the data has classes."""
    samples: int = 100_000
    """Pixels of all images together from which the centres are found, at least K."""

    def __post_init__(self) -> None:
        _check_clusters(self.clusters)
        _check_samples(self.samples, self.clusters)


# Settings that change what the objective measures cannot be chosen by it: of IIC that is all but its rate.
@register(
    "iic",
    label="IIC",
    implementation="miseg.methods.unsupervised.invariant_information:InvariantInformationMethod",
    in_studies=True,
)
@dataclass(frozen=True)
class InvariantInformation(MethodConfig):
    """Invariant information clustering for segmentation, IIC (Ji et al. 2019), with an over-clustering head."""

    supervision: ClassVar[Supervision] = "none"
    micro_batch: ClassVar[int | None] = None

    network: VGG = field(default_factory=VGG)
    clusters: int | None = None
    """K of the main head; None: as many as the data has classes."""
    over_clusters: int | None = None
    """K of the head that is only trained; None: three times the main head's, as published on COCO-Stuff."""
    displacement: int = 10
    """Pixels by which the window of displacements reaches to each side, 0 or more."""
    jitter: float = 0.4
    """Strength of the random change of colours in the second view, 0 or more."""
    flip: float = 0.5
    """Probability that the second view is mirrored, 0..1."""

    def __post_init__(self) -> None:
        _check_clusters(self.clusters)
        if self.over_clusters is not None and self.over_clusters < max(2, self.clusters or 2):
            raise ValueError(f"over_clusters = {self.over_clusters}: use at least as many as clusters, and 2 or more")
        if self.displacement < 0:
            raise ValueError(f"displacement = {self.displacement}: use 0 pixels or more; the paper uses 10")
        _check_jitter(self.jitter)
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip = {self.flip}: a probability lies in 0..1")

    def fitted(self, height: int, width: int) -> dict[str, tuple[Any, str]]:
        """The share of an image's shorter side that the paper's window has: 10 of 128 pixels, and no more than that."""
        displacement = max(1, min(self.displacement, min(height, width) * 10 // 128))
        return {"displacement": (displacement, "the paper's 10 pixels of 128, at most")}

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError where the window of displacements is larger than an image of height x width."""
        if min(height, width) <= self.displacement:
            raise ValueError(
                f"displacement {self.displacement} needs images of more pixels a side; these are {height} x {width}"
            )


@register(
    "infoseg",
    label="InfoSeg",
    implementation="miseg.methods.unsupervised.infoseg:InfoSegMethod",
    space=Space(
        {
            "method.network.features": Multiples((0.25, 0.5, 1, 2)),
            "method.temperature": Around(30, of="method.tau", name="tau"),
            "method.clusters": Multiples((1, 2)),
            **LEARNING_RATE,
        },
        identity="miseg.recipes.spaces.infoseg",
    ),
    in_studies=True,
)
@dataclass(frozen=True)
class InfoSeg(MethodConfig):
    """Mutual information of local features and the features of their cluster (Harb and Knöbelreiter 2021)."""

    supervision: ClassVar[Supervision] = "none"
    micro_batch: ClassVar[int | None] = 2

    network: InfoSegNetwork = field(default_factory=InfoSegNetwork)
    clusters: int | None = None
    """K, how many clusters; None: as many as the data has classes."""
    temperature: float | None = None
    """τ > 0, by which scores are multiplied before the softmax that assigns clusters; None: 1 / √P, as published."""
    assignment: Literal["soft", "hard"] = "soft"
    """Whether a pixel's feature is the softmax-weighted mean of the K (equation 4.14) or the best one's (4.7)."""
    jitter: float = 0.4
    """Strength of the random change of colours in training, 0 or more."""

    def __post_init__(self) -> None:
        _check_clusters(self.clusters)
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature = {self.temperature}: use a value above 0; the paper uses 1 / √P")
        _check_jitter(self.jitter)

    @property
    def tau(self) -> float:
        """The τ that counts."""
        return self.network.features**-0.5 if self.temperature is None else self.temperature


@register(
    "relative-position",
    label="relative position",
    implementation="miseg.methods.unsupervised.relative_position:RelativePositionMethod",
)
@dataclass(frozen=True)
class RelativePosition(MethodConfig):
    """K-means of features that tell in which direction one patch lies from another (Doersch et al. 2015)."""

    supervision: ClassVar[Supervision] = "none"

    network: VGG = field(default_factory=VGG)
    clusters: int | None = None
    """K; None: as many as the data has classes."""
    samples: int = 100_000
    """Features of all images together from which the centres are found, at least K."""
    patch: int = 11
    """Pixels of a patch's side: partners lie 1.5 to 2 sides apart."""
    pairs: int = 16
    """Pairs of patches of each image and step, 1 or more."""
    hidden: int = 512
    """Units of the hidden layer that compares two features."""

    def __post_init__(self) -> None:
        _check_clusters(self.clusters)
        _check_samples(self.samples, self.clusters)
        _check_pairs(self)


@register(
    "co-occurrence",
    label="co-occurrence",
    implementation="miseg.methods.unsupervised.co_occurrence:CoOccurrenceMethod",
)
@dataclass(frozen=True)
class CoOccurrence(MethodConfig):
    """K-means of features that tell whether two patches lie side by side in one image (Isola et al. 2015)."""

    supervision: ClassVar[Supervision] = "none"

    network: VGG = field(default_factory=VGG)
    clusters: int | None = None
    """K; None: as many as the data has classes."""
    samples: int = 100_000
    """Features of all images together from which the centres are found, at least K."""
    patch: int = 11
    """Pixels of a patch's side: neighbours lie one side apart, others two or more."""
    pairs: int = 16
    """Pairs of patches of each image and step, 1 or more; half are neighbours."""
    hidden: int = 512
    """Units of the hidden layer that compares two features."""

    def __post_init__(self) -> None:
        _check_clusters(self.clusters)
        _check_samples(self.samples, self.clusters)
        _check_pairs(self)


def _check_clusters(clusters: int | None) -> None:
    if clusters is not None and clusters < 2:
        raise ValueError(f"clusters = {clusters}: use 2 or more, or leave it out for the data's number of classes")


def _check_jitter(jitter: float) -> None:
    if not 0 <= jitter < math.inf:
        raise ValueError(f"jitter = {jitter}: use 0 or more")


def _check_samples(samples: int, clusters: int | None) -> None:
    if samples < max(2, clusters or 2):
        raise ValueError(f"samples = {samples}: use at least as many as there are clusters")


def _check_pairs(settings: RelativePosition | CoOccurrence) -> None:
    for name in ("patch", "pairs", "hidden"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} = {getattr(settings, name)}: use 1 or more")
