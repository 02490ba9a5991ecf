"""Fields of settings classes, which methods, networks, data and experiments alike are described by."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

ADDED_LATER: Mapping[str, bool] = MappingProxyType({"added_later": True})
"""Metadata of a field that a class got after experiments with it were trained.

`field(default=…, metadata=ADDED_LATER)` is left out of `Experiment.id` while it holds its default, so that these
experiments keep their ids. The default must be what the code did without the field, and never changes.
"""


def as_before(field: dataclasses.Field, value: Any) -> bool:
    """Whether the field was added later and `value` is its default, so that the settings are those without it."""
    if not field.metadata.get("added_later"):
        return False
    made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return bool(value == made)


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """The settings that a dataclass has, by name, with their annotations."""
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if typing.get_origin(hint) is not ClassVar}


def check_choices(description: Any) -> None:
    """Raise ValueError where a field of a dataclass holds none of the choices that its annotation lists."""
    if not dataclasses.is_dataclass(description):
        return
    kind: type = type(description)
    for name, hint in hints_of(kind).items():
        choices, value = typing.get_args(hint), getattr(description, name)
        if typing.get_origin(hint) is Literal and value not in choices:
            raise ValueError(f"{name} = {value!r}: use one of {', '.join(map(str, choices))}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotation's type: a whole number is a real one, a truth value is no number."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or (hint is None and value is None):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, member) for member in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = arguments[:1] * len(value) if arguments[-1:] == (...,) else arguments
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint in (int, str, bool):
        return type(value) is hint
    kind = origin or hint
    return isinstance(kind, type) and isinstance(value, kind)


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Values that differ between two descriptions in plain JSON data, by their dotted paths, as (then, now).

    A field that one of the two lacks counts as None. Where the parts at a path are of different classes, these alone
    are named: their fields do not compare.
    """
    if "type" in then and "type" in now and then["type"] != now["type"]:
        return {"": (then["type"], now["type"])}
    values: dict[str, tuple[Any, Any]] = {}
    for name in dict.fromkeys((*then, *now)):
        before, after = then.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            inner = differing(before, after)
            values |= {f"{name}.{path}".rstrip("."): pair for path, pair in inner.items()}
        elif before != after:
            values[name] = before, after
    return values


def paths_in(settings: Any, prefix: str = "") -> list[str]:
    """Dotted paths of all settings in a dataclass, such as "optimiser.learning_rate"."""
    paths = []
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        inner = dataclasses.is_dataclass(value) and not isinstance(value, type)
        paths += paths_in(value, f"{prefix}{item.name}.") if inner else [prefix + item.name]
    return paths
