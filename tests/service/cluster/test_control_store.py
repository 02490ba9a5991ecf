"""A Ray whose control store goes away is told of at once, and the job ends in order where it stays away."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from miseg.recipes import spaces
from miseg.recipes.study_growth import Asked, grown
from miseg.service.cluster import control_store
from miseg.service.cluster.control_store import ray_watched
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.command.start import Job
from miseg.service.study import plan as plans
from miseg.service.study import study as studies
from miseg.service.study.plan import Devices, StudyPlan, Throughput
from miseg.service.study.study import Study
from miseg.service.terminal import going_on
from miseg.service.terminal.going_on import goes_on_with, how_to_go_on
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails
from miseg.service.tuning import record, tune
from miseg.service.tuning.tuning import Tuning
from tests.support.processes import wait_until


@pytest.fixture
def store(monkeypatch):
    """A control store that takes connections until it is closed; patience of a test."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setattr(control_store.ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
    monkeypatch.setattr(control_store, "LOOK", 0.05)
    monkeypatch.setattr(control_store, "STORE_PATIENCE", 0.5)
    yield listener
    listener.close()


def test_a_lost_control_store_closes_what_is_at_work_and_ends_the_process(store, monkeypatch, capfd):
    ended, closed = threading.Event(), []

    def end(status: int) -> None:
        assert status == 1
        ended.set()

    monkeypatch.setattr(os, "_exit", end)
    with ray_watched(closed.append, how_to_go_on):
        store.close()
        assert ended.wait(10)
    said = capfd.readouterr()
    assert "does not answer: waiting" in said.out and "goes on, with its --name or --resume" in said.err
    assert len(closed) == 1 and "Ray's control store (GCS) at 127.0.0.1:" in closed[0] and "was lost" in closed[0]


def test_the_line_on_a_lost_store_ends_with_the_command_that_goes_on(store, monkeypatch, capfd):
    """It was left to the user which option names the job: a study's inner tuning has another name."""
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())
    monkeypatch.setattr(going_on._Job, "command", ("jobs/study.py", "--data", "a b"))
    named = goes_on_with("--resume", "--name", "first"), goes_on_with("--name", "inner")
    with named[0], named[1], ray_watched(lambda reason: None, how_to_go_on):
        store.close()
        assert ended.wait(10)
    assert capfd.readouterr().err.endswith("to go on:\njobs/study.py --data 'a b' --resume --name first\n")


def test_one_that_comes_back_or_a_work_that_is_done_ends_nothing(store, monkeypatch, capfd):
    monkeypatch.setattr(os, "_exit", lambda status: pytest.fail("the process was ended"))
    monkeypatch.setattr(control_store, "STORE_PATIENCE", 2.0)
    closed: list[str] = []
    port = store.getsockname()[1]
    with ray_watched(closed.append, how_to_go_on):
        store.close()
        wait_until(lambda: "does not answer" in capfd.readouterr().out, 10, "the line")
        back = socket.create_server(("127.0.0.1", port))
        threading.Event().wait(2.5)
    back.close()
    assert not closed


def test_a_raylet_that_ended_closes_what_is_at_work_at_once(store, monkeypatch, capfd):
    ended, closed = threading.Event(), []
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())
    monkeypatch.setattr(control_store, "_name", lambda process: "raylet" if process.pid == child.pid else "")
    with subprocess.Popen(["sleep", "60"]) as child, ray_watched(closed.append, how_to_go_on):
        child.kill()
        assert ended.wait(10)
    assert len(closed) == 1 and "raylet" in closed[0] and "raylet" in capfd.readouterr().err


# Tunings and studies


class EndedError(BaseException):
    """In the place of the process' end, after which nothing is caught."""


@pytest.fixture
def lose(store, monkeypatch) -> Callable[..., None]:
    """Takes the control store away, and returns as the process would be ended."""
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda status: ended.set())

    def lost(*_: object, **__: object) -> None:
        store.close()
        assert ended.wait(30)
        raise EndedError

    return lost


@pytest.fixture
def tuning(small, tiny, uri, tmp_path) -> Tuning:
    point = spaces.region_mutual_information.point(tiny)
    space, share = spaces.region_mutual_information, Resources(2, 0, 1, 1)
    return Tuning("street", tiny, space, point, {}, "tuned", small.uri, str(tmp_path), uri, share, 2, 1)


def begin_trials(tuning: Tuning, parent: str) -> list[str]:
    """Two trials of a tuning: one is done, one at work."""
    opened = partial(mlflow_runs.open_run, tuning.store, mlflow_runs.experiment_name(tuning.base.data))
    runs = [opened(name, RunDetails(parent=parent, tags={"miseg.kind": "trial"})) for name in ("done", "at-work")]
    mlflow_runs.end_run(tuning.tracking_uri, runs[0], "FINISHED", "finished")
    return runs


def status(uri: str, run_id: str) -> tuple[str, str]:
    run = MlflowClient(uri).get_run(run_id)
    return run.info.status, run.data.tags.get("miseg.ended", "")


def assert_killed(uri: str, run_id: str) -> None:
    run_status, ended = status(uri, run_id)
    assert run_status == "KILLED" and ended.endswith("was lost; --resume continues")
    assert ended.startswith("Ray's control store (GCS) at 127.0.0.1:")


def test_in_a_tuning_it_closes_the_tuning_and_the_trials_that_are_at_work(tuning, lose, monkeypatch, capfd):
    opened: list[str] = []

    def search(tuning: Tuning, parent: str) -> None:
        opened.extend([*begin_trials(tuning, parent), parent])
        tune._tune(tuning, parent, tune.Phase("search", lambda _: None, tune.tune.TuneConfig(), {}, 2))  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(tune, "search", search)
    monkeypatch.setattr(tune, "_restored", lambda *_: SimpleNamespace(fit=lose))
    with pytest.raises(EndedError):
        tune.run(tuning)
    done, at_work, parent = opened
    said = capfd.readouterr()
    assert "goes on, with its --name or --resume" in said.err
    assert status(tuning.tracking_uri, done) == ("FINISHED", "finished")
    for run_id in (at_work, parent):
        assert_killed(tuning.tracking_uri, run_id)


@pytest.mark.slow
def test_in_a_study_it_closes_the_study_on_every_data_set_and_the_tuning(small, tuning, lose, monkeypatch, tmp_path):
    uri, opened = tuning.tracking_uri, []
    data = small.uri, str(shutil.copytree(small.uri, tmp_path / "other"))

    def run(of_cell: Tuning) -> None:
        opened.append(record.open_run(of_cell))
        opened.extend(begin_trials(of_cell, opened[0]))
        with ray_watched(partial(tune._interrupt, of_cell, opened[0]), how_to_go_on):
            lose()

    monkeypatch.setattr(studies.tune, "run", run)
    known = StudyPlan("first", "2026-11-28T12:00:00+00:00", ())
    tables = grown((), Asked(data=data, methods=("ce",)), {"trials": 2, "confirm_seeds": 1})
    plan = plans.timed(known, tables, lambda experiment: Throughput(10.0, 1.0, "said"))
    jobs = {name: Job(tuning.storage, uri, tuning.resources, name, "") for name in data}
    study = Study(plan, jobs, Devices(False, 1))
    with pytest.raises(EndedError):
        studies.run(study)
    parent, done, at_work = opened
    assert status(uri, done) == ("FINISHED", "finished")
    of_study = [run_id for _, run_id in studies.runs(study)]
    assert len(of_study) == 2
    for run_id in (parent, at_work, *of_study):
        assert_killed(uri, run_id)
