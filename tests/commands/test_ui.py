"""`miseg ui`: MLflow's pages over a storage, from the start to Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from miseg.commands import program
from tests.support.processes import Processes, free_ports, http, processes, wait_until


@pytest.fixture
def started() -> Iterator[Processes]:
    with processes() as found:
        yield found


def ui(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """The status with which it refuses."""
    monkeypatch.setattr(sys, "argv", ["miseg", "ui", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return ended.value.code


@pytest.mark.slow
def test_it_shows_the_runs_and_leaves_nothing_behind(started: Processes, tmp_path: Path) -> None:
    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").create_experiment("streets", str(tmp_path / "artifacts"))
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "miseg", "ui", "--storage", str(tmp_path), "--port", str(port)]
    process = started.start("ui", command, started.environment(MLFLOW_WORKERS="1"), tmp_path)
    address = f"http://127.0.0.1:{port}"
    wait_until(lambda: http(f"{address}/health", timeout=2)[0] == 200, 120, "MLflow's pages", [process])
    assert http(f"{address}/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=streets")[0] == 200
    assert "<title>MLflow</title>" in http(address)[1]
    server = psutil.Process(process.pid).children(recursive=True)
    assert server
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    gone, left = psutil.wait_procs(server, timeout=20)
    assert not left and len(gone) == len(server)
    said = started.text("ui")
    assert f"MLflow over sqlite:///{tmp_path}/mlflow.db: {address}" in said and "; Ctrl-C ends it" in said
    assert "Traceback" not in said


def test_what_it_cannot_show_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("nothing is to be started")

    monkeypatch.setattr(subprocess, "Popen", never)
    (tmp_path / "mlflow.db").touch()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        for arguments, told in (
            (("--storage", str(tmp_path / "none")), "no run was recorded in"),
            (("--storage", "s3://bucket/miseg"), "--storage s3://bucket/miseg is no folder"),
            (("--storage", str(tmp_path), "--port", "0"), "--port 0: use 1 to 65535"),
            (("--storage", str(tmp_path), "--port", port), f"port {port} of 127.0.0.1 is taken"),
        ):
            assert ui(*arguments, monkeypatch=monkeypatch) == 2
            said = capsys.readouterr().err
            assert said.startswith("error: ") and told in said and len(said.splitlines()) == 1, said
    login = ":".join(["user", "secret"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{login}@host:5000")
    assert ui(monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert "host:5000: open that server's address in a browser" in said and "secret" not in said
