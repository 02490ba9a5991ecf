"""Two writers of one run: each step is logged once, and the later writer's end counts, whatever clocks say."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.service.checkpoints import fencing
from miseg.service.checkpoints.fencing import FencedError, Writer
from miseg.service.journal import generations
from miseg.service.journal.files import append, pending, read
from miseg.service.journal.journal import Journal
from miseg.service.journal.sender import send_pending, sync
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore

DEAD = "http://127.0.0.1:1"


@pytest.fixture
def run_id(uri: str, tmp_path: Path) -> str:
    return mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/test", "run")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "runs" / "run")


def worker(folder: str, driver: Writer, step: int) -> Writer:
    taken = fencing.work(folder, driver.generation)
    return Writer(folder, taken.generation, step)


def history(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in MlflowClient(uri).get_metric_history(run_id, key))


def test_the_first_of_two_workers_stops_at_its_next_entry(uri, run_id, folder, tmp_path):
    driver = fencing.drive(folder)
    first = Journal(tmp_path / "journals", uri, run_id, writer=worker(folder, driver, 0))
    for step in range(10):
        first.metrics(step, {"a": 1.0})
    second = Journal(tmp_path / "journals", uri, run_id, writer=worker(folder, driver, 5))
    (tmp_path / "file").write_text("late")
    for late in (
        lambda: first.metrics(10, {"a": 1.0}),
        lambda: first.tags({"late": "yes"}),
        lambda: first.artifact(tmp_path / "file"),
        lambda: first.model("last", folder, 10),
        lambda: first.end("FAILED", "late"),
    ):
        with pytest.raises(FencedError):
            late()
    for step in range(5, 15):
        second.metrics(step, {"a": 2.0})
    assert first.close() and second.close()
    assert history(uri, run_id, "a") == [(step, 1.0 if step < 10 else 2.0) for step in range(15)]
    run = MlflowClient(uri).get_run(run_id)
    assert "late" not in run.data.tags and run.info.status == "RUNNING"
    assert not MlflowClient(uri).list_artifacts(run_id)


def test_what_was_written_between_a_look_and_a_later_generation_is_left_out(uri, run_id, folder, tmp_path, monkeypatch):
    """As by a process that stands still between the two."""
    driver = fencing.drive(folder)
    first = Journal(tmp_path / "journals", DEAD, run_id, writer=worker(folder, driver, 0))
    first.metrics(0, {"a": 1.0})
    second = Journal(tmp_path / "journals", DEAD, run_id, writer=worker(folder, driver, 1))
    monkeypatch.setattr(Journal, "check", lambda journal: None)
    for step in range(1, 4):
        first.metrics(step, {"a": 1.0})
        first.tags({"by": "the first"})
        second.metrics(step, {"a": 2.0})
    first.end("FAILED", "lost")
    third = Journal(tmp_path / "journals", DEAD, run_id, writer=worker(folder, driver, 2))
    third.metrics(3, {"a": 3.0})  # the second logged it
    third.metrics(4, {"a": 3.0})
    for journal in (first, second, third):
        journal.close(timeout=0)
    sync(tmp_path / "journals", uri)
    assert history(uri, run_id, "a") == [(0, 1.0), (1, 2.0), (2, 2.0), (3, 2.0), (4, 3.0)]
    run = MlflowClient(uri).get_run(run_id)
    assert "by" not in run.data.tags and run.info.status == "RUNNING"


@pytest.mark.parametrize("seed", range(8))
def test_however_two_writers_meet_each_step_is_there_once(uri, run_id, folder, tmp_path, monkeypatch, seed):
    """Lines of several generations in any order, sent in pieces, some of them twice: as the slow reading says."""
    rng, driver, path = random.Random(seed), fencing.drive(folder), tmp_path / f"{run_id}.jsonl"
    monkeypatch.setattr(Journal, "check", lambda journal: None)
    monkeypatch.setattr(Journal, "_send_loop", lambda journal: None)
    journals, steps = [], []
    for _ in range(40):
        if not journals or rng.random() < 0.15:
            start = rng.randint(0, max(steps, default=0))
            journals.append(Journal(tmp_path, uri, run_id, writer=worker(folder, driver, start)))
            steps.append(start)
        index = rng.randrange(len(journals))
        journals[index].metrics(steps[index], {"a": float(index)})
        steps[index] += 1
        if rng.random() < 0.1:
            send_pending(path, uri, run_id)
        if rng.random() < 0.05:
            path.with_suffix(".sent").unlink(missing_ok=True)
    send_pending(path, uri, run_id)
    for journal in journals:
        journal.close(timeout=5)
    expected: dict[int, float] = {}
    newest = -1
    order = [list(journal.writer.generation) for journal in journals]
    for entry in read(path, 0)[0]:
        index = order.index(entry["generation"])
        newest = max(newest, index)
        if index == newest and entry["kind"] == "metrics":
            assert entry["step"] not in expected, "a writer logged what was there before it began"
            expected[entry["step"]] = entry["values"]["a"]
    assert history(uri, run_id, "a") == sorted(expected.items())


@pytest.mark.parametrize("later_first", [False, True])
def test_of_two_machines_journals_each_step_arrives_once(uri, run_id, folder, tmp_path, later_first):
    """Journals of storage that is no folder: the one of the machine that was cut off is sent by its next job."""
    driver = fencing.drive(folder)
    first = Journal(tmp_path / "first", DEAD, run_id, writer=worker(folder, driver, 0))
    for step in range(10):
        first.metrics(step, {"a": 1.0, "system/cpu": 50.0})
    first.tags({"miseg.preempted": "of the first", "both": "first"})
    first.close(timeout=0)
    second = Journal(tmp_path / "second", uri, run_id, writer=worker(folder, driver, 5))
    second.tags({"both": "second"})
    if later_first:
        second.metrics(5, {"a": 2.0})
        time.sleep(1)
        sync(tmp_path / "first", uri)
    else:
        # The sender of the second has asked already which steps there are.
        deadline = time.monotonic() + 30
        while "both" not in MlflowClient(uri).get_run(run_id).data.tags:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        sync(tmp_path / "first", uri)
        second.metrics(5, {"a": 2.0})
    for step in range(6, 15):
        second.metrics(step, {"a": 2.0})
    assert second.close()
    sync(tmp_path / "first", uri)
    assert not pending(first.path)
    assert history(uri, run_id, "a") == [(step, 1.0 if step < 5 else 2.0) for step in range(15)]
    tags = MlflowClient(uri).get_run(run_id).data.tags
    assert tags["both"] == "second" and tags["miseg.preempted"] == "of the first"
    assert len(history(uri, run_id, "system/cpu")) == 10, "of the machine, not of the training"


def clock(monkeypatch: pytest.MonkeyPatch, minutes: float) -> None:
    """This process' clock from now on, so far before or after the right time."""
    real = time.time_ns
    monkeypatch.setattr("miseg.service.journal.journal.time.time_ns", lambda: real() + int(minutes * 60e9))


