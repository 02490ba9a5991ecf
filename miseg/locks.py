"""Locks of files that processes on several machines respect."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path


class LockRefusedError(OSError):
    """A file system that takes no locks; the message says where."""


@contextlib.contextmanager
def locked(path: Path, patience: float = math.inf) -> Iterator[None]:
    """Be the one process, and thread, that holds the lock at `path`, on whatever machine.

    The file is opened for writing, or NFS refuses the lock; and it holds nothing, for others cannot read a file under a
    lock of SMB's. It stays: one that was removed while another waits for it would be two.

    Args:
        path: the lock's file, which is made; its folder exists.
        patience: seconds to wait for another holder.

    Raises:
        BlockingIOError: another one holds it for longer.
        LockRefusedError: the file system refuses locks.
        OSError: the file cannot be made.
    """
    until = time.monotonic() + patience
    with open(path, "ab", opener=_unlinked) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):  # the latter is SMB's
                    raise LockRefusedError(
                        error.errno,
                        f"{path} cannot be locked ({error.strerror}): mount this file system with locks (NFS: with a "
                        "lock daemon, or local_lock=flock), or give a --storage of another",
                    ) from error
                if time.monotonic() > until:
                    raise BlockingIOError(errno.EAGAIN, f"{path} is held by another process") from None
            time.sleep(0.05)
        # Closing the file frees it, and so does the system where this process is killed.
        yield


def _unlinked(name: str, flags: int) -> int:
    """A descriptor as `open` has it; a link, which would make a file elsewhere, and a pipe, which waits, are errors."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
