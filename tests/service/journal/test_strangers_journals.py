"""Whoever can write to a storage writes journals: no line of one reads, writes or removes a file elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from pyarrow import fs

from miseg.data.storage import fetch_files
from miseg.files import LinkError
from miseg.service.journal import copies
from miseg.service.journal.journal import Journal
from miseg.service.journal.sender import REFUSED_TAG, Sender, sync
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from tests.faults.readers import _checkpoint


@pytest.fixture
def journal(uri: str, tmp_path: Path) -> Path:
    """The path of the journal of an open run, with a file to upload beside it."""
    run_id = mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/test", "run")
    path = tmp_path / "store" / "journals" / f"{run_id}.jsonl"
    path.with_suffix("").mkdir(parents=True)
    (path.with_suffix("") / "payload").write_text("payload")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "id_rsa").write_text("secret")
    return path


def write(path: Path, *entries: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps({"time": 1, **entry}) + "\n" for entry in entries))


def uploaded(uri: str, run_id: str, folder: str = "") -> list[str]:
    return [file.path for file in MlflowClient(uri).list_artifacts(run_id, folder)]


ARTIFACT = {"kind": "artifact", "file": "payload", "name": "table.csv", "folder": ""}
METRIC = {"kind": "metrics", "step": 1, "values": {"a": 1.0}}


@pytest.mark.parametrize("own", ["file", "name", "folder"])
@pytest.mark.parametrize(
    "stranger", ["{home}/id_rsa", "../../../home/id_rsa", "..", "a\x00b", 7, None, ["a"]], ids=ascii
)
def test_names_lead_nowhere(journal: Path, uri: str, tmp_path: Path, own: str, stranger: Any) -> None:
    if isinstance(stranger, str):
        stranger = stranger.format(home=tmp_path / "home")
    write(journal, ARTIFACT | {own: stranger}, METRIC)
    assert Sender(journal, uri, journal.stem).send() == 2
    assert (tmp_path / "home" / "id_rsa").read_text() == "secret"
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["id_rsa"]
    assert uploaded(uri, journal.stem) == [] and (journal.with_suffix("") / "payload").exists()
    run = MlflowClient(uri).get_run(journal.stem)
    assert run.data.metrics == {"a": 1.0}, "an entry that is refused holds no other back"
    assert "1 entries were refused" in run.data.tags[REFUSED_TAG]


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_links_lead_nowhere(journal: Path, uri: str, tmp_path: Path, linked: str) -> None:
    files = journal.with_suffix("")
    (files / "payload").unlink()
    if linked == "file":
        (files / "payload").symlink_to(tmp_path / "home" / "id_rsa")
    else:
        files.rmdir()
        files.symlink_to(tmp_path / "home")
    write(journal, ARTIFACT | {"file": "payload" if linked == "file" else "id_rsa"})
    Sender(journal, uri, journal.stem).send()
    assert uploaded(uri, journal.stem) == [] and (tmp_path / "home" / "id_rsa").read_text() == "secret"


def test_a_model_is_of_the_journals_own_storage(journal: Path, uri: str, tmp_path: Path) -> None:
    _checkpoint(tmp_path)
    (tmp_path / "checkpoint").rename(tmp_path / "home" / "step-000000000")
    model = {"kind": "model", "role": "last", "step": 0}
    inside = tmp_path / "store" / "runs" / "x"
    folders = [str(tmp_path / "home"), f"{inside}/../../../home", "s3://elsewhere/home", "", "runs/x", str(inside)]
    write(journal, *({**model, "folder": folder} for folder in folders))
    Sender(journal, uri, journal.stem).send()
    refused = [json.loads(line) for line in journal.with_suffix(".refused").read_text().splitlines()]
    assert [entry["entry"]["folder"] for entry in refused] == folders
    assert ["not of this storage" in entry["error"] for entry in refused] == [True] * 5 + [False]
    assert "there is no checkpoint of step 0" in refused[-1]["error"]


def test_copies_of_a_bucket_lead_nowhere(journal: Path, uri: str, tmp_path: Path) -> None:
    """A job's start takes what lies in `<storage>/journals`, whoever put it there."""
    write(journal, ARTIFACT | {"name": "../../../../home/id_rsa"}, ARTIFACT, METRIC)
    assert copies.sync(f"file://{tmp_path}/store", uri) == 3
    assert uploaded(uri, journal.stem) == ["table.csv"]
    assert (tmp_path / "home" / "id_rsa").read_text() == "secret"


