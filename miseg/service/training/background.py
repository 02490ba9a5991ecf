"""Background writer of what a validation leaves, off the training thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class WriterBusyError(OSError):
    """The piece under way takes too long: storage that hangs must not hold the training up for ever."""


class BackgroundWriter:
    """A thread that does one piece of work while the caller goes on.

    Pieces never pile up: a second one waits for the first, and so does `wait`. What a piece raised is raised there.

    Args:
        patience: seconds that a caller waits for the piece under way.
    """

    def __init__(self, patience: float = 600.0) -> None:
        self.patience = patience
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="miseg-aside")
        self._under_way: Future[None] | None = None

    def do(self, work: Callable[[], None]) -> None:
        """Start `work` once the piece before it is done.

        Raises:
            BusyError: that takes too long; `work` is not done then.
        """
        self.wait()
        self._under_way = self._thread.submit(work)

    def wait(self) -> None:
        """Until nothing is under way.

        Raises:
            BusyError: that takes too long.
        """
        if self._under_way is not None:
            wait([self._under_way], self.patience)
            if not self._under_way.done():
                raise WriterBusyError(f"storage has been busy with the one before for over {self.patience:.0f} s")
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def close(self) -> None:
        """End the thread after the piece under way, whatever becomes of it, unless that takes too long."""
        if self._under_way is not None:
            wait([self._under_way], self.patience)
        self._thread.shutdown(wait=self._under_way is None or self._under_way.done())
