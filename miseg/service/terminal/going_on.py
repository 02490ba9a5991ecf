"""The command that goes on with a job which ended early: the one that was given, with the options that name its job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from miseg.service.terminal.pasted import pasted

AGAIN = "the same command goes on, with its --name or --resume"
"""In place of the command, where none is known: of a notebook, or before the job has its name."""


class _Job:
    """The command of this process, and the options that its job goes on with."""

    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    depth = 0


def begin(command: Sequence[str]) -> None:
    """Note the command that this process carries out, with its options."""
    _Job.command, _Job.options, _Job.depth = tuple(command), (), 0


@contextlib.contextmanager
def goes_on_with(*options: str) -> Iterator[None]:
    """Note the options that name a job, such as "--name", "first"; a tuning inside a study is named by the study.

    They stay where an error ends the context: its message is written later.
    """
    if _Job.depth == 0:
        _Job.options = options
    _Job.depth += 1
    try:
        yield
    finally:
        _Job.depth -= 1
    if _Job.depth == 0:
        _Job.options = ()


def how_to_go_on() -> str:
    """The end of an error's sentence: the command that goes on, or `AGAIN`."""
    if not _Job.command or not _Job.options:
        return AGAIN
    return f"to go on:\n{pasted(continued(_Job.command, _Job.options))}"


def continued(command: Sequence[str], options: Sequence[str]) -> list[str]:
    """A command with the options that it does not have yet."""
    words = list(command)
    for flag, *values in _flags(options):
        if not any(word == flag or word.startswith(f"{flag}=") for word in command):
            words += [flag, *values]
    return words


def _flags(options: Sequence[str]) -> list[list[str]]:
    """Each option with its values."""
    groups: list[list[str]] = []
    for word in options:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups
