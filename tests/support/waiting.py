"""Time that a thread waits for something, apart from what a busy machine takes."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDULER = Path("/proc/thread-self/schedstat")


def waited() -> float:
    """Seconds, from an arbitrary moment, that this thread has not run although a processor was to be had.

    The difference of two such times is what it waited for others: an answer, a lock, a disk, a sleep. Where the kernel
    does not say when a thread ran, it is all of the time.
    """
    try:
        # Nanoseconds on a processor, and waiting for one.
        running, queueing, _ = map(int, _SCHEDULER.read_text().split())
    except OSError:
        return time.monotonic()
    return time.monotonic() - (running + queueing) / 1e9
