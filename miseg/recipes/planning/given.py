"""Settings that a command line gives: as a training's own options, or as SETTING=VALUE."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from miseg.methods.ranges import changed
from miseg.recipes.experiment import Experiment
from miseg.recipes.space_text import setting_at, single_value

OPTIONS = ("data", "seed")
"""Fields that a job has options of its own for."""


def with_settings(experiment: Experiment, texts: Sequence[str]) -> tuple[Experiment, dict[str, Any]]:
    """The experiment with settings that are written as SETTING=VALUE, and these settings by their paths.

    A value is written as `miseg train` takes it, with commas in place of blanks: augmentation.crop=256,256.

    Raises:
        ValueError: a text that is no setting of the experiment with a value for it; the message says which.
    """
    given: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        path = path.replace("-", "_")
        try:
            if not equals or not path or not value:
                raise ValueError("give a setting and its value, such as batch_size=4")
            if path in given:
                raise ValueError(f"{path} has a value already; name each setting once")
            if path in OPTIONS:
                raise ValueError(f"--{path} says it")
            given[path] = _value(value, setting_at(path, experiment)[0])
            changed(experiment, {path: given[path]})
        except ValueError as error:
            raise ValueError(f"--set {text}: {error}") from None
    return changed(experiment, given), given


def named_settings(arguments: Iterable[str], experiment: Experiment) -> dict[str, Any]:
    """Settings of an experiment that a command line names by options of their own, by their paths, with their values.

    Args:
        arguments: the command line.
        experiment: what it was parsed into.
    """
    names = (text.partition("=")[0].removeprefix("--") for text in arguments if text.startswith("--"))
    settings = {}
    for name in names:
        path = name.replace("-", "_")
        head, dot, last = path.rpartition(".")
        for candidate in (path, f"{head}{dot}{last.removeprefix('no_')}"):
            try:
                settings[candidate] = attrgetter(candidate)(experiment)
            except AttributeError:
                continue  # an option of the job
    if experiment.label_budget is not None:
        settings["label_budget"] = experiment.label_budget
    return settings


def _value(text: str, hint: Any) -> Any:
    """A setting's value from its text, by the setting's annotation."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = list(typing.get_args(hint)) if is_union else [hint]
    if text == "None" and type(None) in kinds:
        return None
    parts = text.split(",")
    for kind in kinds:
        if typing.get_origin(kind) is tuple and len(parts) > 1:
            number, *others = typing.get_args(kind)
            if others != [Ellipsis] and len(parts) != 1 + len(others):
                raise ValueError(f"give {1 + len(others)} values, with commas between them")
            return tuple(single_value(part, [number]) for part in parts)
    return single_value(text, [kind for kind in kinds if typing.get_origin(kind) is not tuple])
