"""The journal between a training and MLflow: nothing lost, nothing twice, nobody kept waiting. Real SQLite stores."""

from __future__ import annotations

import json
import logging
import math
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from miseg.service.journal import copies, sender
from miseg.service.journal.files import pending, read
from miseg.service.journal.journal import Journal, journal_folder
from miseg.service.journal.sender import Sender, send_pending, sync
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore


def new_run(uri: str, tmp_path: Path, name: str = "run") -> str:
    return mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/test", name)


@pytest.fixture
def run_id(uri: str, tmp_path: Path) -> str:
    return new_run(uri, tmp_path)


@pytest.fixture
def dead() -> str:
    """The address of a server that is not there: a port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def history(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    found = MlflowClient(uri).get_metric_history(run_id, key)
    return sorted((metric.step, metric.value) for metric in found)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# What arrives


def test_metrics_tags_and_files_arrive(uri: str, run_id: str, tmp_path: Path) -> None:
    picture = tmp_path / "panel é.png"
    picture.write_bytes(b"\x89PNG")
    table = tmp_path / "table.csv"
    table.write_text("class,iou\nroad,0.5\n")

    log = Journal(tmp_path / "journals", uri, run_id)
    for step in range(3):
        log.metrics(step, {"train/loss": 1.0 / (step + 1), "images_per_second": 7})
    log.tags({"miseg.ended": "finished", "mlflow.note.content": "ein Versuch"})
    log.artifact(picture, "panels")
    log.artifact(table)
    picture.unlink()  # the journal has its own copy
    assert log.close(timeout=60)

    assert history(uri, run_id, "train/loss") == [(0, 1.0), (1, 0.5), (2, 1.0 / 3)]
    assert history(uri, run_id, "images_per_second") == [(0, 7.0), (1, 7.0), (2, 7.0)]
    run = MlflowClient(uri).get_run(run_id)
    assert run.data.tags["miseg.ended"] == "finished" and run.data.tags["mlflow.note.content"] == "ein Versuch"
    arrived = Path(MlflowClient(uri).download_artifacts(run_id, "", str(tmp_path)))
    assert (arrived / "panels" / "panel é.png").read_bytes() == b"\x89PNG"
    assert (arrived / "table.csv").read_text() == "class,iou\nroad,0.5\n"
    assert not [path for path in (tmp_path / "journals" / run_id).rglob("*") if path.is_file()], "copies are kept"
    assert not pending(tmp_path / "journals" / f"{run_id}.jsonl")


def test_entries_arrive_while_the_run_goes_on(uri: str, run_id: str, tmp_path: Path) -> None:
    log = Journal(tmp_path / "journals", uri, run_id)
    log.metrics(0, {"a": 1.0})
    wait_for(lambda: history(uri, run_id, "a") == [(0, 1.0)])
    log.metrics(1, {"a": 2.0})
    wait_for(lambda: history(uri, run_id, "a") == [(0, 1.0), (1, 2.0)])
    assert log.close(timeout=60)


def test_nan_and_infinity_arrive_as_nan(uri: str, run_id: str, tmp_path: Path) -> None:
    log = Journal(tmp_path / "journals", uri, run_id)
    log.metrics(0, {"a": math.nan, "b": math.inf, "c": 1.0})
    assert log.close(timeout=60)
    assert math.isnan(history(uri, run_id, "a")[0][1])
    assert math.isnan(history(uri, run_id, "b")[0][1])
    assert history(uri, run_id, "c") == [(0, 1.0)]


def test_a_class_whose_name_mlflow_refuses_holds_nothing_back(uri: str, run_id: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journals", uri, run_id)
    journal.metrics(1, {"val/iou/impervious (other)": 0.5, "val/iou/Straße": 0.25, "val/mean_iou": 0.375})
    assert journal.close()
    found = MlflowClient(uri).get_run(run_id).data.metrics
    assert found == {"val/iou/impervious _other_": 0.5, "val/iou/Straße": 0.25, "val/mean_iou": 0.375}


def test_more_than_one_request_takes_arrives_whole(uri: str, run_id: str, tmp_path: Path) -> None:
    steps, names = sender.BATCH + 50, [f"m{index}" for index in range(6)]
    log = Journal(tmp_path / "journals", uri, run_id)
    for step in range(steps):
        log.metrics(step, dict.fromkeys(names, step + 0.5))
    assert log.close(timeout=120)
    for name in (names[0], names[-1]):
        assert history(uri, run_id, name) == [(step, step + 0.5) for step in range(steps)]


# Nothing twice


def test_a_step_is_logged_once(uri: str, run_id: str, tmp_path: Path) -> None:
    log = Journal(tmp_path / "journals", uri, run_id)
    log.metrics(1, {"a": 1.0})
    log.metrics(1, {"a": 1.5, "b": 2.0})
    log.metrics(0, {"a": 0.5})
    log.metrics(2, {"a": 3.0})
    assert log.close(timeout=60)
    assert history(uri, run_id, "a") == [(1, 1.0), (2, 3.0)]
    assert history(uri, run_id, "b") == [(1, 2.0)]


def logged(uri: str, run_id: str, folder: Path, steps: range) -> None:
    log = Journal(folder, uri, run_id)
    for step in steps:
        log.metrics(step, {"a": float(step), "b": 1.0})
    assert log.close(timeout=60)


def test_a_resumed_process_logs_no_step_again(uri: str, run_id: str, tmp_path: Path) -> None:
    logged(uri, run_id, tmp_path / "journals", range(5))
    logged(uri, run_id, tmp_path / "journals", range(3, 8))
    assert history(uri, run_id, "a") == [(step, float(step)) for step in range(8)]


def test_a_resume_on_another_machine_asks_the_server(uri: str, run_id: str, tmp_path: Path) -> None:
    logged(uri, run_id, tmp_path / "journals", range(5))
    shutil.rmtree(tmp_path / "journals")
    logged(uri, run_id, tmp_path / "journals", range(3, 8))
    assert history(uri, run_id, "a") == [(step, float(step)) for step in range(8)]


def test_a_run_that_comes_back_to_its_first_machine_logs_no_step_again(uri: str, run_id: str, tmp_path: Path) -> None:
    """The first machine's journal ends before what the second one logged."""
    logged(uri, run_id, tmp_path / "first", range(3))
    logged(uri, run_id, tmp_path / "second", range(2, 6))
    logged(uri, run_id, tmp_path / "first", range(4, 8))
    assert history(uri, run_id, "a") == [(step, float(step)) for step in range(8)]


