"""Splits: their names in folders and lists, and drawing them where there are none.

Drawing is the iterative stratification of Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data"
(ECML PKDD 2011), algorithm 1, over groups of images in place of single ones.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from miseg.data.listing import by_number

NAMES = ("train", "val", "test")
_SYNONYMS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validating": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def split_name(text: str) -> str | None:
    """ "train", "val" or "test" where a folder's or list's name has one of their usual words, else None.

    `Training`, `val_images` and `train2017` have one; `trainval` has none, and `train_val` has two.
    """
    words = re.findall(r"[a-z]+", text.lower())
    names = {_SYNONYMS[word] for word in words if word in _SYNONYMS}
    return names.pop() if len(names) == 1 else None


def check_split(name: str, origin: str) -> str:
    """The name, which becomes a part of file names.

    Raises:
        ValueError: it is none that a file could have everywhere.
    """
    if not _PLAIN.fullmatch(name):
        raise ValueError(f"{origin}: {name!r} is no name for a split: use letters, digits, _ and -, such as train")
    return name


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names of splits, each once: train, val, test, and then the others by name."""
    return tuple(sorted(set(names), key=lambda name: (NAMES.index(name) if name in NAMES else len(NAMES), name)))


def draw_splits(
    members: Mapping[str, Sequence[str]], classes: Mapping[str, frozenset[int]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """The split of each group, so that splits have their shares of images, and of the images that show a class.

    The same groups get the same splits, whatever order they come in.

    Args:
        members: ids of images by group.
        classes: classes that an image shows, by id; none for an image without mask.
        shares: share of each split, above 0; they add up to 1.
        seed: which draw.

    Raises:
        ValueError: fewer groups than splits.
    """
    _check_enough(members, shares)
    counts = {
        group: Counter(label for name in ids for label in classes.get(name, ())) for group, ids in members.items()
    }
    # Large groups first, as long as something is left that can even them out; equal ones by lot.
    rest = dict.fromkeys(sorted(members, key=lambda group: (-len(members[group]), _lot(seed, group))))
    wanted = {split: share * sum(map(len, members.values())) for split, share in shares.items()}
    totals: Counter[int] = sum(counts.values(), Counter())
    wanted_of = {label: {split: share * totals[label] for split, share in shares.items()} for label in totals}
    drawn: dict[str, str] = {}

    def assign(group: str, label: int | None) -> None:
        need = wanted if label is None else wanted_of[label]
        split = max(shares, key=lambda name: (round(need[name], 9), round(wanted[name], 9), _lot(seed, group + name)))
        drawn[group] = split
        wanted[split] -= len(members[group])
        for name, count in counts[group].items():
            wanted_of[name][split] -= count
        del rest[group]

    while rest:
        left: Counter[int] = sum((counts[group] for group in rest), Counter())
        label = min(left, key=lambda name: (left[name], name), default=None)
        for group in [group for group in rest if label is None or counts[group][label]]:
            assign(group, label)
    _fill_empty(drawn, members, shares, seed)
    return drawn


def block_splits(members: Mapping[str, Sequence[str]], shares: Mapping[str, float]) -> dict[str, str]:
    """The split of each group, in runs of groups that follow each other by name: first train, then val, then test.

    Of slices of a stack, or frames of a video, no image lies between two of another split.

    Args:
        members: ids of images by group; numbers in a group's name count as numbers.
        shares: share of the images of each split, above 0; they add up to 1.

    Raises:
        ValueError: fewer groups than splits.
    """
    _check_enough(members, shares)
    groups = sorted(members, key=lambda group: (by_number(group), group))
    ends = list(itertools.accumulate(len(members[group]) for group in groups))
    cuts = [0]
    for number, end in enumerate(itertools.accumulate(shares.values()), start=1):
        # The group end that is nearest to the share, with a group or more for each split.
        lowest, highest = cuts[-1] + 1, len(groups) - (len(shares) - number)
        cuts.append(min(range(lowest, highest + 1), key=lambda cut: abs(ends[cut - 1] - end * ends[-1])))
    cuts[-1] = len(groups)
    runs = zip(shares, itertools.pairwise(cuts), strict=True)
    return {group: split for split, (first, last) in runs for group in groups[first:last]}


def _check_enough(members: Mapping[str, Sequence[str]], shares: Mapping[str, float]) -> None:
    if len(members) < len(shares):
        raise ValueError(
            f"{len(members)} {'image or group' if len(members) == 1 else 'images or groups'} cannot be drawn into "
            f"{', '.join(shares)}: give more, or fewer splits with --split"
        )


def _fill_empty(
    drawn: dict[str, str], members: Mapping[str, Sequence[str]], shares: Mapping[str, float], seed: int
) -> None:
    """Moves a smallest group of the split with most groups into each split that got none."""
    for split in shares:
        if split in drawn.values():
            continue
        groups = Counter(drawn.values())
        donor = max(shares, key=lambda name: (groups[name], -list(shares).index(name)))
        moved = min(
            (group for group in drawn if drawn[group] == donor),
            key=lambda group: (len(members[group]), _lot(seed, group)),
        )
        drawn[moved] = split


def _lot(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).hexdigest()


def shares_of(fractions: Sequence[float]) -> dict[str, float]:
    """Shares by split, from those of train, val and, where there are three, test.

    Raises:
        ValueError: not two or three numbers of 0 or more that add up to 1, or none for train.
    """
    fits = len(fractions) in (2, 3) and all(0 <= share <= 1 for share in fractions) and abs(sum(fractions) - 1) < 1e-6
    if not fits or not fractions[0]:
        shown = " ".join(f"{share:g}" for share in fractions)
        raise ValueError(
            f"--split {shown}: give the shares of train, val and test, which add up to 1, such as 0.7 0.15 0.15"
        )
    return {split: share for split, share in zip(NAMES, fractions, strict=False) if share}


def leaks(groups: Mapping[str, str], splits: Mapping[str, str]) -> list[str]:
    """Groups with images in more than one split, from groups and splits by image."""
    by_group: dict[str, set[str]] = {}
    for image, group in groups.items():
        by_group.setdefault(group, set()).add(splits[image])
    return sorted(group for group, names in by_group.items() if len(names) > 1)
