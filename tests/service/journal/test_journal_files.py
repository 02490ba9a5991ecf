"""A journal's own files on file systems that refuse locks, and after a loss of power."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.journal.files import pending, sent_offset
from miseg.service.journal.journal import Journal
from miseg.service.journal.sender import send_pending, sync
from miseg.service.tracking import mlflow_runs, models
from miseg.service.tracking.run_store import RunStore
from tests.support.checkpoints import filled
from tests.test_files import nfs, refusing


@pytest.fixture
def run_id(uri: str, tmp_path: Path) -> str:
    return mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/test", "run")


def history(uri: str, run_id: str) -> list[tuple[int, float, int]]:
    return sorted((m.step, m.value, m.timestamp) for m in MlflowClient(uri).get_metric_history(run_id, "a"))


def test_a_journal_on_nfs_is_sent(uri, run_id, tmp_path, monkeypatch):
    """Exclusive locks on files that are open for reading fail there, and nothing ever reached MLflow."""
    monkeypatch.setattr(fcntl, "flock", nfs)
    journal = Journal(tmp_path / "journals", uri, run_id)
    journal.metrics(0, {"a": 1.0})
    assert journal.close()
    assert [step for step, *_ in history(uri, run_id)] == [0]


def test_the_lock_is_not_on_the_journal(uri, run_id, tmp_path, monkeypatch):
    """A lock of SMB's keeps everybody else from reading and writing the file itself."""
    names: list[str] = []
    monkeypatch.setattr(fcntl, "flock", lambda file, _: names.append(Path(file.name).name))
    journal = Journal(tmp_path / "journals", uri, run_id)
    journal.metrics(0, {"a": 1.0})
    assert journal.close() and set(names) == {f"{run_id}.lock"}


def test_a_file_system_without_locks_is_told_as_that(uri, run_id, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
        journal = Journal(tmp_path / "journals", uri, run_id)
        journal.metrics(0, {"a": 1.0})
        assert not journal.close(tries=2)
    assert f"{run_id}.lock cannot be locked ({os.strerror(errno.ENOLCK)})" in journal.problem
    assert "does not answer" not in caplog.text and journal.problem in caplog.text
    assert sync(tmp_path / "journals", uri) == 1 or not pending(journal.path)
    assert [step for step, *_ in history(uri, run_id)] == [0]


@pytest.mark.parametrize("left", [b"", b"\0\0\0", b"12x", b"-1", b"9" * 400, b"123456", b"\xff"])
def test_a_note_that_a_loss_of_power_spoilt_is_made_again_from_what_mlflow_has(uri, run_id, tmp_path, caplog, left):
    path = tmp_path / "journals" / f"{run_id}.jsonl"
    (tmp_path / "file").write_text("once")
    store = str(tmp_path / "runs" / "run")
    filled(CheckpointStore(store), step10=0.5)
    journal = Journal(path.parent, uri, run_id)
    for step in range(3):
        journal.metrics(step, {"a": float(step)})
    journal.artifact(tmp_path / "file")
    journal.model("last", store, 10)
    assert journal.close()
    before, logged = history(uri, run_id), [model.model_id for model in models.of_run(uri, run_id)]
    filled(CheckpointStore(store), step20=0.6)  # the model's checkpoint has gone since

    path.with_suffix(".sent").write_bytes(left)
    with caplog.at_level(logging.WARNING):
        assert pending(path)
        again = Journal(path.parent, uri, run_id)
        again.metrics(3, {"a": 3.0})
        assert again.close()
    assert "does not say what MLflow has" in caplog.text
    assert history(uri, run_id)[:3] == before and [step for step, *_ in history(uri, run_id)] == [0, 1, 2, 3]
    assert [model.model_id for model in models.of_run(uri, run_id)] == logged
    assert not path.with_suffix(".refused").exists()
    assert sent_offset(path) == path.stat().st_size and not pending(path)


def test_a_journal_that_a_loss_of_power_shortened_loses_nothing_that_is_logged_again(uri, run_id, tmp_path):
    path = tmp_path / f"{run_id}.jsonl"
    journal = Journal(tmp_path, uri, run_id)
    for step in range(4):
        journal.metrics(step, {"a": float(step)})
    assert journal.close()
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:2]))
    resumed = Journal(tmp_path, uri, run_id)
    for step in range(2, 6):
        resumed.metrics(step, {"a": float(step)})
    assert resumed.close()
    assert [(step, value) for step, value, _ in history(uri, run_id)] == [(step, float(step)) for step in range(6)]


def test_the_note_is_on_the_disk_after_what_it_is_about(uri, run_id, tmp_path, monkeypatch):
    path = tmp_path / f"{run_id}.jsonl"
    path.write_text(json.dumps({"kind": "metrics", "step": 0, "time": 1, "values": {"a": 1.0}}) + "\n")
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert send_pending(path, uri, run_id) == 1
    ours = [name for name in synced if run_id in name or name == tmp_path.name]
    assert ours[0] == path.name and ours[1].startswith(f".{run_id}.sent") and ours[2] == tmp_path.name