def test_system_metrics_do_not_hold_back_a_runs_own(uri: str, run_id: str, tmp_path: Path) -> None:
    """MLflow numbers their samples itself."""
    MlflowClient(uri).log_batch(run_id, metrics=[Metric("system/cpu", 50.0, 1, 999)])
    logged(uri, run_id, tmp_path / "journals", range(2))
    assert history(uri, run_id, "a") == [(0, 0.0), (1, 1.0)]


def test_sending_again_after_a_kill_gives_no_duplicate(uri: str, run_id: str, tmp_path: Path) -> None:
    path = tmp_path / "journals" / f"{run_id}.jsonl"
    (tmp_path / "file.txt").write_text("once")
    log = Journal(path.parent, uri, run_id)
    for step in range(3):
        log.metrics(step, {"a": step / 3, "nan": math.nan})
    log.artifact(tmp_path / "file.txt")
    assert log.close(timeout=60)
    client = MlflowClient(uri)
    before = [[(m.step, m.timestamp) for m in client.get_metric_history(run_id, key)] for key in ("a", "nan")]

    path.with_suffix(".sent").unlink()  # killed between sending and noting it
    assert pending(path)
    assert send_pending(path, uri, run_id) == 4
    after = [[(m.step, m.timestamp) for m in client.get_metric_history(run_id, key)] for key in ("a", "nan")]
    assert after == before and len(before[0]) == 3
    assert [file.path for file in client.list_artifacts(run_id)] == ["file.txt"]
    assert not pending(path)


