"""Models that predict one class on every pixel: their scores tell that class's share of the pixels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ONE_CLASS = "miseg.one_class"
"""Tag of a run whose predictions were counted: "no", or the last step that was measured and the only class there."""


def tag_of(only: int | None, class_names: Sequence[str], step: int) -> dict[str, str]:
    """The tag that says whether predictions are of one class alone: `only`, see `ConfusionMatrix.only_prediction`."""
    return {ONE_CLASS: "no" if only is None else f"step {step}: {class_names[only]}"}


def class_of(tags: Mapping[str, str]) -> str:
    """Name of the only class that a run predicts by its tags; "" where it predicts several, or was not looked at."""
    return tags.get(ONE_CLASS, "").partition(": ")[2]


TELLS = "its scores tell that class's share of the pixels, and no more"
"""Consequence of one class everywhere, for the end of a sentence."""


def phrase(classes: Sequence[str]) -> str:
    """Predicate of a sentence, such as "predicts one class (sky) everywhere", on a row's models; "" where none does.

    Args:
        classes: of each model what `class_of` says.
    """
    single = [name for name in classes if name]
    if not single:
        return ""
    names = " or ".join(dict.fromkeys(single))
    part = "" if len(single) == len(classes) else f" on {len(single)} of {len(classes)} seeds"
    return f"predicts one class ({names}) everywhere{part}"
