"""Handling of checkpoints that cannot be written: a full disk, a folder that is read-only by now."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from miseg.service.terminal.messages import say

WhenStorageFails = Literal["continue", "stop"]

TAG = "miseg.checkpoint_failures"


class StorageError(RuntimeError):
    """A training ended because storage did not take its checkpoint; the message says which, and what to do."""


class StorageFailures:
    """Says each checkpoint that could not be written, and goes on or stops.

    Args:
        policy: "continue": the next validation tries again, and a kill until then costs the steps since the last
            checkpoint; "stop": the training ends, so that nothing is computed that may be lost.
        tag: sets tags on the run.
    """

    def __init__(self, policy: WhenStorageFails, tag: Callable[[Mapping[str, str]], None]) -> None:
        self.policy, self._tag = policy, tag
        self._count, self._unwritten, self._step = 0, "", -1

    @contextlib.contextmanager
    def at(self, step: int) -> Iterator[None]:
        """The checkpoint of `step` is written in the block.

        Raises:
            StorageError: it could not be, and the policy is to stop.
        """
        try:
            yield
        except OSError as error:
            self.failed(step, error)
        else:
            # One that was given up while it was being written may end after a later one failed.
            if self._unwritten and step >= self._step:
                say(f"the checkpoint of step {step} was written: storage takes them again")
                self._unwritten = ""

    def failed(self, step: int, error: OSError) -> None:
        """The checkpoint of `step` could not be written.

        Raises:
            StorageError: the policy is to stop.
        """
        self._count, self._step = self._count + 1, step
        self._unwritten = f"the checkpoint of step {step} could not be written: {error}"
        say(f"warning: {self._unwritten}; the one before it stays")
        self._tag({TAG: f"{self._count}, the last of them: {self._unwritten}"})
        if self.policy == "stop":
            self.check()

    def check(self) -> None:
        """Whether the last checkpoint that was tried is there.

        Raises:
            StorageError: it is not.
        """
        if self._unwritten:
            raise StorageError(
                f"{self._unwritten}; make room, or storage writable, and start the run again under its name: it goes "
                "on from the checkpoint before"
            )