def test_two_senders_of_one_journal_lose_and_double_nothing(uri: str, run_id: str, tmp_path: Path) -> None:
    """A job that starts sends what is waiting, also of a run that is just sending it itself."""
    path = tmp_path / "journals" / f"{run_id}.jsonl"
    log = Journal(path.parent, uri, run_id)
    errors: list[BaseException] = []

    def send() -> None:
        try:
            for _ in range(10):
                send_pending(path, uri, run_id)
        except BaseException as error:
            errors.append(error)

    other = threading.Thread(target=send)
    other.start()
    for step in range(12):
        (tmp_path / f"{step}.txt").write_text(str(step))
        log.metrics(step, {"a": float(step)})
        log.artifact(tmp_path / f"{step}.txt", "files")
    other.join()
    assert log.close(timeout=60)
    assert not errors
    assert history(uri, run_id, "a") == [(step, float(step)) for step in range(12)]
    found = MlflowClient(uri).list_artifacts(run_id, "files")
    assert {file.path for file in found} == {f"files/{step}.txt" for step in range(12)}


def test_steps_that_two_machines_logged_are_there_once(uri: str, run_id: str, tmp_path: Path, dead: str) -> None:
    """The first one's journal could not be sent before the second one took the run up at an earlier step."""
    first = Journal(tmp_path / "first", dead, run_id)
    for step in range(10):
        first.metrics(step, {"a": float(step)})
    assert not first.close(timeout=0)
    second = Journal(tmp_path / "second", uri, run_id)
    for step in range(5, 15):
        second.metrics(step, {"a": step + 0.5})
    assert second.close(timeout=60)
    sync(tmp_path / "first", uri)
    wait_for(lambda: len(history(uri, run_id, "a")) == 15)
    assert history(uri, run_id, "a") == [(step, float(step) if step < 5 else step + 0.5) for step in range(15)]


def test_what_waits_on_a_machine_that_is_lost_is_in_storage(uri: str, run_id: str, tmp_path: Path, dead: str) -> None:
    storage, folder = f"file://{tmp_path}/bucket", tmp_path / "of the machine"
    (tmp_path / "file.txt").write_text("kept")
    log = Journal(folder, dead, run_id, storage)
    for step in range(3):
        log.metrics(step, {"a": float(step)})
    log.artifact(tmp_path / "file.txt")
    log.end("FINISHED", "finished")
    assert not log.close(timeout=0)
    shutil.rmtree(folder)
    assert copies.sync(storage, uri) == 5
    assert history(uri, run_id, "a") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert [file.path for file in MlflowClient(uri).list_artifacts(run_id)] == ["file.txt"]
    assert MlflowClient(uri).get_run(run_id).info.status == "FINISHED"
    assert not list((tmp_path / "bucket" / "journals").iterdir())
    assert copies.sync(storage, uri) == 0


# What MLflow refuses


