"""MLflow as cluster.yaml starts it: nothing without the login, everything with it, and the login nowhere to be read."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest
from mlflow import MlflowClient

from miseg.service.journal.journal import Journal
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.mlflow_runs import TrackingError
from miseg.service.tracking.run_store import RunDetails, RunStore
from tests.support import ROOT
from tests.support.processes import Processes, free_ports, http, processes
from tests.support.servers.mlflow_servers import Postgres, postgres_programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed: apt-get install postgresql"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="the script waits for the server with curl"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root is several users: the database's, and the server's"),
]


SHIMS = {
    "hostname": "echo 127.0.0.1",
    # In place of sudo, which a head has.
    "sudo": 'user="$2"; shift 2; exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"',
}


class Server(NamedTuple):
    uri: str
    password: str
    processes: Processes
    environment: dict[str, str]

    def run(self, script: str) -> subprocess.CompletedProcess:
        """A script of cluster/ as the head runs it."""
        command = ["bash", str(ROOT / "cluster" / script)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)

    def ask(self, query: str) -> str:
        """What PostgreSQL answers to its own user."""
        command = ["sudo", "-u", "postgres", shutil.which("psql") or "", "-d", "postgres", "-tAc", query]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The head's own scripts, on a PostgreSQL that is set up as a head's is; only ports and places are others."""
    pytest.importorskip("psycopg2", reason="the driver of PostgreSQL is not installed: pip install '.[server]'")
    (port,) = free_ports(1)
    with processes() as started:
        password = secrets.token_hex(24)
        home = started.folder
        postgres = Postgres(started, superuser="postgres", peer=True)
        (home / "miseg-source").symlink_to(ROOT)
        (home / ".miseg-bucket").write_text(f"export MISEG_BUCKET={home}/bucket\n")
        (home / ".mlflow").mkdir()
        (home / ".mlflow" / "credentials").write_text(
            f"[mlflow]\nmlflow_tracking_username = miseg\nmlflow_tracking_password = {password}\n"
        )
        (home / "bin").mkdir()
        for name, text in SHIMS.items():
            (home / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (home / "bin" / name).chmod(0o755)
        (home / "mlflow").mkdir()
        (home / "mlflow" / "server.log").touch()
        (home / "server.log").symlink_to("mlflow/server.log")  # where `Processes.tails` looks
        # One worker of MLflow's four, each of which imports it.
        environment = started.environment(
            HOME=str(home), MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_WORKERS="1"
        )
        environment |= {"PGHOST": str(postgres.socket), "PGPORT": str(postgres.port), "MISEG_MLFLOW_PORT": str(port)}
        environment["PATH"] = f"{home}/bin:{environment['PATH']}"
        found = Server(f"http://127.0.0.1:{port}", password, started, environment)
        for _ in range(2):  # every command of a cluster may run twice
            done = found.run("databases.sh")
            assert done.returncode == 0, done.stderr
        start = started.start("start", ["bash", str(ROOT / "cluster/mlflow.sh")], environment, home)
        assert start.wait(250) == 0
        assert http(f"{found.uri}/health")[0] == 200
        yield found


def test_what_it_knows_lies_in_postgresql_where_only_its_user_comes_in(server):
    assert server.ask(
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'mlflow%'"
    ) == ("mlflow mlflow_login")
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'mlflow'"
    assert server.ask(owner) == "root", "who runs the server"
    assert server.ask("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'root'") == "t", "no password to keep"
    assert not list((server.processes.folder / "mlflow").glob("*.db"))
    wrong = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "mlflow", "-c", "SELECT 1"]
    done = subprocess.run(wrong, env=server.environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "pg_hba.conf rejects connection" in done.stderr
    other = [
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "psql",
        "-U",
        "root",
        "-d",
        "mlflow",
        "-c",
        "\\dt",
    ]
    done = subprocess.run(other, env=server.environment, capture_output=True, text=True, timeout=30, cwd="/")
    assert done.returncode == 2 and "Peer authentication failed" in done.stderr


def test_started_again_it_leaves_the_one_that_answers(server):
    before = {process.pid for process in server.processes.alive()}
    done = server.run("mlflow.sh")
    assert done.returncode == 0, done.stderr
    assert {process.pid for process in server.processes.alive()} <= before


def test_without_the_login_nothing_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert http(f"{server.uri}/api/2.0/mlflow/experiments/search?max_results=1")[0] == 401
    with pytest.raises(TrackingError, match="refuses the login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASS"):
        mlflow_runs.check(server.uri, str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "miseg")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "password1234")
    with pytest.raises(TrackingError, match="refuses the login"):
        mlflow_runs.check(server.uri, str(tmp_path))


def test_with_the_login_a_run_is_kept_and_the_login_is_not(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in mlflow_runs.LOGIN:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with_login = server.uri.replace("://", f"://miseg:{server.password}@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", with_login)
    uri = mlflow_runs.tracking_uri(str(tmp_path))
    assert uri == server.uri == os.environ["MLFLOW_TRACKING_URI"]
    mlflow_runs.check(uri, str(tmp_path))
    run_id = mlflow_runs.open_run(
        RunStore(str(tmp_path), uri), "miseg/scenes", "one", RunDetails(params={"lambda": "0.5"})
    )
    journal = Journal(tmp_path / "journals", uri, run_id)
    journal.metrics(1, {"train/loss": 0.5})
    assert journal.close()
    mlflow_runs.log_json(uri, run_id, "experiment.json", {"steps": 1})
    mlflow_runs.end_run(uri, run_id, "FINISHED", "finished")
    assert queries.history(uri, run_id, "train/loss") == {1: 0.5}
    assert [item.path for item in MlflowClient(uri).list_artifacts(run_id)] == ["experiment.json"]

    assert not [line for _, _, line in server.processes.titles() if server.password in line]
    kept = server.processes.folder
    told = [path for path in (*kept.rglob("*"), *tmp_path.rglob("*")) if path.is_file()]
    where = [path for path in told if server.password.encode() in path.read_bytes()]
    assert where == [kept / ".mlflow" / "credentials"]
    assert all((kept / "mlflow" / name).stat().st_mode & 0o077 == 0 for name in ("login.ini", "secret-key"))


def test_a_databases_password_is_refused_and_not_repeated(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://miseg:geheim@db/mlflow")
    with pytest.raises(ValueError, match="postgresql://…@db: a login would be printed") as refused:
        mlflow_runs.tracking_uri(str(tmp_path))
    assert "geheim" not in str(refused.value)


def test_nothing_of_the_server_listens_elsewhere(server):
    mine = {process.pid for process in server.processes.alive()}
    found = {c.laddr.ip for c in psutil.net_connections("inet") if c.pid in mine and c.status == psutil.CONN_LISTEN}
    assert found == {"127.0.0.1"}
