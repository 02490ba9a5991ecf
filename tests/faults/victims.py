"""A cluster of two nodes on this machine to which jobs are submitted, and what of them can be killed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support import ROOT
from tests.support.cloud.clusters import Head, start_head, start_mlflow, start_node
from tests.support.processes import Processes, http, processes, wait_until

STARTED = 300
"""Seconds in which whatever is started must answer."""
TITLES = {
    "trial": "ray::ImplicitFunc",
    "driver of a trial": "ray::ImplicitFunc",
    "decoding task": "ray::MapBatches",
    "train worker": "ray::RayTrainWorker",
    "train controller": "ray::TrainController",
    "job supervisor": "JobSupervisor",
}
"""What Ray calls the processes."""
OF_RAY = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::_")
"""Titles of processes that stay while a cluster has nothing to do; Ray Data keeps two actors for all pipelines."""


@dataclass
class Site:
    """The cluster and its MLflow server."""

    started: Processes
    head: Head
    mlflow: str
    environment: dict[str, str]
    nodes: int = 0
    node: Any = None
    """The process of the second node."""

    @property
    def data(self) -> Path:
        """The packed data set."""
        return self.started.folder / "data/embedded"

    def add_node(self) -> None:
        """Start a second node, under a name of its own."""
        self.nodes += 1
        self.node = start_node(self.started, f"node-{self.nodes}", self.head.address, self.environment, cpus=2)

    def storage(self, name: str) -> Path:
        """Where a work of this name keeps its things."""
        return self.started.folder / "storage" / name

    def submit(self, submission_id: str, storage: Path, command: Sequence[str]) -> None:
        """Submit a job as the README says."""
        variables = {"MLFLOW_TRACKING_URI": self.mlflow, "MISEG_STORAGE": str(storage), "MISEG_COMMIT": "killed"}
        options = ["--address", self.head.dashboard, "--submission-id", submission_id, "--working-dir", "."]
        options += ["--runtime-env-json", json.dumps({"env_vars": variables}), "--no-wait"]
        line = ["ray", "job", "submit", *options, "--", "python", *command]
        done = self.started.start(f"submit-{submission_id}", line, self.environment, ROOT)
        wait_until(lambda: done.poll() is not None, STARTED, "the submission", [self.head.process])
        assert done.returncode == 0, self.started.text(f"submit-{submission_id}")

    def status(self, submission_id: str) -> str:
        """What Ray says of a job: RUNNING, SUCCEEDED, FAILED…; empty where it does not answer."""
        code, body = http(f"{self.head.dashboard}/api/jobs/{submission_id}")
        return json.loads(body)["status"] if code == 200 else ""

    def log(self, submission_id: str) -> str:
        """What a job has said."""
        found = list(self.started.folder.glob(f"ray/session_2*/logs/job-driver-{submission_id}.log"))
        return found[0].read_text(encoding="utf-8", errors="replace") if found else ""

    def titles(self) -> list[tuple[psutil.Process, str]]:
        """The cluster's processes and their command lines."""
        return [(process, command_line) for process, _, command_line in self.started.titles()]

    def victims(self, kind: str) -> list[list[psutil.Process]]:
        """What may be killed now as `kind`: each time a list, of a node all that it has."""
        if kind == "node":
            with contextlib.suppress(psutil.Error):
                top = psutil.Process(self.node.pid)
                return [[top, *top.children(recursive=True)]]
            return []
        if kind == "driver":
            return [[process] for process, title in self.titles() if _is_driver(title)]
        return [[process] for process, title in self.titles() if TITLES[kind] in title]

    def left(self) -> list[str]:
        """What is still there of jobs: processes, actors and placement groups."""
        told = [title for _, title in self.titles() if _is_driver(title)]
        told += [title for _, title in self.titles() if title.startswith("ray::") and not title.startswith(OF_RAY)]
        for what in ("actors", "placement_groups"):
            code, body = http(f"{self.head.dashboard}/api/v0/{what}?limit=10000&timeout=20", timeout=30)
            if code != 200:
                return [*told, f"{what}: {body}"]
            for one in json.loads(body)["data"]["result"]["result"]:
                if one["state"] not in ("DEAD", "REMOVED") and not one.get("class_name", "").startswith("_"):
                    told.append(f"{what}: {one}")
        return told


def _is_driver(title: str) -> bool:
    parts = title.split(" ")
    return len(parts) > 1 and parts[0].endswith("python") and parts[1].startswith("jobs/")


def kill(victims: Sequence[psutil.Process]) -> None:
    """SIGKILL, all at once."""
    for process in victims:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)


def open_journals(among: Sequence[psutil.Process]) -> set[str]:
    """The MLflow runs whose journals these processes write."""
    found = set()
    for process in among:
        with contextlib.suppress(psutil.Error, OSError):
            files = [Path(file.path) for file in process.open_files()]
            found |= {path.stem for path in files if path.suffix == ".jsonl" and path.parent.name == "journals"}
    return found


def logged(storage: Path) -> dict[str, int]:
    """Steps whose loss is in the journal, by MLflow run; of trainings that have logged any."""
    found = {}
    for path in storage.glob("journals/*.jsonl"):
        steps = -1
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):  # it is being written
                entry = json.loads(line)
                if "train/loss" in entry.get("values", {}):
                    steps = max(steps, entry["step"])
        if steps >= 0:  # a tuning's own run has none
            found[path.stem] = steps + 1
    return found


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A head that computes nothing, a node of two CPUs, an MLflow server, and scenes; gone with the block."""
    with processes() as started:
        environment = started.environment(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
        head, (server, mlflow) = start_head(started, environment, cpus=0), start_mlflow(started)
        found = Site(started, head, mlflow, environment)
        sizes = ["--train", "32", "--val", "8", "--splits", "train", "val", "--out", str(found.data)]
        pack = started.start("pack", [sys.executable, "jobs/prepare_data.py", *sizes], started.environment(), ROOT)
        needs = [head.process, server]
        wait_until(lambda: _ended(pack), STARTED, "the packed data set", needs)
        wait_until(lambda: http(f"{mlflow}/health")[0] == 200, STARTED, "the MLflow server", needs)
        wait_until(lambda: http(f"{head.dashboard}/api/jobs/")[0] == 200, STARTED, "the dashboard", needs)
        found.add_node()
        wait_until(lambda: _nodes(found) == 2, STARTED, "the second node", [*needs, found.node])
        yield found


def _ended(process: subprocess.Popen) -> bool:
    assert process.poll() in (None, 0), f"{process.args} ended with {process.returncode}"
    return process.poll() == 0


def _nodes(site: Site) -> int:
    code, body = http(f"{site.head.dashboard}/api/v0/nodes?limit=100")
    if code != 200:
        return 0
    return sum(node["state"] == "ALIVE" for node in json.loads(body)["data"]["result"]["result"])


def until(done: Any, seconds: float) -> bool:
    """Wait for `done`; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
