"""Files of a journal: its entries, how far MLflow has them, and what MLflow refused.

`<run_id>.jsonl` holds an entry a line, `<run_id>.sent` the bytes of it that MLflow has, `<run_id>/` files to upload,
`<run_id>.lock` is held by whoever sends, and `<run_id>.refused` has the entries that MLflow would not take, with its
reasons.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from miseg.files import open_plain, replacing, sync
from miseg.locks import locked
from miseg.service.journal.entries import Entry, parsed
from miseg.service.tracking.connection import TrackingError

logger = logging.getLogger(__name__)

UNREADABLE = "unreadable"
"""Kind of what is no entry: what is left of a line that a disk or a power cut damaged, or that a stranger wrote."""


OWN_DISK = "~/.miseg/journals"
"""Folder of the journals of runs whose storage is no folder: this machine's own, and no part of a storage."""


class JournalInUseError(TrackingError):
    """Another process is sending the journal."""


class Backlog(NamedTuple):
    """Entries of a journal that MLflow does not have."""

    bytes: int
    seconds: float
    """Since the oldest such entry was written."""


def read(path: Path, offset: int, limit: int | None = None, end: int | None = None) -> tuple[list[Entry], int]:
    """Whole entries of a journal from byte `offset`, at most `limit`, before byte `end`; and the offset after them."""
    entries: list[Entry] = []
    if not path.exists():
        return entries, offset
    with open_plain(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n") or (limit is not None and len(entries) == limit):
                break
            if end is not None and offset >= end:
                break
            entries.append(_parsed(line))
            offset += len(line)
    return entries, offset


def _parsed(line: bytes) -> Entry:
    try:
        return parsed(line)
    except ValueError as error:
        return {"kind": UNREADABLE, "reason": str(error), "line": line.decode(errors="replace")}


def append(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Add entries to the end of a journal, or of what was refused."""
    text = "".join(f"{json.dumps(entry, allow_nan=True)}\n" for entry in entries)
    with open_plain(path, "ab") as file:
        file.write(text.encode())


def sent_offset(path: Path) -> int:
    """Bytes of a journal that MLflow has; 0 where nobody knows, for what it has it is not sent again.

    Nobody does where a loss of power left the note empty, or the journal shorter than the note says.
    """
    sent = path.with_suffix(".sent")
    try:
        with open_plain(sent, "rb") as file:
            text = file.read(32)
    except FileNotFoundError:
        return 0
    size = path.stat().st_size if path.exists() else 0
    if re.fullmatch(rb"[0-9]{1,18}\s*", text) and int(text) <= size:
        return int(text)
    logger.warning("%s does not say what MLflow has of %d bytes: each entry is compared with it", sent, size)
    with contextlib.suppress(OSError):  # said once
        note_sent(path, 0)
    return 0


def note_sent(path: Path, offset: int) -> None:
    """Keep that MLflow has a journal up to byte `offset`; a loss of power leaves this, or what was kept before.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists():
        sync(path)  # or less of it than the note says may be left
    with replacing(path.with_suffix(".sent"), durable=True, several=True) as sent:
        sent.write_text(str(offset))


def pending(path: Path) -> bool:
    """Whether a journal holds entries that MLflow has not."""
    return path.exists() and sent_offset(path) < path.stat().st_size


def backlog(path: Path) -> Backlog:
    """Entries of the journal at `path` that MLflow does not have; one line of it is read."""
    offset = sent_offset(path)
    size = path.stat().st_size if path.exists() else 0
    if size <= offset:
        return Backlog(0, 0.0)
    first, _ = read(path, offset, 1)
    written_ms = first[0].get("time") if first else None
    return Backlog(size - offset, max(0.0, time.time() - written_ms / 1000) if written_ms else 0.0)


def cut_torn_line(path: Path) -> None:
    """Drop a last line that a kill cut short, so that the next entry does not join it."""
    if path.exists():
        with open_plain(path, "r+b") as file:
            whole = file.read()
            length = whole.rfind(b"\n") + 1
            if length < len(whole):
                file.truncate(length)


@contextlib.contextmanager
def alone(path: Path, patience: float) -> Iterator[None]:
    """Be the one process, and thread, that sends a journal: two would log a model twice.

    Raises:
        JournalInUseError: another one is at it for more than `patience` seconds.
        LockRefusedError: the journal's file system refuses locks.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path.with_suffix(".lock"), patience))
        except BlockingIOError:
            raise JournalInUseError(f"{path} is just being sent by another process") from None
        yield
