"""Remarks on a job that goes on: printed by a command, and warnings where Python runs the job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_receiver: ContextVar[Callable[[str], None] | None] = ContextVar("miseg_remarks", default=None)


def remark(sentence: str) -> None:
    """Tell whoever runs the job a sentence that must not be lost, such as a setting that has no effect."""
    receiver = _receiver.get()
    if receiver is None:
        print(sentence, flush=True)
    else:
        receiver(sentence)


@contextlib.contextmanager
def received_by(receiver: Callable[[str], None]) -> Iterator[None]:
    """Hand remarks to `receiver` for a while, in place of printing them."""
    token = _receiver.set(receiver)
    try:
        yield
    finally:
        _receiver.reset(token)


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
