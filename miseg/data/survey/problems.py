"""Sentences on what looks wrong in a data set, each with its mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from miseg.data.survey.duplicates import Copy, NameSeries
from miseg.data.survey.splits import SplitSummary
from miseg.data.survey.table import percent

RARE = 0.001
"""Share of train's labelled pixels below which a class is told as rare."""
FEW_IMAGES = 5
"""Images of a split below which it is told as small."""
MOSTLY_IGNORED = 0.5
"""Share of ignored pixels from which it is told."""
ISOLATED = 0.08
"""Isolated pixels per pair of neighbours of different labels from which masks look interpolated or compressed."""
BESIDE = 0.25
"""Share of a split's images that are next to one of the first split, from which a series looks drawn apart."""

_LISTED = 5


def find_problems(
    classes: Sequence[str], splits: dict[str, SplitSummary], copies: Sequence[Copy], series: NameSeries | None
) -> tuple[str, ...]:
    """The sentences, the gravest first; none where nothing looks wrong."""
    labelled = {name: split for name, split in splits.items() if split.masks}
    return (
        *_of_masks(classes, labelled),
        *_of_classes(classes, labelled),
        *_of_splits(splits),
        *_of_images(splits),
        *_of_copies(splits, copies),
        *_of_series(splits, series),
    )


def _of_masks(classes: Sequence[str], splits: dict[str, SplitSummary]) -> Iterator[str]:
    for name, split in splits.items():
        shown = [label for label in range(len(classes)) if split.shown[label]]
        if not shown and not split.beyond:
            yield (
                f"no mask of {name} has a labelled pixel, all are ignored: see which value of the masks is ignored, "
                "and pack again"
            )
            continue
        if len(shown) == 1 and len(classes) > 1:
            yield (
                f"every labelled pixel of {name} is {classes[shown[0]]}: see that its masks are the right files and "
                "that each value of theirs stands for the class you mean"
            )
        if split.ignored_share > MOSTLY_IGNORED:
            yield (
                f"{percent(split.ignored_share)} of {name}'s pixels are ignored: where they are a class of their own, "
                "pack again with that value as a class; where they are unlabelled, it is well"
            )
        if split.unlabelled:
            yield (
                f"{len(split.unlabelled)} of {split.masks} masks of {name} have no labelled pixel "
                f"({_list(split.unlabelled)}): leave these images out, or mend their masks"
            )
        if split.beyond:
            yield (
                f"{split.beyond} pixels of {name} hold labels beyond the {len(classes)} classes: correct the masks and "
                "pack again"
            )
        if split.isolated > ISOLATED * split.borders:
            yield (
                f"masks of {name} are speckled: {split.isolated} single pixels of a label of their own, on "
                f"{split.borders} borders; JPEG or resizing with interpolation does that to ids: take the original "
                "masks, or resize them by nearest neighbour"
            )


def _of_classes(classes: Sequence[str], splits: dict[str, SplitSummary]) -> Iterator[str]:
    if not any(split.labelled for split in splits.values()):
        return
    labels = range(len(classes))
    seen = {name: {label for label in labels if split.shown[label]} for name, split in splits.items()}
    never = set(labels) - set().union(*seen.values())
    if never:
        yield (
            f"in no mask at all: {_names(classes, never)}: see that the classes are numbered as the masks are; a class "
            "that is only missing here may stay, unscored"
        )
    learned = "train" if "train" in splits else None
    if learned is None or not seen[learned]:
        return
    unlearned = sorted(set(labels) - seen[learned] - never)
    elsewhere = {label: [name for name in splits if label in seen[name]] for label in unlearned}
    for names, missing in _grouped(elsewhere).items():
        yield (
            f"in {' and '.join(names)} alone, so never learned: {_names(classes, missing)}: draw the splits again with "
            "another seed, or move an image that shows it to train"
        )
    lacking = {
        label: [name for name in splits if name != learned and label not in seen[name] and seen[name]]
        for label in sorted(seen[learned])
    }
    for names, missing in _grouped({label: names for label, names in lacking.items() if names}).items():
        yield (
            f"not in {' and '.join(names)}, so not scored there: {_names(classes, missing)}: move images that show it, "
            "or draw the splits again with another seed"
        )
    rare = {label for label in seen[learned] if splits[learned].share(label) < RARE}
    if rare:
        parts = Counter({label: splits[learned].pixels[label] for label in rare})
        least = ", ".join(
            f"{classes[label]} ({percent(splits[learned].share(label))} in {splits[learned].shown[label]} images)"
            for label, _ in sorted(parts.items(), key=lambda item: (item[1], item[0]))[:_LISTED]
        )
        more = f" and {len(rare) - _LISTED} more" if len(rare) > _LISTED else ""
        yield (
            f"under {percent(RARE)} of {learned}'s pixels: {least}{more}: label more images that show it, merge it "
            "with another class, or read its score with care"
        )


def _of_splits(splits: dict[str, SplitSummary]) -> Iterator[str]:
    for name, split in splits.items():
        if split.images < FEW_IMAGES:
            mend = "take more" if name == "train" else "give it more"
            what = "little to learn from" if name == "train" else "scores of so few vary much by chance"
            yield f"{name} has {_count(split.images, 'image')}, {what}: {mend}, by another share or more images"


def _of_images(splits: dict[str, SplitSummary]) -> Iterator[str]:
    for name, split in splits.items():
        if split.constant:
            yield (
                f"{_count(len(split.constant), 'image')} of {name} of one value throughout ({_list(split.constant)}): "
                "blank, or written wrongly; leave out or export again"
            )


def _of_copies(splits: dict[str, SplitSummary], copies: Sequence[Copy]) -> Iterator[str]:
    for (earlier, later), number in sorted(Counter(copy.splits for copy in copies).items()):
        pair = next(copy for copy in copies if copy.splits == (earlier, later))
        share = percent(number / splits[later].images)
        yield (
            f"{number} of {splits[later].images} images of {later} ({share}) nearly equal one of {earlier}, such as "
            f"{pair.ids[1]} and {pair.ids[0]}: {later}'s scores look too good; keep such images in one split"
        )


def _of_series(splits: dict[str, SplitSummary], series: NameSeries | None) -> Iterator[str]:
    if series is None:
        return
    reference = next(iter(splits))
    for name, pairs in series.beside.items():
        if len(pairs) > BESIDE * splits[name].images:
            yield (
                f"{len(pairs)} of {splits[name].images} images of {name} are next to an image of {reference} in a "
                f"series, such as {pairs[0][0]} beside {pairs[0][1]}: {name}'s scores look too good; keep clips or "
                "patients in one split with --group, or cut one stack into runs with --split-blocks"
            )


def _grouped(by_label: dict[int, list[str]]) -> dict[tuple[str, ...], list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for label, names in by_label.items():
        groups.setdefault(tuple(names), []).append(label)
    return groups


def _names(classes: Sequence[str], labels: Sequence[int] | set[int]) -> str:
    return _list([classes[label] for label in sorted(labels)])


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
