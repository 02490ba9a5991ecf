"""The end of a job by Ctrl-C, with what is kept and how it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from miseg.service.terminal.going_on import continued
from miseg.service.terminal.pasted import pasted


class InterruptedJobError(KeyboardInterrupt):
    """A job that its user stopped.

    Args:
        kept: sentence on what is kept.
        options: options that the command needs to go on, such as ("--name", "first").
    """

    def __init__(self, kept: str, options: Sequence[str] = ()) -> None:
        super().__init__(kept)
        self.kept, self.options = kept, tuple(options)

    def text(self, command: Sequence[str]) -> str:
        """Sentence on what is kept, and the command that goes on.

        Args:
            command: the command that was interrupted, with its options.
        """
        return f"{self.kept}; to go on:\n{pasted(continued(command, self.options))}"
