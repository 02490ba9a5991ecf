"""JSON that somebody else may have written, parsed within limits: every file of a storage, and what users give.

Python's own parser believes what it reads: numbers of any length, `Infinity`, half a character. What comes out of it
then fails where it is used, far from the file.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MOST_BYTES = 2**28
"""Of a text that is parsed."""

MOST_DIGITS = 25
"""Of a whole number: those of 64 bits have 20."""

DEEPEST = 64
"""Lists and objects within each other. Experiments have 5."""

_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_MAY_BE_TOO_LONG = b"0" * (MOST_DIGITS + 1), b"e000", b"e+000"
"""Signs of a number that is too long, or too large for a float, where all digits are written alike."""


def parse(text: bytes | str, *, most_bytes: int = MOST_BYTES, finite: bool = True) -> Any:
    """The value of a JSON text, with or without a byte order mark.

    Args:
        text: the text; bytes are UTF-8.
        most_bytes: its length, at most (of text, characters).
        finite: whether NaN and Infinity, which JSON does not have, are refused.

    Raises:
        ValueError: no JSON, or more of anything than is allowed; the message is the reason, on one line.
    """
    if len(text) > most_bytes:
        raise ValueError(f"more than {most_bytes >> 20} MiB")
    constant = _no_number if finite else float
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        # Looked for first: a call for each number of a large file would take as long as all the rest.
        alike = decoded.encode(errors="replace").translate(_ALIKE)
        hooks: dict[str, Any] = (
            {"parse_int": _whole, "parse_float": _real} if any(part in alike for part in _MAY_BE_TOO_LONG) else {}
        )
        value = json.loads(decoded, parse_constant=constant, **hooks)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start})") from None
    _check_depth(value)
    if "\\ud" in decoded.lower():
        _check_characters(value)
    return value


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_depth(value: Any) -> None:
    level = [value] if type(value) in (dict, list) else []
    for _ in range(DEEPEST):
        level = [
            item
            for holder in level
            for item in (holder.values() if type(holder) is dict else holder)
            if type(item) in (dict, list)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {DEEPEST} deep")


def _check_characters(value: Any) -> None:
    """Raise ValueError for half of a character, which no file and no terminal takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a character (a surrogate alone)") from None
