"""Names that are equal but for a beginning and an end, which all names of a side share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

# Words, numbers and signs: a name is cut only between them.
_PART = re.compile(r"\d+|[^\W\d_]+|[\W_]")
_CUTS = 20
"""Of longer names, places to cut from each end."""


@dataclass(frozen=True)
class Affix:
    """Beginning and end that all names of a side share, around the part that tells them apart."""

    before: str
    behind: str

    def key(self, name: str) -> str | None:
        """The part of `name` between the two; None where it does not have both, or nothing between them."""
        if len(name) <= len(self.before) + len(self.behind):
            return None
        if not (name.startswith(self.before) and name.endswith(self.behind)):
            return None
        return name[len(self.before) : len(name) - len(self.behind)]

    @property
    def as_stem(self) -> str:
        """Names with it, as a pattern with {stem}."""
        return f"{self.before}{{stem}}{self.behind}.*"


@dataclass(frozen=True)
class Affixes:
    """The affixes of images and of what is paired with them."""

    image: Affix
    other: Affix

    def image_key(self, name: str) -> str | None:
        """Part of an image's name that is compared."""
        return self.image.key(name)

    def other_key(self, name: str) -> str | None:
        """Part of the other's name that is compared."""
        return self.other.key(name)

    @property
    def image_pattern(self) -> str:
        """Names of images, with * for what is compared."""
        return f"{self.image.before}*{self.image.behind}"

    @property
    def other_pattern(self) -> str:
        """Names of the others, with * for what is compared."""
        return f"{self.other.before}*{self.other.behind}"


def infer_affixes(images: Sequence[str], others: Sequence[str]) -> tuple[Affixes, ...] | None:
    """The affixes by which most names are paired; several where as many are paired otherwise; None where none are.

    Args:
        images: names of images without ending.
        others: names of what is to be paired with them, likewise.
    """
    ours, theirs = _candidates(images), _candidates(others)
    best: list[tuple[Affixes, frozenset[tuple[str, str]]]] = []
    most = 0
    for image, keys in ours.items():
        for other, other_keys in theirs.items():
            common = keys.keys() & other_keys.keys()
            if not common or len(common) < most:
                continue
            pairs = frozenset((keys[key], other_keys[key]) for key in common)
            if len(common) > most:
                best, most = [], len(common)
            best.append((Affixes(image, other), pairs))
    if not best:
        return None
    # Of those that pair alike, the one that compares most of the names.
    ways: dict[frozenset[tuple[str, str]], Affixes] = {}
    for affixes, pairs in sorted(best, key=lambda way: _length(way[0])):
        ways.setdefault(pairs, affixes)
    return tuple(ways.values())


@dataclass(frozen=True)
class SharedWords:
    """Words that all images' names have, and words that all others' have; without them names are compared."""

    image: frozenset[str]
    other: frozenset[str]

    def image_key(self, name: str) -> tuple[str, ...]:
        """Words and numbers of an image's name that are compared."""
        return _without(name, self.image)

    def other_key(self, name: str) -> tuple[str, ...]:
        """Words and numbers of the other's name that are compared."""
        return _without(name, self.other)


def infer_shared_words(images: Sequence[str], others: Sequence[str]) -> SharedWords | None:
    """The words to leave out so that each image fits just one other and the other way round; None where it is not so.

    Args:
        images: names of images without ending: `circle_image_0`.
        others: names of what is to be paired with them, likewise: `circle_mask_0`.
    """
    sides = [frozenset.intersection(*(_words(name) for name in names)) for names in (images, others)]
    words = SharedWords(sides[0] - sides[1], sides[1] - sides[0])
    ours, theirs = {words.image_key(name) for name in images}, {words.other_key(name) for name in others}
    complete = ours == theirs and len(ours) == len(images) == len(others) and () not in ours
    return words if complete and len(images) > 1 else None


def _words(name: str) -> frozenset[str]:
    return frozenset(part for part in _PART.findall(name) if part.isalpha())


def _without(name: str, words: frozenset[str]) -> tuple[str, ...]:
    return tuple(part for part in _PART.findall(name) if part.isalnum() and part not in words)


def starts_name(image: str, other: str) -> bool:
    """Whether `other` begins with `image` and ends there or goes on with another word, number or sign."""
    ends = {match.end() for match in _PART.finditer(other)}
    return other.startswith(image) and len(image) in ends


def _length(affixes: Affixes) -> tuple[int, str, str]:
    sides = (affixes.image, affixes.other)
    return sum(len(side.before) + len(side.behind) for side in sides), affixes.image_pattern, affixes.other_pattern


def _candidates(names: Sequence[str]) -> dict[Affix, dict[str, str]]:
    """By affix, names by what is between; of affixes of at least half of the names, which tell all of these apart."""
    having: dict[Affix, list[str]] = {}
    for name in sorted(names):
        cuts = [0, *(match.end() for match in _PART.finditer(name))]
        if len(cuts) > 2 * _CUTS:
            cuts = cuts[:_CUTS] + cuts[-_CUTS:]
        for start, end in combinations(cuts, 2):
            if name[start].isalnum() and name[end - 1].isalnum():
                having.setdefault(Affix(name[:start], name[end:]), []).append(name)
    keys_by_affix = {}
    for affix, some in having.items():
        keys = {name[len(affix.before) : len(name) - len(affix.behind)]: name for name in some}
        # One name alone shows no more than that: a number in what is cut off may be what tells it from others.
        telling = len(names) > 1 or not re.search(r"\d", affix.before + affix.behind)
        if 2 * len(some) >= len(names) and len(some) >= min(2, len(names)) and len(keys) == len(some) and telling:
            keys_by_affix[affix] = keys
    return keys_by_affix