def test_an_entry_that_is_refused_holds_nothing_back(
    uri: str, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Journal(tmp_path, uri, run_id)
    log.metrics(0, {"a": 1.0})
    log.tags({"k" * 300: "MLflow takes 250 characters"})
    log.metrics(1, {"a": 2.0})
    log.tags({"b": "taken"})
    with caplog.at_level(logging.WARNING, "miseg.service.journal.sender"):
        assert log.close(timeout=60)
    assert history(uri, run_id, "a") == [(0, 1.0), (1, 2.0)]
    refused = tmp_path / f"{run_id}.refused"
    assert "refuses an entry (tags)" in caplog.text and str(refused) in caplog.text
    tags = MlflowClient(uri).get_run(run_id).data.tags
    assert tags["b"] == "taken" and tags["miseg.refused"] == f"1 entries were refused and are set aside in {refused}"
    sync(tmp_path, uri, again=True)
    assert len(read(refused, 0)[0]) == 1, "it is tried once more, and refused again"
    assert read(refused, 0)[0][0]["entry"]["values"] == {"k" * 300: "MLflow takes 250 characters"}


def test_an_entry_that_makes_the_server_fail_is_set_aside_after_some_tries(
    uri: str, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, tries = MlflowClient.log_batch, []

    def log_batch(self: MlflowClient, run_id: str, metrics=(), params=(), tags=(), **settings) -> None:
        if any(tag.key == "poison" for tag in tags):
            tries.append(1)
            raise MlflowException("Internal server error")
        working(self, run_id, metrics, params, tags, **settings)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    monkeypatch.setattr(sender, "TRIES", 2)
    log = Journal(tmp_path, uri, run_id)
    for step in range(3):
        log.metrics(step, {"a": float(step)})
        log.tags({"poison": "yes"} if step == 1 else {"good": str(step)})
    assert log.close(timeout=60)
    assert history(uri, run_id, "a") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert MlflowClient(uri).get_run(run_id).data.tags["good"] == "2"
    assert len(read(tmp_path / f"{run_id}.refused", 0)[0]) == 1 and len(tries) >= 2
    with monkeypatch.context() as mended:
        mended.setattr(MlflowClient, "log_batch", working)
        assert sync(tmp_path, uri, again=True) == 1
    assert MlflowClient(uri).get_run(run_id).data.tags["poison"] == "yes"
    assert not (tmp_path / f"{run_id}.refused").exists()


def test_the_journal_of_a_deleted_run_is_not_taken_apart(uri: str, run_id: str, tmp_path: Path) -> None:
    MlflowClient(uri).delete_run(run_id)
    log = Journal(tmp_path, uri, run_id)
    log.metrics(0, {"a": 1.0})
    assert not log.close(timeout=30, tries=2)
    assert f"run {run_id} was deleted in MLflow" in log.problem and "restore it" in log.problem
    assert pending(log.path) and not (tmp_path / f"{run_id}.refused").exists()
    MlflowClient(uri).restore_run(run_id)
    wait_for(lambda: sync(tmp_path, uri) == 1 or not pending(log.path))
    assert history(uri, run_id, "a") == [(0, 1.0)]


def test_how_far_behind_a_journal_is(uri: str, run_id: str, tmp_path: Path, dead: str) -> None:
    log = Journal(tmp_path, dead, run_id)
    assert log.backlog == (0, 0.0)
    for step in range(3):
        log.metrics(step, {"a": float(step)})
    time.sleep(0.1)
    assert log.backlog.bytes == log.path.stat().st_size and 0.1 <= log.backlog.seconds < 60
    log.close(timeout=0)
    wait_for(lambda: sync(tmp_path, uri) == 3)
    assert log.backlog == (0, 0.0)


# A server that is not there


def test_a_dead_server_stops_nobody_and_gets_everything_later(
    dead: str, uri: str, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file.txt").write_text("late")
    with caplog.at_level(logging.WARNING, "miseg.service.journal.journal"):
        log = Journal(tmp_path / "journals", dead, run_id)
        slowest = 0.0
        for step in range(50):
            began = time.monotonic()
            log.metrics(step, {"a": float(step)})
            slowest = max(slowest, time.monotonic() - began)
        log.tags({"late": "yes"})
        log.artifact(tmp_path / "file.txt")
        began = time.monotonic()
        assert not log.close(timeout=1)
        closing = time.monotonic() - began
    assert slowest < 1
    assert closing < 5
    assert dead in caplog.text and f"{run_id}.jsonl keeps it" in caplog.text

    assert sync(tmp_path / "journals", uri) == 52
    assert history(uri, run_id, "a") == [(step, float(step)) for step in range(50)]
    assert MlflowClient(uri).get_run(run_id).data.tags["late"] == "yes"
    assert [file.path for file in MlflowClient(uri).list_artifacts(run_id)] == ["file.txt"]
    assert sync(tmp_path / "journals", uri) == 0


def test_a_server_that_comes_back_gets_everything_while_the_run_goes_on(
    uri: str, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = Sender.send
    tries = []

    def refuse(self: Sender) -> int:
        if self.run_id != run_id:  # of an earlier test, whose server is away for good
            return working(self)
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise ConnectionError("refused")
        return working(self)

    monkeypatch.setattr(Sender, "send", refuse)
    log = Journal(tmp_path / "journals", uri, run_id)
    for step in range(20):
        log.metrics(step, {"a": float(step)})
    wait_for(lambda: len(history(uri, run_id, "a")) == 20)
    # Two refusals and their pauses, not a request for every one of the steps.
    assert 3 <= len(tries) < 10 and tries[1] - tries[0] >= 0.4
    assert log.close(timeout=60)


def test_a_journal_that_no_server_takes_does_not_hold_back_the_others(
    uri: str, run_id: str, tmp_path: Path, dead: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "journals"
    strange = "0" * 32  # a run that was deleted, or is of another server; sorts first
    for name in (strange, run_id):
        log = Journal(folder, dead, name)
        log.metrics(0, {"a": 1.0})
        log.close(timeout=0)
    with caplog.at_level(logging.WARNING, "miseg.service.journal.journal"):
        assert sync(folder, uri) == 1
    assert history(uri, run_id, "a") == [(0, 1.0)]
    assert pending(folder / f"{strange}.jsonl") and f"{strange}.jsonl, which stays" in caplog.text


def test_sync_of_a_folder_that_is_not_there_sends_nothing(uri: str, tmp_path: Path) -> None:
    assert sync(tmp_path / "nowhere", uri) == 0


# A journal that was cut


def test_a_line_that_a_disk_damaged_is_set_aside(uri: str, run_id: str, tmp_path: Path) -> None:
    path = tmp_path / f"{run_id}.jsonl"
    lines = [json.dumps({"kind": "metrics", "step": step, "time": 1, "values": {"a": 1.0}}) for step in range(2)]
    path.write_bytes(lines[0].encode() + b"\n\x00\x00\xff\n" + lines[1].encode() + b"\n")
    assert send_pending(path, uri, run_id) == 3
    assert history(uri, run_id, "a") == [(0, 1.0), (1, 1.0)]
    assert len(read(path.with_suffix(".refused"), 0)[0]) == 1


@pytest.mark.parametrize("torn", [b'{"kind": "metrics", "st', b"\xc3", b"{"])
def test_a_torn_last_line_is_dropped(uri: str, run_id: str, tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / f"{run_id}.jsonl"
    whole = json.dumps({"kind": "metrics", "step": 0, "time": 1, "values": {"a": 1.0}}).encode() + b"\n"
    path.write_bytes(whole + torn)
    assert len(read(path, 0)[0]) == 1
    log = Journal(tmp_path, uri, run_id)
    log.metrics(0, {"a": 9.0})
    log.metrics(1, {"a": 2.0})
    assert log.close(timeout=60)
    assert history(uri, run_id, "a") == [(0, 1.0), (1, 2.0)]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_process_that_is_killed_loses_nothing_that_was_logged(
    dead: str, uri: str, run_id: str, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "from miseg.service.journal.journal import Journal\n"
        "log = Journal(*sys.argv[1:])\n"
        "for step in range(100): log.metrics(step, {'a': float(step)})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "journals"), dead, run_id], capture_output=True)
    assert done.returncode == -9
    assert sync(tmp_path / "journals", uri) == 100
    assert history(uri, run_id, "a") == [(step, float(step)) for step in range(100)]


# Many writers


def test_eight_runs_at_once_on_one_sqlite_store_lose_nothing(uri: str, tmp_path: Path) -> None:
    runs = [new_run(uri, tmp_path, f"run-{index}") for index in range(8)]
    results: dict[str, bool] = {}

    def write(run_id: str) -> None:
        log = Journal(tmp_path / "journals", uri, run_id)
        for step in range(30):
            log.metrics(step, {"a": float(step), "b": -float(step)})
            time.sleep(0.005)  # so that the senders meet
        results[run_id] = log.close(timeout=120)

    threads = [threading.Thread(target=write, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(runs, True)
    for run_id in runs:
        assert history(uri, run_id, "a") == [(step, float(step)) for step in range(30)]
        assert history(uri, run_id, "b") == [(step, -float(step)) for step in range(30)]


@pytest.mark.parametrize(
    ("storage", "folder"),
    [("/data/miseg", "/data/miseg/journals"), ("s3://bucket/miseg", "~/.miseg/journals")],
)
def test_journals_are_in_a_folder_whatever_the_storage(storage: str, folder: str) -> None:
    assert journal_folder(storage) == str(Path(folder).expanduser())