def test_the_start_of_a_job_writes_no_file_elsewhere(journal: Path, uri: str, tmp_path: Path) -> None:
    write(journal, ARTIFACT | {"name": str(tmp_path / "home" / ".bashrc")})
    assert sync(journal.parent, uri) == 1
    assert os.listdir(tmp_path / "home") == ["id_rsa"]


class _Keys(fs.FileSystemHandler):
    """A store as S3 is: keys with any characters."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self.keys = keys

    def get_type_name(self) -> str:
        return "keys"

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        return [fs.FileInfo(key, fs.FileType.File, size=len(text)) for key, text in self.keys.items()]

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [fs.FileInfo(path, fs.FileType.File, size=len(self.keys[path])) for path in paths]

    def open_input_stream(self, path: str) -> Any:
        import pyarrow as pa

        return pa.BufferReader(self.keys[path])

    open_input_file = open_input_stream

    def _never(self, *_: Any) -> None:
        raise NotImplementedError

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = move = copy_file = _never
    open_output_stream = open_append_stream = _never

    def normalize_path(self, path: str) -> str:
        return path


def test_an_objects_key_leads_nowhere(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    keys = _Keys({"bucket/run/a.txt": b"a", "bucket/run/..": b"up"})
    with pytest.raises(ValueError, match=r"'\.\.' is not a plain file name"):
        fetch_files(fs.PyFileSystem(keys), "bucket/run", target)
    del keys.keys["bucket/run/.."]
    fetch_files(fs.PyFileSystem(keys), "bucket/run", target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "target"]


def leads_elsewhere(path: Path, target: Path, kind: str) -> None:
    """Put a link to `target`, or a pipe that nobody writes to, at `path`."""
    path.unlink(missing_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(target)


@pytest.mark.timeout(60)  # a pipe would be waited for
@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("suffix", [".jsonl", ".refused", ".lock", ".sent"])
def test_a_journal_s_own_files_lead_nowhere(journal: Path, uri: str, tmp_path: Path, suffix: str, kind: str) -> None:
    """What is read through a link would be set aside in the storage, and what is set aside written through one."""
    secret = tmp_path / "home" / "id_rsa"
    secret.write_text("secret\n")
    write(journal, ARTIFACT | {"file": ".."}, METRIC)  # the first is refused, and set aside
    leads_elsewhere(journal.with_suffix(suffix), secret, kind)
    for again in (False, True):
        sync(journal.parent, uri, again)
    assert secret.read_text() == "secret\n"
    others = [path for path in journal.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(b"secret" in path.read_bytes() for path in others)


def test_no_lock_is_made_elsewhere(journal: Path, uri: str, tmp_path: Path, caplog) -> None:
    write(journal, METRIC)
    journal.with_suffix(".lock").symlink_to(tmp_path / "home" / "made")
    sync(journal.parent, uri)
    assert not (tmp_path / "home" / "made").exists()
    assert "did not take" in caplog.text and journal.exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_run_s_journal_is_not_written_through_a_link(journal: Path, uri: str, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "home" / "id_rsa"
    secret.write_text("a line\nand a torn one")
    leads_elsewhere(journal, secret, kind)
    with pytest.raises(LinkError, match="is a link or no file: remove it"):
        Journal(journal.parent, uri, journal.stem)
    assert secret.read_text() == "a line\nand a torn one"
