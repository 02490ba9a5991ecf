"""Records that somebody else may have written: JSON texts as the dataclasses that they stand for."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from miseg.json_values import parse

Record = TypeVar("Record")

_adapters: dict[Any, Any] = {}


def read_record(kind: type[Record], text: bytes | str, *, finite: bool = True) -> Record:
    """A dataclass, or another type that pydantic knows, from a JSON text that holds just that; nothing is converted.

    Keys that the type does not have are left out: a later version may have written them.

    Args:
        kind: the type.
        text, finite: as of `parse`.

    Raises:
        ValueError: as `parse`, or a value that is missing or of another type; the message names it.
    """
    parse(text, finite=finite)
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    try:
        return _adapters[kind].validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the value'}: {first['msg']}") from None
