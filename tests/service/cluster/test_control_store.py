"""A Ray whose control store goes away is told of at once, and the job ends in order where it stays away."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from types import SimpleNamespace

import pytest

from miseg.service.cluster import control_store
from miseg.service.cluster.control_store import ray_watched
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
    with ray_watched(closed.append):
        store.close()
        assert ended.wait(10)
    said = capfd.readouterr()
    assert "does not answer: waiting" in said.out and "goes on, with its --name or --resume" in said.err
    assert len(closed) == 1 and "Ray's control store (GCS) at 127.0.0.1:" in closed[0] and "was lost" in closed[0]


def test_one_that_comes_back_or_a_work_that_is_done_ends_nothing(store, monkeypatch, capfd):
    monkeypatch.setattr(os, "_exit", lambda status: pytest.fail("the process was ended"))
    monkeypatch.setattr(control_store, "STORE_PATIENCE", 2.0)
    closed: list[str] = []
    port = store.getsockname()[1]
    with ray_watched(closed.append):
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
    with subprocess.Popen(["sleep", "60"]) as child, ray_watched(closed.append):
        child.kill()
        assert ended.wait(10)
    assert len(closed) == 1 and "raylet" in closed[0] and "raylet" in capfd.readouterr().err
