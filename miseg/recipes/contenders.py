"""The methods that a study can compare, each with what it is tuned by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from miseg.recipes import spaces
from miseg.recipes.experiment import Experiment

Supervision = Literal["dense", "few", "none"]


@dataclass(frozen=True)
class Contender:
    """A method as a study tunes it."""

    label: str
    """What its rows are called: "<label> tuned" and "<label> as published"."""
    supervision: Supervision
    space: Callable[[spaces.Trial, Experiment], Experiment]
    """Of module level, because Tune pickles it."""
    point: Callable[[Experiment], dict[str, Any]]
    """The recipe itself in that space."""

    @property
    def rows(self) -> tuple[str, str]:
        """The names of the winner's row and of the paper's default."""
        return f"{self.label} tuned", f"{self.label} as published"


CONTENDERS: dict[str, Contender] = {
    "ce": Contender("CE", "dense", spaces.learning_rate, spaces.learning_rate_point),
    "bce": Contender("BCE", "dense", spaces.learning_rate, spaces.learning_rate_point),
    "rmi": Contender("RMI", "dense", spaces.region_mutual_information, spaces.region_mutual_information_point),
    "affinity": Contender("affinity field", "dense", spaces.affinity_field, spaces.affinity_field_point),
    "mutual": Contender("mutual learning", "dense", spaces.mutual_learning, spaces.mutual_learning_point),
    "kmeans": Contender("K-means", "none", spaces.k_means, spaces.k_means_point),
    # Settings that change what the objective measures cannot be chosen by it: of IIC that is all but its rate.
    "iic": Contender("IIC", "none", spaces.learning_rate, spaces.learning_rate_point),
    "infoseg": Contender("InfoSeg", "none", spaces.infoseg, spaces.infoseg_point),
    "relative-position": Contender("relative position", "none", spaces.learning_rate, spaces.learning_rate_point),
    "co-occurrence": Contender("co-occurrence", "none", spaces.learning_rate, spaces.learning_rate_point),
    "similarity": Contender("similarity", "few", spaces.similarity, spaces.similarity_point),
    "deep-infomax": Contender("Deep InfoMax", "few", spaces.deep_infomax, spaces.deep_infomax_point),
    "autoencoder": Contender("autoencoder", "few", spaces.autoencoder, spaces.autoencoder_point),
}
"""Every method that a study knows, by the end of its recipes' names."""

DEFAULT_METHODS = (
    *("ce", "bce", "rmi", "affinity", "mutual"),
    *("kmeans", "iic", "infoseg"),
    *("similarity", "deep-infomax", "autoencoder"),
)

BASELINES: dict[Supervision, tuple[str, ...]] = {
    "dense": ("ce", "bce"),
    "none": ("kmeans",),
    "few": ("autoencoder", "deep-infomax"),
}
"""What the others are measured against: the first of these that a table has, or else its first method."""

STEMS = {
    "sentinel2-flanders": "flanders",
    "sentinel2-flanders-halves": "flanders",
    "voc": "porto-voc",
    "cityscapes": "porto-cityscapes",
    "ade20k": "porto-ade20k",
}
"""What recipes' names start with, where that is not the data set's name."""
