"""JSON of strangers is parsed within limits, and records have their types: nothing is converted or overflows."""

from __future__ import annotations

import json
import math
import random
from typing import Any, Literal

import pytest

from miseg.json_values import DEEPEST, MOST_DIGITS, parse
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.settings import fits
from tests.faults.fuzz import mutated


def test_what_is_within_the_limits_is_what_json_says() -> None:
    draw = random.Random(0)
    scalars = [
        None,
        True,
        0,
        -1,
        2**63,
        1.5,
        -1e-300,
        1e300,
        "é",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "",
    ]

    def value(depth: int) -> Any:
        if depth == 0 or draw.random() < 0.3:
            return draw.choice(scalars)
        if draw.random() < 0.5:
            return [value(depth - 1) for _ in range(draw.randint(0, 4))]
        return {draw.choice("abcé"): value(depth - 1) for _ in range(draw.randint(0, 4))}

    for _ in range(300):
        expected = value(6)
        for text in (json.dumps(expected), json.dumps(expected, ensure_ascii=False)):
            assert parse(text) == parse(text.encode()) == parse(b"\xef\xbb\xbf" + text.encode()) == expected
    assert parse("[" * DEEPEST + "]" * DEEPEST) is not None and parse("9" * MOST_DIGITS) == int("9" * MOST_DIGITS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9" * 400, "a number of 400 digits"),
        ("9" * 5000, "a number of 5000 digits"),
        ('{"a": -' + "1" * 26 + "}", "a number of 27 digits"),
        ("1e999", "the number 1e999 is too large"),
        ("[-1E+400]", "the number -1E\\+400 is too large"),
        ("1" * 500 + ".5", "too large"),
        ("Infinity", "Infinity is no number"),
        ('{"a": [NaN]}', "NaN is no number"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested more than"),
        ("[" * 100_000, "nested more than"),
        ('{"a":' * 100_000, "nested more than"),
        (b"\xff\xfe[]", r"not UTF-8 text \(byte 0\)"),
        ('"\\ud800"', "half of a character"),
        ('{"\\uDfff": 1}', "half of a character"),
        ("{", "property name"),
        ("", "Expecting value"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_beyond_them_is_refused_with_a_reason(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse(text)
    assert len(str(refused.value)) < 200 and "\n" not in str(refused.value)


def test_a_text_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(ValueError, match="more than 1 MiB"):
        parse(b"[" + b" " * 2**20 + b"]", most_bytes=2**20)


def test_a_journal_may_hold_what_json_has_not() -> None:
    assert math.isnan(parse("[NaN]", finite=False)[0]) and parse("-Infinity", finite=False) == -math.inf
    with pytest.raises(ValueError, match="too large"):
        parse("1e999", finite=False)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True), (1.5, float, True), (True, float, False), (math.nan, float, False), (math.inf, float, False),
        (1, int, True), (1.0, int, False), (True, int, False), (None, int | None, True), ("1", int, False),
        ((1, 2), tuple[int, int], True), ((1,), tuple[int, int], False), ([1, 2], tuple[int, int], False),
        ((), tuple[int, ...], True), ((1, "a"), tuple[int, ...], False), ("a", Literal["a", "b"], True),
        (1, Literal["a", 1], True), (True, Literal[1], False), ("c", Literal["a"], False), (None, None, True),
        (("a", (1, 2)), tuple[str, tuple[int, int]], True), (object(), Any, True),
    ],
)  # fmt: skip
def test_whether_a_value_is_of_an_annotation(value: object, hint: object, expected: bool) -> None:
    assert fits(value, hint) == expected


def test_whatever_is_changed_in_an_experiment_is_one_or_a_value_error() -> None:
    """Every recipe, each changed a few times: what comes back has an id, and the rest is refused with a reason."""
    draw, made, refused = random.Random(0), 0, 0
    for recipe in RECIPES.values():
        whole = json.dumps(to_dict(recipe())).encode()
        assert from_dict(parse(whole)) == recipe()
        for _ in range(8):
            try:
                experiment = from_dict(parse(mutated(whole, draw)))
            except ValueError as error:
                refused += len(str(error)) > 10
                continue
            assert isinstance(experiment, Experiment) and len(experiment.id) == 12
            made += 1
    assert made > 50 and refused > 500