@pytest.mark.parametrize("minutes", [-5, 5])
@pytest.mark.parametrize("together", [True, False], ids=["one journal", "two machines"])
def test_a_finished_run_is_finished_whatever_another_machines_clock_said(
    uri, run_id, folder, tmp_path, monkeypatch, minutes, together
):
    """An end was dropped where the one before it bore a later time: the run stayed as a lost worker had left it."""
    first_folder, second_folder = tmp_path / "first", tmp_path / ("first" if together else "second")
    with monkeypatch.context() as fast:
        clock(fast, minutes)
        first = Journal(first_folder, uri, run_id, writer=fencing.drive(folder))
        first.end("FAILED", "the worker was lost")
        assert first.close()
    MlflowClient(uri).update_run(run_id, status="RUNNING")  # taken up again
    second = Journal(second_folder, uri, run_id, writer=fencing.drive(folder))
    second.end("FINISHED", "finished")
    assert second.close()
    run = MlflowClient(uri).get_run(run_id)
    assert (run.info.status, run.data.tags["miseg.ended"]) == ("FINISHED", "finished")


@pytest.mark.parametrize("minutes", [-5, 0, 5])
@pytest.mark.parametrize("together", [True, False], ids=["one journal", "two machines"])
def test_an_end_that_waited_does_not_end_what_was_taken_up_since(
    uri, run_id, folder, tmp_path, monkeypatch, minutes, together
):
    first_folder, second_folder = tmp_path / "first", tmp_path / ("first" if together else "second")
    with monkeypatch.context() as fast:
        clock(fast, minutes)
        first = Journal(first_folder, DEAD, run_id, writer=fencing.drive(folder))
        first.end("FAILED", "the worker was lost")
        first.close(timeout=0)
    driver = fencing.drive(folder)
    second = Journal(second_folder, uri, run_id, writer=worker(folder, driver, 3))
    second.metrics(3, {"a": 1.0})
    assert second.close()
    sync(first_folder, uri)
    run = MlflowClient(uri).get_run(run_id)
    assert run.info.status == "RUNNING" and "miseg.ended" not in run.data.tags
    closing = Journal(second_folder, uri, run_id, writer=driver)
    closing.end("FINISHED", "finished")
    assert closing.close() and not pending(first.path)
    assert MlflowClient(uri).get_run(run_id).info.status == "FINISHED"


def test_an_attempt_is_later_than_all_that_journal_and_mlflow_know(uri, run_id, folder, tmp_path):
    path = tmp_path / f"{run_id}.jsonl"
    assert generations.drive(folder, path, uri, run_id).generation.attempt == 1
    append(path, [{"kind": "metrics", "step": 0, "time": 1, "values": {"a": 1.0}, "generation": [4, "ab", 1, "cd"]}])
    assert generations.drive(folder + "-removed", path, uri, run_id).generation.attempt == 5
    MlflowClient(uri).set_tag(run_id, generations.TAG, json.dumps({"generation": [8, "ab", 1, "cd"], "step": 3}))
    assert generations.drive(folder + "-removed", tmp_path / "none.jsonl", uri, run_id).generation.attempt == 9
    assert generations.drive(folder + "-away", path, DEAD, run_id).generation.attempt == 5


@pytest.mark.parametrize(
    "tag", ["", "x", "[]", "{}", "[" * 100_000, '{"generation": [1]}', '{"generation": ["1", 2, 3, 4], "step": "5"}']
)
def test_a_tag_that_is_none_of_ours_names_no_generation(tag):
    assert generations.in_tags({generations.TAG: tag}) is None
