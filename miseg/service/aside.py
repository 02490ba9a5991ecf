"""What a validation leaves to be written, off the training thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Aside:
    """A thread that does one piece of work while the caller goes on.

    Pieces never pile up: a second one waits for the first, and so does `wait`. What a piece raised is raised there.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="miseg-aside")
        self._under_way: Future[None] | None = None

    def do(self, work: Callable[[], None]) -> None:
        """Start `work` once the piece before it is done."""
        self.wait()
        self._under_way = self._thread.submit(work)

    def wait(self) -> None:
        """Until nothing is under way."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def close(self) -> None:
        """End the thread after the piece under way, whatever becomes of it."""
        self._thread.shutdown(wait=True)
