"""A record is of its types, and nothing is converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from miseg.service.records import read_record


@dataclass(frozen=True)
class Inner:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    count: int
    share: float = 0.0
    kind: Literal["a", "b"] = "a"
    inner: tuple[Inner, ...] = ()
    rest: Mapping[str, Any] = field(default_factory=dict)


def test_a_record_is_a_dataclass_of_its_types() -> None:
    text = '{"count": 3, "share": 1, "inner": [{"name": "x", "sizes": [1, 2], "later": 0}], "later": null}'
    assert read_record(Outer, text) == Outer(3, 1.0, inner=(Inner("x", (1, 2)),))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "the value: Input should be"),
        ("{}", "count: Field required"),
        ('{"count": "3"}', "count: Input should be a valid integer"),
        ('{"count": 3.0}', "count: Input should be a valid integer"),
        ('{"count": true}', "count: Input should be a valid integer"),
        ('{"count": 1, "kind": "c"}', "kind: Input should be 'a' or 'b'"),
        ('{"count": 1, "inner": [{"name": 3}]}', r"inner\.0\.name: Input should be a valid string"),
        ('{"count": 1, "share": NaN}', "NaN is no number"),
    ],
)
def test_a_record_of_other_types_is_refused_with_the_place(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}") as refused:
        read_record(Outer, text)
    assert "\n" not in str(refused.value) and "pydantic" not in str(refused.value)
