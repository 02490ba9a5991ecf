"""Files and folders that are whole at every moment, written beside their place and renamed; text files."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from miseg.locks import LockRefusedError, locked


class LinkError(OSError):
    """A link, or something else that is no file, where a file or folder of our own should be."""


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

    Each has a lock beside it for as long as its process lives, so that those of other machines are told apart too. One
    without a lock is named.

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
    for left in sorted(path.parent.glob(f".{glob.escape(path.name)}.[wp]*ing-*")):
        # An earlier version made it, or it is on a file system without locks: nobody can tell whose it is.
        with contextlib.suppress(OSError):  # of a living process, that removes it now
            if left.is_dir() and not left.with_name(f"{left.name}{_LOCK}").exists():
                hours = (time.time() - max(file.lstat().st_mtime for file in (left, *left.iterdir()))) / 3600
                said = "%s has no lock, and was last written to %.1f hours ago: if no process is at it, rm -r '%s'"
                logger.warning(said, left, hours, left)
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


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A file opened for reading in binary, where neither it nor its folder is a link.

    Raises:
        LinkError: one of them is, or it is no regular file.
        OSError: it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        folder = open_unlinked(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        # A pipe would wait for who writes to it.
        descriptor = open_unlinked(path, os.O_RDONLY | os.O_NONBLOCK, within=folder)
        file = stack.enter_context(open(descriptor, "rb"))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LinkError(errno.EINVAL, "is no regular file", str(path))
        yield file


def open_plain(path: Path, mode: str, buffering: int = -1) -> BinaryIO:
    """A file opened in a binary `mode` as `open` does, if it is one and no link.

    For files in a folder that others may write to: a link there leads to whatever its maker wants read or written.

    Raises:
        LinkError: a link, or no regular file.
        OSError: it cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a pipe without reader, a folder
                raise LinkError(error.errno, "is a link or no file: remove it", name) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise LinkError(errno.EINVAL, "is a link or no file: remove it", name)
        return descriptor

    return open(path, mode, buffering, opener=opener)  # type: ignore[return-value]


def open_own_folder(path: Path) -> int:
    """A descriptor of a folder that nobody but its user reaches into, made with its parents where it is missing.

    Raises:
        LinkError: a link.
        PermissionError: it belongs to another user.
        OSError: it cannot be made or opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    folder = open_unlinked(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "belongs to another user", str(path))
        if status.st_mode & 0o077:
            os.fchmod(folder, 0o700)
    except BaseException:
        os.close(folder)
        raise
    return folder


def open_own_file(path: Path, flags: int, within: int) -> int:
    """A descriptor of a regular file of this user's that no other can write to.

    Args:
        path: the file.
        flags: as of `os.open`.
        within: descriptor of its folder.

    Raises:
        LinkError: a link, or no regular file.
        PermissionError: it belongs to another user, or others may write to it.
        OSError: it cannot be opened.
    """
    descriptor = open_unlinked(path, flags | os.O_NONBLOCK, within)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise LinkError(errno.EINVAL, "is no regular file", str(path))
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "may be written by another user", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_unlinked(path: Path, flags: int, within: int | None = None) -> int:
    """A descriptor of `path`, whose last name is no link.

    Args:
        path: a file or folder; what is made is its user's alone.
        flags: as of `os.open`.
        within: descriptor of its folder; None: the folder of its path.

    Raises:
        LinkError: it is a link.
        OSError: it cannot be opened.
    """
    try:
        return os.open(path if within is None else path.name, flags | os.O_NOFOLLOW, 0o600, dir_fd=within)
    except OSError as error:
        if error.errno == errno.ELOOP or path.is_symlink():
            raise LinkError(errno.ELOOP, "is a link, and may lead elsewhere: remove it", str(path)) from None
        raise


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
