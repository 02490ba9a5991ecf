"""A SQLite store of MLflow's looked at before MLflow opens it, which would retry for minutes or print a traceback."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from miseg.service.tracking.connection import TrackingError

MAGIC = b"SQLite format 3\0"
"""First bytes of every SQLite database."""

PATIENCE = 20.0
"""Seconds that another program may hold the store's lock."""

LONGEST_PATH = 490
"""Bytes of a store's path, at most: SQLite takes 512, with the end of its journal's name."""

SCHEMA = "alembic_version"
"""Table that holds the version of MLflow's schema."""


def check_place(path: Path) -> None:
    """Raise ValueError where MLflow would not find its store at `path` again, or SQLite not open it.

    Args:
        path: the SQLite file, which need not be there.
    """
    # What reads the store's URI takes `?` for the end of the path, and undoes %41.
    if marks := sorted({mark for mark in "?%" if mark in str(path)}):
        raise ValueError(
            f"storage {path.parent}: MLflow cannot keep its store under a path with {' and '.join(marks)}: give "
            "another --storage or $MISEG_STORAGE, or set MLFLOW_TRACKING_URI to a server's address"
        )
    if (length := len(os.fsencode(path))) > LONGEST_PATH:
        raise ValueError(
            f"storage {str(path)[:60]}…: the path of MLflow's store has {length} bytes, and SQLite takes "
            f"{LONGEST_PATH}: give a --storage or $MISEG_STORAGE of a shorter path"
        )


def check_store(path: Path) -> None:
    """Raise TrackingError where a file cannot be MLflow's store, in one sentence with the mend.

    A file that is not there, or empty, becomes a store when MLflow opens it.

    Args:
        path: the SQLite file.
    """
    if path.is_dir():
        raise TrackingError(f"{path} is a folder, where MLflow's store is a file: move it away, or give --storage")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise TrackingError(f"{path}, MLflow's store, cannot be read ({error.strerror}): make it readable") from error
    if not header:
        return
    aside = "move it away for a new one, or put a copy of it back"
    if not header.startswith(MAGIC) or len(header) < 100:
        raise TrackingError(f"{path} is no store of MLflow's (no SQLite database): {aside}")
    needed = _bytes_of(header)
    if size < needed and not path.with_name(f"{path.name}-wal").exists():
        raise TrackingError(f"{path}, MLflow's store, is cut short ({size:,} of {needed:,} bytes): {aside}")
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as store:
            names = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            # Of a storage that may only be read, reports and evaluations are made all the same.
            if os.access(path, os.W_OK):
                store.execute("BEGIN IMMEDIATE")
                store.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            reason = f"is locked by another program for {PATIENCE:.0f} s: end that, or try again later"
        else:
            reason = f"cannot be opened ({error}): make the file and its folder writable, or give --storage"
        raise TrackingError(f"{path}, MLflow's store, {reason}") from error
    except sqlite3.DatabaseError as error:
        raise TrackingError(f"{path}, MLflow's store, is damaged ({error}): {aside}") from error
    if names and SCHEMA not in names:
        raise TrackingError(f"{path} is the database of another program, not a store of MLflow's: give --storage")
    if names:
        _check_schema(path, names, aside)


def _bytes_of(header: bytes) -> int:
    """Size of a database by its header; 0 where the header does not know (SQLite's file format, sections 1.3.2, 7)."""
    page_size, changes, pages, counted_at = struct.unpack(">16xH6xII60xI4x", header)
    if changes != counted_at:
        return 0
    return int((65536 if page_size == 1 else page_size) * pages)


def _check_schema(path: Path, names: set[str], aside: str) -> None:
    """Raise TrackingError where a store is of another version of MLflow, or lacks one of the installed one's tables."""
    # Not at the top: a store that is not there needs none of it.
    import mlflow.store.model_registry.dbmodels.models
    import mlflow.store.tracking.dbmodels.models  # noqa: F401  (they fill in the tables)
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _get_latest_schema_revision

    with closing(sqlite3.connect(path, timeout=PATIENCE)) as store:
        versions = store.execute(f"SELECT version_num FROM {SCHEMA}").fetchall()  # noqa: S608  a constant
    version = versions[0][0] if versions else "none"
    if version != (installed := _get_latest_schema_revision()):
        raise TrackingError(
            f"{path} is a store of another MLflow (schema {version}, that of the installed one is {installed}): of an "
            f"older one make a copy, then run `mlflow db upgrade sqlite:///{path}`"
        )
    if missing := sorted(set(Base.metadata.tables) - names):
        raise TrackingError(f"{path}, MLflow's store, lacks the table {missing[0]}: {aside}")
