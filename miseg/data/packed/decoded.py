"""Decoded images that stay on a machine: decoded once, read by every process and by the next training.

They lie in files on the machine's own disk, and so in the system's page cache, rather than in Ray's object store or in
a process' memory:

- every process of the machine reads one copy, those of trials that run beside each other too, and it outlives them:
  an object in the store goes with the process that owns it, and a tuning's trials are such processes;
- no process grows by it, and the system takes the memory back where it is needed. Pinned memory would make a machine
  that is short of it kill trainings;
- each machine decodes for itself: storage may be a bucket, and a machine that comes or goes concerns no other.

The folder and its files are this user's alone and no links: Ray's session folder is open to everybody.

A record is written once and never changed, by whoever decoded the image first. What has no room is decoded again each
time, so what a reader sees never depends on what is kept.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from miseg.files import open_own_file, open_own_folder

IDLE = 600.0
"""Seconds after which the images of a data set that nobody reads give way to another's."""

ABANDONED = 24 * 3600.0
"""Seconds after which a folder that nobody reads is what a killed job left."""

FULLEST_DISK = 0.9
"""Share of the disk that may be in use after a record is written: Ray spills nothing beyond 0.95."""

_END = struct.Struct("<q")
_ENTRY = struct.Struct("<qiiBBHBB2x")
_KINDS = ("uint8", "uint16", "float32")
_MOST_CHANNELS = 255
_EMPTY, _BEGUN, _READY = range(3)


class Pixels(NamedTuple):
    """A decoded image: its id, uint8, uint16 or float32 [H, W, C], and its mask uint8 [H, W] where it has one."""

    id: str
    image: np.ndarray
    mask: np.ndarray | None


