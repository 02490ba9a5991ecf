"""Files and folders that are whole at every moment, written beside their place and renamed; locks; text files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import logging
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

_LOCK = ".lock"
"""End of a lock's name, after that of what it stands for."""


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False, several: bool = False) -> Iterator[Path]:
    """A path to write a file at, which takes the place of `path` when the block ends.

    When the block ends by an error, what was written goes, and what was at `path` stays.

    Args:
        path: the file's place; its folder exists.
        durable: whether the file is on the disk when the block has ended, so that a loss of power leaves the one
            before or the new one.
        several: whether other processes or threads may write the same file now. What one of them leaves when it is
            killed stays; otherwise the next one clears it up.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.writing{_suffix() if several else ''}")
    try:
        unfinished.unlink(missing_ok=True)
        yield unfinished
        if durable:
            sync(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    if durable:
        sync(path.parent)


@contextlib.contextmanager
def folder_beside(path: Path, *, several: bool = False) -> Iterator[Path]:
    """A new hidden folder beside `path`, which is made with its parents; what it holds in the end goes with it.

    Args:
        path: what the folder, or its files, shall replace.
        several: as of `replacing`.

    Raises:
        OSError: it cannot be made.
    """
    folder = path.with_name(f".{path.name}.writing{_suffix() if several else ''}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def owned_folder_beside(path: Path) -> Iterator[Path]:
    """A new hidden folder beside `path`; those that killed processes left there go, with a warning.

    Each has a lock beside it for as long as its process lives, so that those of other machines are told apart too.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in sorted(path.parent.glob(f".{glob.escape(path.name)}.writing-*{_LOCK}")):
        with contextlib.suppress(OSError), locked(left, patience=0):  # held by a living one, or on no locks
            folder = left.with_name(left.name.removesuffix(_LOCK))
            if folder.exists():
                logger.warning("%s, which a process that was killed had left, is removed", folder)
                shutil.rmtree(folder)
            left.unlink()
    with contextlib.ExitStack() as stack:
        folder = path.with_name(f".{path.name}.writing{_suffix()}")
        lock = folder.with_name(f"{folder.name}{_LOCK}")
        with contextlib.suppress(LockRefusedError):  # then nobody can tell, and it stays if this process is killed
            stack.enter_context(locked(lock))
        stack.callback(lock.unlink, missing_ok=True)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir()
        yield folder


def replace_folder(whole: Path, folder: Path, *, durable: bool = False) -> None:
    """Rename the folder `whole` to `folder`, and remove what was there.

    A whole folder is on the disk at every moment: one that holds something cannot be renamed onto, so it is renamed to
    a hidden name first.

    Args:
        whole: the new folder.
        folder: its place.
        durable: whether its files are on the disk before it is renamed, and its name afterwards, so that a loss of
            power leaves the one before or the new one.

    Raises:
        OSError: it cannot be renamed; what was there stays.
    """
    if durable:
        for path in (*whole.iterdir(), whole):
            sync(path)
    earlier = folder.with_name(f".{folder.name}.earlier{_suffix()}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(earlier)
    try:
        whole.rename(folder)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            earlier.rename(folder)
        raise
    if durable:
        sync(folder.parent)
    shutil.rmtree(earlier, ignore_errors=True)


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
    with path.open("ab") as file:
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


def read_text(path: Path, mend: str) -> str:
    """The text of a user's file, without a byte order mark.

    Args:
        path: the file.
        mend: what to do where it is not UTF-8; the end of that error's sentence.

    Raises:
        ValueError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}): {mend}") from None


def _suffix() -> str:
    """Of a name that nobody else has: processes of several machines may share a folder."""
    return f"-{uuid.uuid4().hex[:12]}"


def sync(path: Path) -> None:
    """Have what was written to a file, or the names in a folder, on the disk.

    Raises:
        OSError: the disk does not take it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
