"""MLflow as cluster.yaml starts it: nothing without the login, everything with it, and the login nowhere to be read."""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from processes import Processes, free_ports, http, processes, wait_until

from miseg.service import tracking
from miseg.service.journal import Journal
from miseg.service.tracking import TrackingError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


class Server(NamedTuple):
    uri: str
    password: str
    processes: Processes


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The head's own command, where only the address, the port and the bucket are others."""
    (command,) = [
        command
        for command in yaml.safe_load((ROOT / "cluster.yaml").read_text())["head_start_ray_commands"]
        if "mlflow server" in command
    ]
    (port,) = free_ports(1)
    with processes() as started:
        password = secrets.token_hex(24)
        home = started.folder
        (home / ".miseg-profile").write_text("")
        (home / ".mlflow").mkdir()
        (home / ".mlflow" / "credentials").write_text(
            f"[mlflow]\nmlflow_tracking_username = miseg\nmlflow_tracking_password = {password}\n"
        )
        (home / "bin").mkdir()
        (home / "bin" / "hostname").write_text("#!/bin/sh\necho 127.0.0.1\n")
        (home / "bin" / "hostname").chmod(0o755)
        if shutil.which("curl") is None:
            pytest.skip("the command waits for the server with curl")
        command = command.replace("5000", str(port)).replace("s3://$MISEG_BUCKET/mlflow", f"{home}/files")
        environment = started.environment(HOME=str(home), MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
        environment["PATH"] = f"{home}/bin:{environment['PATH']}"
        start = started.start("start", ["bash", "-c", command], environment, home)
        uri = f"http://127.0.0.1:{port}"
        wait_until(lambda: http(f"{uri}/health")[0] == 200, 300, (home / "mlflow" / "server.log").as_posix())
        start.wait(120)
        yield Server(uri, password, started)


def test_without_the_login_nothing_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert http(f"{server.uri}/api/2.0/mlflow/experiments/search?max_results=1")[0] == 401
    with pytest.raises(TrackingError, match="refuses the login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASS"):
        tracking.check(server.uri, str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "miseg")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "password1234")
    with pytest.raises(TrackingError, match="refuses the login"):
        tracking.check(server.uri, str(tmp_path))


def test_with_the_login_a_run_is_kept_and_the_login_is_not(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in tracking.LOGIN:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with_login = server.uri.replace("://", f"://miseg:{server.password}@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", with_login)
    uri = tracking.tracking_uri(str(tmp_path))
    assert uri == server.uri == os.environ["MLFLOW_TRACKING_URI"]
    tracking.check(uri, str(tmp_path))
    run_id = tracking.open_run(uri, "miseg/scenes", "one", storage=str(tmp_path), params={"lambda": "0.5"})
    journal = Journal(tmp_path / "journals", uri, run_id)
    journal.metrics(1, {"train/loss": 0.5})
    assert journal.close()
    tracking.log_json(uri, run_id, "experiment.json", {"steps": 1})
    tracking.end_run(uri, run_id, "FINISHED", "finished")
    assert tracking.history(uri, run_id, "train/loss") == {1: 0.5}
    assert [item.path for item in MlflowClient(uri).list_artifacts(run_id)] == ["experiment.json"]

    for process in server.processes.alive():
        assert server.password not in " ".join(process.cmdline())
    kept = server.processes.folder
    told = [path for path in (*kept.rglob("*"), *tmp_path.rglob("*")) if path.is_file()]
    where = [path for path in told if server.password.encode() in path.read_bytes()]
    assert where == [kept / ".mlflow" / "credentials"]
    assert all((kept / "mlflow" / name).stat().st_mode & 0o077 == 0 for name in ("login.ini", "login.db", "secret-key"))


def test_a_databases_password_is_refused_and_not_repeated(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://miseg:geheim@db/mlflow")
    with pytest.raises(ValueError, match="postgresql://…@db: a login would be printed") as refused:
        tracking.tracking_uri(str(tmp_path))
    assert "geheim" not in str(refused.value)


def test_nothing_of_the_server_listens_elsewhere(server):
    mine = {process.pid for process in server.processes.alive()}
    found = {c.laddr.ip for c in psutil.net_connections("inet") if c.pid in mine and c.status == psutil.CONN_LISTEN}
    assert found == {"127.0.0.1"}
