"""The images of a data set that are drawn for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from miseg.data.survey.measures import ImageMeasures

EXAMPLES = 4

_GOLDEN = (5**0.5 - 1) / 2


def choose_examples(measures: Mapping[str, Sequence[ImageMeasures]], classes: int) -> tuple[tuple[str, int], ...]:
    """Up to four images, (split, index): one of each split, the others of the first, that together show most classes.

    Args:
        measures: of the images, by split.
        classes: K.
    """
    splits = list(measures)[:EXAMPLES]
    # The first split has what the others leave.
    counts = dict.fromkeys(splits, 1)
    counts[splits[0]] += EXAMPLES - len(splits)
    shown = np.zeros(classes, bool)
    examples: list[tuple[str, int]] = []
    for split, count in counts.items():
        images = measures[split]
        presence = np.array([_classes_of(image, classes) for image in images]).reshape(len(images), classes)
        # Where images show equally many new classes, as in sets of two, those far apart are taken.
        order = np.argsort(np.arange(1, len(images) + 1) * _GOLDEN % 1, kind="stable")
        chosen: list[int] = []
        for _ in range(min(count, len(images))):
            left = [index for index in order.tolist() if index not in chosen]
            new, all_shown = (presence & ~shown).sum(1).tolist(), presence.sum(1).tolist()
            best = max(left, key=list(zip(new, all_shown, strict=True)).__getitem__)
            chosen.append(best)
            shown |= presence[best]
        examples += [(split, index) for index in sorted(chosen)]
    return tuple(examples)


def _classes_of(image: ImageMeasures, classes: int) -> np.ndarray:
    return np.zeros(classes, bool) if image.counts is None else image.counts[:classes] > 0
