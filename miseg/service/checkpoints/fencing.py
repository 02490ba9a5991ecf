"""Fencing of a run's writers: of several processes that take a run for theirs, one goes on and the others stop.

A worker that is cut off from its cluster goes on, while its replacement has the same folder and the same journal. Each
process that writes takes a generation number when it starts, as a file in the run's folder, and looks there before it
writes: whoever sees a later one stops. Two at the same moment take files of different names, of which one is later, so
storage needs no lock and no exclusive creation. No clock is asked.

Lines of a journal carry their writer's generation too: what was written between a look and a later generation is left
out by whoever reads it (`miseg.service.journal.generations`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pyarrow import fs

from miseg.data.storage import file_system, is_local, listed, patiently, write_whole
from miseg.file_names import below

FOLDER = ".generations"
"""Folder of the files, in a run's folder; a hidden one is no checkpoint."""

_NAME = re.compile(r"(\d{1,12})-([0-9a-f]{8})-(\d{1,12})-([0-9a-f]{0,8})\.json")


class FencedError(RuntimeError):
    """Another process has taken up the run: this one must write nothing more."""


class Generation(NamedTuple):
    """A writer's place in the order of a run's writers; the later one is greater."""

    attempt: int
    """Counts the processes that drive the run's training and close it, from 1."""
    driver: str
    """Tells two drivers of one attempt apart."""
    worker: int = 0
    """Counts the workers that write for this driver, from 1; 0 is the driver itself."""
    token: str = ""
    """Tells two workers of one number apart."""

    def supersedes(self, other: Generation) -> bool:
        """Whether `other` must stop because this one is there; a driver stops for a later driver alone."""
        if self[:2] != other[:2]:
            return self > other
        return other.worker > 0 and self > other


@dataclass(frozen=True)
class Writer:
    """A process that writes a run, as one generation of it; make it with `drive` or `work`.

    Attributes:
        folder: the run's folder, a path or URI.
        generation: its own.
        first_step: the step that it goes on from; None for a driver, which makes none.
    """

    folder: str
    generation: Generation
    first_step: int | None = None

    @cached_property
    def _place(self) -> tuple[fs.FileSystem, str]:
        return file_system(below(self.folder, FOLDER))

    @property
    def local(self) -> bool:
        """Whether a look takes no request over a network."""
        return is_local(self._place[0])

    def check(self, patience: float | None = None) -> None:
        """Go on if no later writer has taken the run.

        Args:
            patience: as of `storage.patiently`.

        Raises:
            FencedError: one has.
            OSError: storage does not say.
        """
        system, folder = self._place
        later = [name for name in _names(system, folder, patience) if _parsed(name).supersedes(self.generation)]
        if later:
            raise FencedError(
                f"{self.folder} was taken up again by {_owner(system, f'{folder}/{max(later, key=_parsed)}')}, while "
                f"process {os.getpid()} on {socket.gethostname()} was cut off or stood still: this one stops here, "
                "and writes nothing more"
            )

    def again(self) -> Writer:
        """The writer that takes this driver's place in this process: workers that it has must stop.

        Raises:
            FencedError: another process has taken up the run.
            OSError: storage cannot be written.
        """
        self.check()
        return drive(self.folder, self.generation.attempt)


def drive(folder: str, known: int = 0) -> Writer:
    """The writer that drives a run from now on: its workers and its closing count, those of earlier ones do not.

    Args:
        folder: the run's folder, a path or URI.
        known: the latest attempt that a journal or MLflow knows of; the folder may have been removed since.

    Raises:
        FencedError: another process does so at the same moment, and is later.
        OSError: storage cannot be written.
    """
    return _take(folder, lambda latest: Generation(max(latest.attempt, known) + 1, secrets.token_hex(4)))


def work(folder: str, driver: Generation) -> Writer:
    """The writer of a driver's worker: workers that it had before must stop.

    Raises:
        FencedError: another driver has taken the run.
        OSError: storage cannot be written.
    """

    def following(latest: Generation) -> Generation:
        number = latest.worker + 1 if latest[:2] == driver[:2] else 1
        return Generation(*driver[:2], number, secrets.token_hex(4))

    return _take(folder, following)


def _take(folder: str, following: Callable[[Generation], Generation]) -> Writer:
    system, path = file_system(below(folder, FOLDER))
    patiently(system, lambda: system.create_dir(path))
    writer = Writer(folder, following(max(map(_parsed, _names(system, path)), default=Generation(0, ""))))
    name = "{:06d}-{}-{:06d}-{}.json".format(*writer.generation)
    about = json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode()
    if is_local(system):
        # The name is what counts, and a full disk takes that.
        Path(path, name).touch()
        with contextlib.suppress(OSError):
            Path(path, name).write_bytes(about)
    else:
        patiently(system, lambda: write_whole(system, f"{path}/{name}", about))
    try:
        writer.check()
    except FencedError:
        with contextlib.suppress(OSError):  # it writes nothing, and one that stays changes nothing
            system.delete_file(f"{path}/{name}")
        raise
    # Looked for anew: of several at one moment each saw none of the others before it had its own name.
    for left in _names(system, path):
        if writer.generation.supersedes(_parsed(left)):
            with contextlib.suppress(OSError):  # one that stays changes nothing
                system.delete_file(f"{path}/{left}")
    return writer


def _names(system: fs.FileSystem, folder: str, patience: float | None = None) -> list[str]:
    names = (info.base_name for info in patiently(system, lambda: listed(system, folder), patience))
    return [name for name in names if _NAME.fullmatch(name)]


def _parsed(name: str) -> Generation:
    match = _NAME.fullmatch(name)
    assert match is not None
    attempt, driver, worker, token = match.groups()
    return Generation(int(attempt), driver, int(worker), token)


def _owner(system: fs.FileSystem, path: str) -> str:
    with contextlib.suppress(OSError, ValueError, LookupError, RecursionError, TypeError):
        with system.open_input_stream(path) as file:
            about = json.loads(file.read())
        return f"process {int(about['process'])} on {str(about['host'])[:100]}"
    return "another process"
