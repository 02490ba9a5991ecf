"""Folders are listed whatever other threads do to them; a store that is silent is not waited for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from miseg.data import storage
from miseg.data.storage import listed


class Racing:
    """A file system that does not find the folder the first time, as pyarrow where another thread makes it."""

    def __init__(self, times: int) -> None:
        self.times = times

    def get_file_info(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        if self.times:
            self.times -= 1
            raise FileNotFoundError(f"Cannot list directory '{selector.base_dir}'")
        return fs.LocalFileSystem().get_file_info(selector)


def test_what_a_folder_holds(tmp_path: Path) -> None:
    local = fs.LocalFileSystem()
    assert listed(local, str(tmp_path / "missing")) == []
    (tmp_path / "there").mkdir()
    assert [info.base_name for info in listed(local, str(tmp_path))] == ["there"]


def test_a_folder_that_is_made_while_it_is_listed_is_listed_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert [info.base_name for info in listed(Racing(1), str(tmp_path))] == ["there"]
    with pytest.raises(FileNotFoundError):
        listed(Racing(2), str(tmp_path))


# A store that is silent


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """An S3 endpoint that takes connections, which it lists, and never answers."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield taken
        server.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


def test_a_request_that_nobody_answers_is_sent_twice(silent: list[socket.socket], monkeypatch) -> None:
    """It was sent 31 times, for 99 s."""
    monkeypatch.setattr(storage, "ANSWER_LIMIT", 1.0)
    system, path = storage.file_system("s3://bucket/folder?region=eu-west-1")
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        system.get_file_info(path)
    assert len(silent) == storage.ATTEMPTS


def test_limits_leave_what_a_uri_says() -> None:
    system, path = storage.file_system("s3://bucket/a/?region=eu-west-1&endpoint_override=host:1&scheme=http")
    settings = system.__reduce__()[1][0]
    assert path == "bucket/a" and isinstance(system, fs.S3FileSystem)
    assert [settings[name] for name in ("region", "endpoint_override", "scheme")] == ["eu-west-1", "host:1", "http"]
    assert settings["access_key"] is None, "keys of the environment stay there"
    assert settings["request_timeout"] == storage.ANSWER_LIMIT
    for option in ("tls_verify_certificates=false", "smart_defaults=legacy"):
        as_told, _ = storage.file_system(f"s3://bucket/a?region=eu-west-1&{option}")
        assert as_told.__reduce__()[1][0]["request_timeout"] < 0, "the option would be lost"
    own, _ = storage.file_system("gs://bucket/a?retry_limit_seconds=7")
    usual, _ = storage.file_system("gs://bucket/a")
    limits = [each.__reduce__()[1][0]["retry_time_limit"].total_seconds() for each in (own, usual)]
    assert limits == [7, storage.ATTEMPTS * storage.ANSWER_LIMIT]