class DecodedImages:
    """The decoded images that this machine keeps in a folder.

    It can be pickled and sent to other processes and machines, each of which uses the folder of this name on its disk.

    Args:
        folder: local folder, made where it is missing; it must not outlive the machine's session, since a machine that
            lost power may have written an entry and not its pixels.
        budget: bytes that its files may take together.
    """

    def __init__(self, folder: str | Path, budget: int) -> None:
        self.folder, self.budget = Path(folder), budget
        self._reset()

    def get(self, data: str, split: int, size: int, index: int) -> Pixels | None:
        """The image, or None where it is not kept.

        Args:
            data: fingerprint of the data set.
            split: the split's number.
            size: images of the split.
            index: the image's number, 0..size-1.
        """
        if self._broken:
            return None
        try:
            return _read(self._file(data, split, size), index)
        except OSError as error:
            self._give_up(error)
            return None

    def put(self, data: str, split: int, size: int, index: int, pixels: Pixels) -> None:
        """Keep an image, where there is room and it is not kept yet; arguments as of `get`."""
        image, mask, name = pixels.image, pixels.mask, pixels.id.encode()
        if self._broken or image.dtype.name not in _KINDS or image.shape[2] > _MOST_CHANNELS:
            return
        parts = [_flat(image), b"" if mask is None else _flat(mask), name]
        length = sum(map(len, parts))
        try:
            file = self._file(data, split, size)
            kind = _KINDS.index(image.dtype.name)
            with self._locked():
                offset, *_, state, _ = _entry(file, index)
                if state == _READY or (state == _EMPTY and not self._has_room(data, length)):
                    return
                if state == _EMPTY:
                    (offset,) = _END.unpack(os.pread(file, _END.size, 0))
                    os.pwrite(file, _END.pack(offset + length), 0)
                entry = (offset, *image.shape, mask is not None, len(name))
                os.pwrite(file, _ENTRY.pack(*entry, _BEGUN, kind), _entry_offset(index))
            # Outside the lock, so that processes write at the same time. One that was killed left its record begun, and
            # the next writes it again; two that write it at once write the same bytes.
            if os.pwritev(file, parts, offset) == length:
                os.pwrite(file, _ENTRY.pack(*entry, _READY, kind), _entry_offset(index))
        except OSError as error:
            self._give_up(error)

    def taken(self) -> int:
        """Bytes that the folder's files take."""
        return sum(self._taken(name) for name in self._names())

    def __getstate__(self) -> tuple[Path, int]:
        return self.folder, self.budget

    def __setstate__(self, state: tuple[Path, int]) -> None:
        self.folder, self.budget = state
        self._reset()

    def _reset(self) -> None:
        self._files: dict[str, _File] = {}
        self._opened: _File | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._broken = False

    def _file(self, data: str, split: int, size: int) -> int:
        """The descriptor of a split's file."""
        if self._pid != os.getpid():
            self._reset()
        name = f"{data}-{split}.pixels"
        if name not in self._files:
            with self._locked():
                file = _File(open_own_file(self.folder / name, os.O_RDWR | os.O_CREAT, self._own_folder()))
                if os.fstat(file.descriptor).st_size < _entry_offset(size):
                    os.ftruncate(file.descriptor, _entry_offset(size))
                    os.pwrite(file.descriptor, _END.pack(_entry_offset(size)), 0)
                os.utime(file.descriptor)
                self._files.setdefault(name, file)
        return self._files[name].descriptor

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else, of this machine, changes what the folder holds."""
        with self._lock:
            lock = _File(open_own_file(self.folder / "lock", os.O_RDWR | os.O_CREAT, self._own_folder()))
            fcntl.flock(lock.descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                lock.close()

    def _own_folder(self) -> int:
        """Descriptor of the folder."""
        if self._opened is None or not os.fstat(self._opened.descriptor).st_nlink:  # the end of another job removed it
            self._opened = _File(open_own_folder(self.folder))
        return self._opened.descriptor

    def _has_room(self, data: str, length: int) -> bool:
        if self.taken() + length > self.budget:
            folder = self._own_folder()
            for name in self._names():
                if not name.startswith(f"{data}-") and time.time() - os.stat(name, dir_fd=folder).st_mtime > IDLE:
                    os.unlink(name, dir_fd=folder)
        disk = shutil.disk_usage(self.folder)
        return self.taken() + length <= self.budget and disk.used + length <= FULLEST_DISK * disk.total

    def _names(self) -> list[str]:
        return [name for name in os.listdir(self._own_folder()) if name.endswith(".pixels")]

    def _taken(self, name: str) -> int:
        """Bytes of a file, with those that were promised and not yet written."""
        try:
            file = _File(open_own_file(self.folder / name, os.O_RDONLY, self._own_folder()))
            return int(_END.unpack(os.pread(file.descriptor, _END.size, 0))[0])
        except (FileNotFoundError, struct.error):
            return 0

    def _give_up(self, error: OSError) -> None:
        """Go on without: what is kept only saves time."""
        self._broken = True
        logging.getLogger(__name__).warning("decoded images are not kept in %s: %s", self.folder, error)


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Remove those of `folders` in which nobody has read for a day: what killed jobs left."""
    for folder in folders:
        try:
            used = max(path.stat().st_mtime for path in [folder, *folder.iterdir()])
        except OSError:
            continue
        if time.time() - used > ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)


class _File:
    """An open file or folder, closed with the last reference to it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Close it now."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close


def _entry_offset(index: int) -> int:
    return _END.size + index * _ENTRY.size


def _entry(file: int, index: int) -> tuple[int, int, int, int, int, int, int, int]:
    """Offset, height, width, channels, whether there is a mask, bytes of the id, state, number of the pixels' type."""
    return _ENTRY.unpack(os.pread(file, _ENTRY.size, _entry_offset(index)))


def _read(file: int, index: int) -> Pixels | None:
    offset, height, width, channels, masked, name_bytes, state, kind = _entry(file, index)
    if state != _READY:
        return None
    length = height * width * channels * np.dtype(_KINDS[kind]).itemsize + height * width * masked + name_bytes
    if min(offset, height, width) < 0 or offset + length > os.fstat(file).st_size:
        return None  # a record that was not written by this class takes no memory
    image = np.empty((height, width, channels), _KINDS[kind])
    mask = np.empty((height, width), np.uint8) if masked else None
    name = bytearray(name_bytes)
    parts = [_flat(image), bytearray() if mask is None else _flat(mask), name]
    if os.preadv(file, parts, offset) != sum(map(len, parts)):
        return None
    return Pixels(name.decode(), image, mask)


def _flat(values: np.ndarray) -> memoryview:
    """The bytes of an array, without a copy where they lie in one piece."""
    return np.ascontiguousarray(values).data.cast("B")
