"""Other images of a split, drawn by the images' ids: what a held-out objective compares an image with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from miseg.interface import lot

T = TypeVar("T")

SAMPLE = 128
"""Images of a split that are compared with each other, where it has more: what is kept of them stays in memory."""

PARTNERS = 8
"""Images with which each of them is compared."""


class ImageSample(Generic[T]):
    """Sample of `size` images of a split, drawn by their ids: the same ones in whatever order they come."""

    def __init__(self, size: int = SAMPLE) -> None:
        self.size = size
        self.kept: dict[str, T] = {}
        self.groups: dict[str, str] = {}

    def wants(self, name: str) -> bool:
        """Whether an image of this id belongs to the sample of those that have come so far."""
        return len(self.kept) < self.size or _rank(name) < max(map(_rank, self.kept))

    def add(self, name: str, group: str, value: T) -> None:
        """Keep `value` of an image, and forget another where there are more than `size`.

        Args:
            name: the image's id.
            group: the place or clip that it shows; "" where that is not known.
            value: what is kept.
        """
        self.kept[name], self.groups[name] = value, group
        self._shrink_to(sorted(self.kept, key=_rank)[: self.size])

    def join(self, gather: Callable[[Any], list[Any]]) -> dict[str, str]:
        """Keep what is in the sample of all ranks' images, and return the groups of that, by the images' ids."""
        groups = {name: group for part in gather(self.groups) for name, group in part.items()}
        names = sorted(groups, key=_rank)[: self.size]
        self._shrink_to([name for name in names if name in self.kept])
        return {name: groups[name] for name in names}

    def _shrink_to(self, names: list[str]) -> None:
        self.kept = {name: self.kept[name] for name in names}
        self.groups = {name: self.groups[name] for name in names}


def partners_of(name: str, groups: Mapping[str, str], number: int = PARTNERS) -> list[str]:
    """The ids of up to `number` other images, drawn by all their ids.

    They are of other groups than the image's own, where it has one and there are any.
    """
    others = [other for other in groups if other != name]
    elsewhere = [other for other in others if not groups[name] or groups[other] != groups[name]]
    return sorted(elsewhere or others, key=lambda other: (lot("partner", name, other), other))[:number]


def _rank(name: str) -> tuple[int, str]:
    return lot("sample", name), name
