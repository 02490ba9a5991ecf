"""The methods that a study can compare, each with what it is tuned by: those that are registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from miseg.methods import registry
from miseg.methods.registry import Registered as Contender
from miseg.methods.registry import Supervision

__all__ = ["BASELINES", "CONTENDERS", "STEMS", "Contender", "Supervision", "default_methods"]


class _Contenders(Mapping[str, Contender]):
    """The registered methods by short name; those of other packages are imported when it is first read."""

    def __getitem__(self, key: str) -> Contender:
        return registry.by_key()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(registry.by_key())

    def __len__(self) -> int:
        return len(registry.by_key())


CONTENDERS: Mapping[str, Contender] = _Contenders()
"""Every method that a study knows, by the end of its recipes' names."""


def default_methods() -> tuple[str, ...]:
    """Methods that a study compares by default."""
    return tuple(key for key, contender in CONTENDERS.items() if contender.in_studies)


BASELINES: dict[Supervision, tuple[str, ...]] = {
    "dense": ("ce", "bce"),
    "none": ("kmeans",),
    "few": ("autoencoder", "deep-infomax"),
}
"""Baselines by supervision: the first of these that a table has, or else its first method."""

STEMS = {
    "sentinel2-flanders": "flanders",
    "sentinel2-flanders-halves": "flanders",
    "voc": "porto-voc",
    "cityscapes": "porto-cityscapes",
    "ade20k": "porto-ade20k",
}
"""Beginnings of recipes' names by data set, where they are not the data set's name."""
