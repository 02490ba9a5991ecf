"""Real processes for tests: free ports, readiness, and an end for everything that was started, however deep.

Ray's workers and the drivers of jobs leave the process group of the `ray start` that started them. So every process
gets a mark in its environment, which its descendants inherit, and what bears the mark at the end is killed. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

MARK = "MISEG_TEST_PROCESSES"
FOREIGN = ("RAY_", "MLFLOW_", "MISEG_", "PYTEST_")
"""Prefixes of settings that the tests' own environment does not hand on: they would point at another cluster."""


class Processes:
    """Processes with logs in `folder`, a short path of their own, because Ray's sockets may have 107 characters."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
        self.mark = uuid.uuid4().hex
        self._started: list[subprocess.Popen] = []

    def environment(self, **own: str) -> dict[str, str]:
        """This process' environment without `FOREIGN`, its interpreter's programs first on the path, and `own`."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        # Not resolved: the `python` of a virtual environment is a link to one outside it.
        kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
        # MLflow's background jobs are of no use here: killed, they leave a store in /dev/shm.
        own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | own
        return kept | {MARK: self.mark, "PYTHONUNBUFFERED": "1"} | own

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> subprocess.Popen:
        """Start `command` in a group of its own, its output in `log(name)`."""
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def log(self, name: str) -> Path:
        """The output of the process started under `name`."""
        return self.folder / f"{name}.log"

    def text(self, name: str) -> str:
        """What the process started under `name` has said so far."""
        return self.log(name).read_text(encoding="utf-8", errors="replace")

    def alive(self) -> list[psutil.Process]:
        """Every process that bears the mark or belongs to the session of one that was started."""
        sessions = {process.pid for process in self._started}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                # psutil's own environ() is empty where a process has changed its title, as Ray's agents do.
                marked = f"{MARK}={self.mark}".encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
                if (marked or os.getsid(process.pid) in sessions) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def titles(self) -> list[tuple[psutil.Process, str, str]]:
        """Each living process with its name and its command line; without those that end while they are asked."""
        titles = []
        for process in self.alive():
            with contextlib.suppress(psutil.Error):
                titles.append((process, process.name(), " ".join(process.cmdline())))
        return titles

    def tails(self, lines: int = 60) -> str:
        """The ends of all logs, with those of the jobs' drivers."""
        logs = [*sorted(self.folder.glob("*.log")), *sorted(self.folder.glob("ray/session_2*/logs/job-driver-*.log"))]
        parts = []
        for path in logs:
            last = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"==== {path}", *last]))
        return "\n".join(parts)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """An error in the block, a timeout too, prints the logs' ends; a fixture does not see its tests' errors."""
        try:
            yield
        except BaseException:
            print(self.tails(), file=sys.stderr, flush=True)
            raise

    def stop(self) -> None:
        """End every process, politely first, and remove the folder."""
        for process in reversed(self._started):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 10
        while self.alive() and time.monotonic() < deadline:
            for process in self._started:
                process.poll()
            time.sleep(0.2)
        deadline = time.monotonic() + 20
        while (left := self.alive()) and time.monotonic() < deadline:
            for member in left:
                with contextlib.suppress(psutil.Error):
                    member.kill()
            time.sleep(0.2)
        for process in self._started:
            process.wait(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)
        if left:
            raise RuntimeError(f"still running: {left}")


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """Processes that end with the block."""
    started = Processes()
    try:
        with started.explained():
            yield started
    finally:
        started.stop()


_given: set[int] = set()
"""Ports that this process was given: whoever was told to listen may not do so yet."""


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody uses, below those that the system hands out for outgoing connections."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 32_000), 2_000):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        _given.add(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"fewer than {count} free ports")


def wait_until(done: Callable[[], bool], seconds: float, what: str, needs: Sequence[subprocess.Popen] = ()) -> None:
    """Wait for `done`; an AssertionError after `seconds`, or as soon as one of the processes that it `needs` ended."""
    deadline = time.monotonic() + seconds
    while not done():
        ended = [process for process in needs if process.poll() is not None]
        assert not ended, f"waiting for {what}: {ended[0].args} ended with {ended[0].returncode}"
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.25)


def http(url: str, token: str | None = None, timeout: float = 10) -> tuple[int, str]:
    """Status and body of a GET; status 0 where nobody answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (OSError, TimeoutError) as error:
        return 0, repr(error)
