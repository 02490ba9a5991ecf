"""Storage that takes connections and says nothing: each request ends within a bound, and options of a URI stay."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from miseg.data import storage
from miseg.data.storage import file_system, listed, patiently
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.fencing import Generation, Writer
from miseg.service.journal import copies
from tests.support.checkpoints import filled
from tests.support.servers.silent import Silent, silent

SILENCE = 1.0
REQUESTS_EACH = 2
"""Requests that a call makes at most before it fails: the first folder that is made asks for its bucket twice."""

BOUND = REQUESTS_EACH * storage.ATTEMPTS * SILENCE + 3
"""Seconds of a call, with pyarrow's pauses and what a busy machine adds."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Silent]:
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_EC2_METADATA_DISABLED", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MISEG_STORAGE_SILENCE", str(SILENCE))
    monkeypatch.setenv("MISEG_STORAGE_PATIENCE", "0.5")
    with silent() as made:
        yield made


@pytest.fixture
def uri(server, monkeypatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server.address}")
    return "s3://bucket/run"


def away() -> None:
    raise OSError("nobody says who has the run")


def written(system: fs.FileSystem, path: str, beside: Path) -> None:
    file = beside / "file"
    file.write_bytes(b"x" * 1000)
    fs.copy_files(str(file), f"{path}/file", destination_filesystem=system)


CALLS: dict[str, Callable[[fs.FileSystem, str, Path], object]] = {
    "listed": lambda system, path, beside: listed(system, path),
    "made": lambda system, path, beside: system.create_dir(f"{path}/new"),
    "read": lambda system, path, beside: system.open_input_stream(path),
    "copied": written,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_nobody_answers_ends(uri, server, name, tmp_path):
    """pyarrow's own file system of a URI makes 31 requests of 3 s each."""
    system, path = file_system(uri)
    started = time.monotonic()
    with pytest.raises(OSError, match="Timeout was reached"):
        CALLS[name](system, path, tmp_path)
    assert time.monotonic() - started < BOUND
    assert storage.ATTEMPTS <= len(server.connections) <= REQUESTS_EACH * storage.ATTEMPTS


def test_a_file_system_that_went_to_another_process_ends_too(uri):
    """Pickled, by Ray, it has three attempts of pyarrow's own."""
    system = pickle.loads(pickle.dumps(file_system(uri)[0]))
    started = time.monotonic()
    with pytest.raises(OSError, match="Timeout was reached"):
        system.get_file_info("bucket/run")
    assert time.monotonic() - started < 3 * SILENCE + 3


def test_a_store_that_is_silent_is_tried_again_for_its_patience_alone(uri, monkeypatch):
    monkeypatch.setenv("MISEG_STORAGE_PATIENCE", "3")
    system, path = file_system(uri)
    started = time.monotonic()
    with pytest.raises(OSError, match="Timeout was reached"):
        patiently(system, lambda: listed(system, path))
    assert SILENCE < time.monotonic() - started < 3 + BOUND


def test_a_checkpoint_for_a_silent_store_is_given_up(uri):
    store = CheckpointStore(uri, writer=Writer(uri, Generation(1, "0")))
    started = time.monotonic()
    with pytest.raises(OSError, match="Timeout was reached"):
        store.add(10, lambda folder: folder.mkdir())
    assert time.monotonic() - started < 2 * BOUND


def test_a_silence_in_the_middle_of_a_checkpoint_is_told_as_what_it_broke_off(uri, monkeypatch):
    """Not as the look that follows at who has the run; which is one, and not one of a minute."""
    store = CheckpointStore(uri, writer=Writer(uri, Generation(1, "0")))
    looks = []

    def look(self: Writer, patience: float | None = None) -> None:
        looks.append(patience)
        if patience is not None:
            away()

    monkeypatch.setattr(Writer, "check", look)
    with pytest.raises(OSError, match="Timeout was reached"):
        store.add(10, lambda folder: folder.mkdir())
    assert looks == [None, None, 0]


def test_a_checkpoint_that_is_whole_when_the_silence_begins_is_no_failure(tmp_path, monkeypatch, caplog):
    """What it replaces goes with the next."""
    store = filled(CheckpointStore(str(tmp_path), writer=Writer(str(tmp_path), Generation(1, "0"))), step10=0.1)
    monkeypatch.setattr(Writer, "check", lambda self, patience=None: None if store.last().step < 30 else away())
    filled(store, step20=0.2, step30=0.3)
    assert [saved.step for saved in store.all()] == [20, 30]
    assert "an earlier checkpoint" in caplog.text and "nobody says who has the run" in caplog.text


def test_copies_of_journals_for_a_silent_store_are_given_up(uri, tmp_path):
    (tmp_path / "run.jsonl").touch()
    started = time.monotonic()
    with pytest.raises(OSError, match="Timeout was reached"):
        copies.keep(tmp_path / "run.jsonl", uri)
    assert time.monotonic() - started < BOUND


# What a URI says


def options(uri: str) -> dict[str, object]:
    system, _ = file_system(uri)
    return dict(system.__reduce__()[1][0])


def test_options_of_an_s3_uri_stay(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    query = "region=eu-1&scheme=http&endpoint_override=localhost%3A9000&allow_bucket_creation=1&allow_bucket_deletion=1"
    login = "key:sec%2Fret"
    uri = f"s3://{login}@bucket/miseg?{query}&allow_delayed_open=1&tls_ca_file_path=/etc/ca.pem"
    kept, own = options(uri), dict(fs.FileSystem.from_uri(uri)[0].__reduce__()[1][0])
    limits = {"connect_timeout": storage.CONNECT, "request_timeout": storage.SILENCE}
    assert kept == own | limits
    assert (kept["access_key"], kept["secret_key"], kept["region"]) == ("key", "sec/ret", "eu-1")
    assert kept["endpoint_override"] == "localhost:9000" and kept["tls_ca_file_path"] == "/etc/ca.pem"
    assert file_system(uri)[1] == "bucket/miseg"


@pytest.mark.parametrize("option", ["tls_ca_dir_path=/etc/certificates", "tls_verify_certificates=0"])
def test_an_option_that_only_a_uri_can_say_stays_and_so_do_waits_of_pyarrow(option):
    system, _ = file_system(f"s3://bucket/miseg?region=eu-1&{option}")
    assert isinstance(system, fs.S3FileSystem)
    assert options(f"s3://bucket/miseg?region=eu-1&{option}")["request_timeout"] == -1


def test_a_google_store_is_tried_as_long_as_any_other():
    def limit(uri: str) -> float:
        return options(uri)["retry_time_limit"].total_seconds()

    assert limit("gs://anonymous@bucket/x") == limit("gs://anonymous@bucket/x?project_id=p") == storage.PATIENCE
    assert limit("gs://anonymous@bucket/x?retry_limit_seconds=5") == 5


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_seconds_that_are_none_are_named(monkeypatch, value):
    monkeypatch.setenv("MISEG_STORAGE_SILENCE", value)
    with pytest.raises(ValueError, match=rf"MISEG_STORAGE_SILENCE = '{value}': give a number of seconds, such as 10"):
        file_system("s3://bucket/x?region=eu-1")
