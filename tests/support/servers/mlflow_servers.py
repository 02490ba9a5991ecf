"""Real MLflow servers for tests, on SQLite or PostgreSQL, which can be killed, stopped and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from tests.support.processes import Processes, free_ports, http, wait_until


class MlflowServer:
    """`mlflow server` on 127.0.0.1.

    Args:
        processes: who starts and ends it.
        backend: the URI of its database; None for a SQLite store beside its artifacts.
        name: of its log and its folder.
        template: an empty SQLite store to begin with; making one takes seconds.
    """

    def __init__(
        self, processes: Processes, backend: str | None = None, name: str = "mlflow", template: Path | None = None
    ) -> None:
        self.processes, self.name = processes, name
        (self.port,) = free_ports(1)
        self.store = processes.folder / name
        self.store.mkdir()
        if template is not None:
            shutil.copyfile(template, self.store / "mlflow.db")
        self.backend = backend or f"sqlite:///{self.store}/mlflow.db"
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def begin(self) -> None:
        """Start it, or start it again on the same store and port, and do not wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", self.backend, "--artifacts-destination", str(self.store / "artifacts")]
        command += ["--workers", "1"]
        self.process = self.processes.start(self.name, command, self.processes.environment(), ROOT)

    def start(self) -> None:
        """`begin`, until it answers."""
        self.begin()
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        wait_until(lambda: http(f"{self.url}/health", timeout=2)[0] == 200, 120, "MLflow", [self.process])

    def kill(self) -> None:
        """SIGKILL, for its workers too."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def revive(self) -> None:
        """`start` where it is dead."""
        if self.process.poll() is not None:
            self.start()

    def pause(self) -> None:
        """It takes connections, which the system does for it, and answers nothing."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of `pause`."""
        os.killpg(self.process.pid, signal.SIGCONT)


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres on this machine: of Debian's packages, or on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Postgres:
    """A PostgreSQL of one's own, without a password on 127.0.0.1; as another user where root asks, whom it refuses.

    Args:
        processes: who starts and ends it.
        superuser: its name; whose user of the system is who may come in, and only by the socket, with `peer`.
        peer: as Debian's packages set it up: no password, but every user of the system is itself alone.
    """

    def __init__(self, processes: Processes, superuser: str = "miseg", peer: bool = False) -> None:
        programs = postgres_programs()
        assert programs is not None
        self.processes = processes
        (self.port,) = free_ports(1)
        folder = self.socket = processes.folder / "postgres"
        folder.mkdir()
        self._user: list[str] = []
        if os.geteuid() == 0:
            other = next(user for user in ("postgres", "nobody") if _has_user(user))
            processes.folder.chmod(0o755)
            shutil.chown(folder, other)
            self._user = ["setpriv", f"--reuid={other}", f"--regid={pwd.getpwnam(other).pw_gid}", "--clear-groups"]
        trusted = ["--auth-local=peer", "--auth-host=reject"] if peer else ["-A", "trust"]
        subprocess.run(
            [*self._user, programs / "initdb", "-D", folder / "data", "-U", superuser, *trusted, "--no-sync"],
            check=True, capture_output=True, cwd=folder,
        )  # fmt: skip
        command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(self.port)]
        # In its folder: what is killed would leave it in /dev/shm.
        command += ["-c", "dynamic_shared_memory_type=mmap"]
        command += ["-c", "listen_addresses=127.0.0.1", "-k", str(folder)]
        process = processes.start("postgres", [*self._user, *command], processes.environment(), folder)
        ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        wait_until(lambda: subprocess.run(ready).returncode == 0, 60, "PostgreSQL", [process])
        self._client = [programs / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "miseg", "-d", "postgres"]

    def database(self, name: str) -> str:
        """The URI of a new, empty database."""
        subprocess.run([*self._client, "-c", f"CREATE DATABASE {name}"], check=True, capture_output=True)
        return f"postgresql+psycopg2://miseg@127.0.0.1:{self.port}/{name}"


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
        return True
    except KeyError:
        return False
