"""Search spaces as they are typed: `method.weight=0.1..0.9`.

What stands behind the equals sign is one of

- `0.1..0.9`, values between two ends, each as likely; whole ones where the setting takes whole numbers;
- `1e-4..1e-2:log`, the same on a log scale;
- `x10`, from a tenth of the recipe's own value to ten times it, on a log scale;
- `average,max`, one of two or more values; of a switch, `true,false`.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from miseg.methods.ranges import Around, Choice, Range, Space, Uniform, Whole
from miseg.methods.registry import registered
from miseg.nearest_names import ABBREVIATIONS, either, nearest
from miseg.recipes.experiment import Experiment
from miseg.settings import hints_of, paths_in

EXAMPLE = "such as method.weight=0.1..0.9"

ALIKE = ("data", "seed", "steps", "validate_every")
"""Fields that all trials of a tuning have in common."""


def parsed(texts: Sequence[str], base: Experiment) -> Space:
    """The search space of `base` that the texts describe, every end of every range tried for its checks.

    A setting that the method's registered space has, too, keeps its name there: the papers' λ is `lambda`.

    Raises:
        ValueError: a text that is no range of a setting of `base`; the message says which, and the mend.
    """
    usual = registered()[type(base.method)].space.ranges
    ranges: dict[str, Range] = {}
    for text in texts:
        path, equals, within = text.partition("=")
        if not equals or not path or not within:
            raise ValueError(f"--space {text}: give a setting and its range, {EXAMPLE}")
        path = path.replace("-", "_")  # as the options of a training are written
        if path in ranges:
            raise ValueError(f"--space {text}: {path} has a range already; name each setting once")
        try:
            if path in ALIKE:
                raise ValueError(f"all trials share {', '.join(ALIKE)}; the job's own options change them")
            parsed_range = _range(within, *setting_at(path, base))
        except ValueError as error:
            raise ValueError(f"--space {text}: {error}") from None
        ranges[path] = dataclasses.replace(parsed_range, name=usual[path].name if path in usual else "")
    space = Space(ranges)
    check(space, base)
    return space


def check(space: Space, base: Experiment) -> list[Experiment]:
    """`base` at each end of each range. Raises ValueError where one of them is no experiment."""
    try:
        return [experiment for _, _, experiment in space.corners(base)]
    except ValueError as error:
        raise ValueError(f"--space {error}") from None


def setting_at(path: str, base: Experiment) -> tuple[Any, Any]:
    """The annotation of a setting and its value.

    Raises:
        ValueError: no single setting is at the path.
    """
    hint: Any = None
    value: Any = base
    name = ""
    for part in path.split("."):
        if not dataclasses.is_dataclass(value):
            raise ValueError(f"{name} has no settings of its own")
        hints = _hints(value)
        if part not in hints:
            raise ValueError(f"{type(value).__name__} has no setting {part}; {_meant(path, base, hints)}")
        hint, value, name = hints[part], getattr(value, part), part
    if dataclasses.is_dataclass(value):
        inside = ", ".join(f"{path}.{part}" for part in _hints(value))
        raise ValueError(f"{name} is a group of settings; name one of {inside}")
    return hint, value


def _meant(path: str, base: Experiment, others: Iterable[str]) -> str:
    """Words on the settings that may have been meant by a path that is none; on `others` where none is similar."""
    paths = paths_in(base)
    word = path.rpartition(".")[2].replace("_", "-")
    word = ABBREVIATIONS.get(word, word).replace("-", "_")
    ends = {known.rpartition(".")[2]: known for known in reversed(paths)}
    close = [ends[name] for name in nearest(word, ends)]
    return f"did you mean {either(close)}?" if close else f"it has {', '.join(others)}"


def _hints(settings: Any) -> dict[str, Any]:
    kind: type = type(settings)
    return hints_of(kind)


def _range(text: str, hint: Any, own: Any) -> Range:
    """The range that is written."""
    kinds = [kind for kind in _members(hint) if kind is not type(None)]
    number = _number_kind(kinds)
    if text.startswith("x") and number is not None:
        return _around(text, number, own)
    if ".." in text:
        if number is None:
            raise ValueError(f"it takes no numbers; give {_allowed(kinds)}")
        return _between(text, number)
    values = tuple(single_value(value, kinds) for value in text.split(","))
    if len(set(values)) < max(2, len(values)):
        raise ValueError("give two or more values with commas between them, each once, or two ends as 1..5")
    return Choice(values)


def _around(text: str, number: type, own: Any) -> Around:
    factor = _number(text[1:], float)
    if not factor > 1:
        raise ValueError(f"{text}: give a factor above 1, such as x10")
    if own is None or not own > 0:
        raise ValueError(f"{text} is around the recipe's own value, which is {own}; give two ends, such as 0.1..0.9")
    return Around(factor, whole=number is int)


def _between(text: str, number: type) -> Range:
    ends, colon, scale = text.partition(":")
    if colon and scale != "log":
        raise ValueError(f":{scale}: the one scale besides the plain one is :log")
    low, high = (_number(end, number) for end in ends.split("..", 1))
    if not low < high:
        raise ValueError(f"{ends}: the lower end stands first, and below the higher")
    if not colon:
        return Whole(low, high) if number is int else Uniform(low, high)
    if not low > 0:
        raise ValueError(f"{text}: a log scale is of values above 0")
    if number is int:
        raise ValueError(f"{text}: whole numbers have no log scale; give values with commas, such as 1,2,4,8")
    return Uniform(low, high, log=True)


def single_value(text: str, kinds: Sequence[Any]) -> Any:
    """A single value of a setting that takes these kinds: types, and literals.

    Raises:
        ValueError: none of its values.
    """
    number = _number_kind(kinds)
    words = [word for kind in kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)]
    by_text = {str(word): word for word in words} | ({"true": True, "false": False} if bool in kinds else {})
    if text in by_text:
        return by_text[text]
    if number is not None:
        return _number(text, number)
    if str in kinds:
        return text
    raise ValueError(f"{text!r} is none of its values; give {_allowed(kinds)}")


def _number_kind(kinds: Sequence[Any]) -> type | None:
    return next((kind for kind in (float, int) if kind in kinds), None)


def _allowed(kinds: Sequence[Any]) -> str:
    words = [str(word) for kind in kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)]
    if bool in kinds:
        return "true,false"
    return f"some of {','.join(words)}" if words else "another setting: this one takes neither numbers nor words"


def _number(text: str, number: type) -> Any:
    try:
        value = number(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no {'whole number' if number is int else 'number'}")
    return value


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
