"""Entries of a journal as they are read: whoever can write to the storage writes journals.

An entry of a kind that is not known here is of another version, and is handed on as it is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from miseg.json_values import parse
from miseg.service.records import read_record

Entry: TypeAlias = dict[str, Any]

_Count = Annotated[int, Field(ge=0, lt=2**53)]
"""Steps, and milliseconds since 1970: what a float holds exactly."""


class _AnyEntry(BaseModel):
    # What another version adds is handed on.
    model_config = ConfigDict(extra="allow")

    kind: str


class _Timed(_AnyEntry):
    time: _Count


class _Metrics(_Timed):
    step: _Count
    values: dict[str, float]


class _Artifact(_Timed):
    file: str
    name: str
    folder: str


class _Tags(_Timed):
    values: dict[str, str]


class _Model(_Timed):
    role: Literal["best", "last"]
    folder: str
    step: _Count


class _Registered(_Timed):
    name: str
    metric: str
    tags: dict[str, str]


class _End(_Timed):
    status: Literal["FINISHED", "FAILED", "KILLED"]
    tags: dict[str, str]


_KINDS: dict[str, type[_AnyEntry]] = {
    "metrics": _Metrics,
    "artifact": _Artifact,
    "tags": _Tags,
    "model": _Model,
    "register": _Registered,
    "end": _End,
}


def parsed(line: bytes) -> Entry:
    """The entry that a line of a journal holds.

    Raises:
        ValueError: it is damaged, or no entry; the message says what is wrong.
    """
    entry = parse(line, finite=False)
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        raise ValueError("no object with a kind")
    return read_record(_KINDS.get(entry["kind"], _AnyEntry), line, finite=False).model_dump()
