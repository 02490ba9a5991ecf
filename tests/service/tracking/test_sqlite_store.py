"""A SQLite store that MLflow cannot open is told in one sentence, at once; a sound one and a new one pass."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from miseg.service.tracking import mlflow_runs, sqlite_store
from miseg.service.tracking.connection import TrackingError
from miseg.service.tracking.sqlite_store import check_store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that MLflow has made."""
    folder = tmp_path_factory.mktemp("store")
    mlflow_runs.check(f"sqlite:///{folder}/mlflow.db", str(folder))
    return folder / "mlflow.db"


def changed(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as store:
        for statement in statements:
            store.execute(statement)
        store.commit()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda path: path.write_bytes(b"no database at all" * 50), "is no store of MLflow's"),
    "a text": (lambda path: path.write_text("x"), "is no store of MLflow's"),
    "cut in half": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "is cut short .* of .* bytes",
    ),
    "damaged": (damage, "is damaged"),
    "of another program": (
        lambda path: (path.unlink(), changed(path, "CREATE TABLE a (b)")),
        "is the database of another program",
    ),
    "older": (
        lambda path: changed(path, "UPDATE alembic_version SET version_num = '90e64c465722'"),
        "store of another MLflow .schema 90e64c465722, .* `mlflow db upgrade sqlite:///",
    ),
    "without a table": (lambda path: changed(path, "DROP TABLE metrics"), "lacks the table metrics"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_cannot_be_opened_is_told_in_a_sentence(fault: str, sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(sound, path)
    spoil, sentence = FAULTS[fault]
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(TrackingError, match=sentence) as refused:
        mlflow_runs.check(f"sqlite:///{path}", str(tmp_path))
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
    assert path.read_bytes() == before, "nothing is lost"


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match="is a folder, where MLflow's store is a file"):
        check_store(tmp_path / "mlflow.db")


def test_sound_new_and_empty_stores_pass(sound: Path, tmp_path: Path) -> None:
    check_store(sound)
    check_store(tmp_path / "mlflow.db")
    (tmp_path / "empty.db").touch()
    check_store(tmp_path / "empty.db")
    mlflow_runs.check(f"sqlite:///{sound}", str(sound.parent))


def test_a_store_that_may_only_be_read_passes(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write whatever its mode says.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **given: connect(f"file:{path}?mode=ro", uri=True, **given))
    check_store(sound)


def test_a_store_in_use_passes_once_the_other_is_done(sound: Path) -> None:
    with closing(sqlite3.connect(sound, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.5, lambda: other.execute("ROLLBACK"))
        timer.start()
        check_store(sound)
        timer.join()


def test_a_store_that_stays_locked_is_told(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "PATIENCE", 0.2)
    with closing(sqlite3.connect(sound, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match="is locked by another program"):
            check_store(sound)
        other.execute("ROLLBACK")
