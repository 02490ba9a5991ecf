"""A real Ray with a pretend cloud: a tuning that wants four GPU workers gets them and gives them back, and a budget.

The node types are cluster.yaml's own, with three differences. Machines are processes on this one, so each offers two
CPUs in place of eight. Idle time-outs are a twentieth. And there is no GPU behind the GPUs that the nodes offer: Ray
counts and hands them out, miseg asks for them, and the training runs on the CPU (`pretend_gpu`).

The times are printed: `python -m pytest -m long -s tests/service/cloud/test_autoscaling.py`.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from miseg.service.cloud import autoscaling
from tests.support import ROOT
from tests.support.cloud.clusters import Head, start_head, start_mlflow
from tests.support.processes import Processes, free_ports, http, processes, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500, method="signal")]

FASTER = 20
"""What the file's idle time-outs are divided by."""
STEPS = 12
SETTLE = 8
LONGER = 300
"""Steps of the training that the budget ends."""
SMALL = ("--size", "64", "96", "--initial-features", "4")
PRICES = {"head": 0.0, "gpu_spot": 3600.0, "gpu_on_demand": 7200.0}
"""An hour: one and two a second."""


@dataclass
class Watched:
    """Workers by type over time, as the autoscaler tells."""

    address: str
    seen: list[tuple[float, Counter[str]]] = field(default_factory=list)
    busy: int = 0
    """The most workers that worked at a time."""
    ended: bool = False

    def run(self) -> None:
        """Look until `ended`."""
        while not self.ended:
            try:
                found = autoscaling.status(self.address)
            except Exception:  # the head is starting
                time.sleep(0.5)
                continue
            active = [node for node in found.active_nodes if autoscaling.HEAD not in node.total_resources()]
            self.busy = max(self.busy, len(active))
            counts = Counter(node.ray_node_type_name for node in autoscaling.workers(found))
            if not self.seen or self.seen[-1][1] != counts:
                self.seen.append((time.monotonic(), counts))
            time.sleep(0.25)

    def when(self, count: int, since: float) -> float:
        """When there were first that many workers, from `since` on."""
        return next(at for at, counts in self.seen if at >= since and counts.total() == count)

    def starts(self, since: float) -> int:
        """Workers that came, from `since` on."""
        totals = [(at, counts.total()) for at, counts in self.seen]
        return sum(max(0, b - a) for (_, a), (at, b) in itertools.pairwise(totals) if at >= since)

    def still_at_0(self) -> float:
        """Seconds since there were workers; 0 where there are some."""
        return 0.0 if self.now() else time.monotonic() - self.seen[-1][0]

    def now(self) -> int:
        """Workers that there are."""
        return self.seen[-1][1].total() if self.seen else 0


@dataclass
class Pretended:
    """The cluster, what it trains on, and who watches."""

    started: Processes
    head: Head
    mlflow: str
    data: Path
    environment: dict[str, str]
    watched: Watched
    needs: list[subprocess.Popen]
    idle_s: float
    port: int
    """Of the budget guard's metrics."""

    @property
    def config(self) -> Path:
        """The autoscaler's configuration."""
        return self.started.folder / "autoscaling.json"

    @property
    def storage(self) -> Path:
        """Where jobs keep their things."""
        return self.started.folder / "storage"

    def submit(self, name: str, job: str, *arguments: str) -> subprocess.Popen:
        """`ray job submit` of a job, with what a pretend GPU wants."""
        variables = {
            "MLFLOW_TRACKING_URI": self.mlflow,
            "MISEG_STORAGE": str(self.storage),
            "MISEG_COMMIT": "pretended",
        }
        variables |= {"PYTHONPATH": self.environment["PYTHONPATH"]}
        wanted = {"env_vars": variables, "worker_process_setup_hook": "tests.support.cloud.pretend_gpu.use_the_cpu"}
        # Without --working-dir: all nodes unpack it to one folder here, and a new one takes it from those that use it.
        command = ["ray", "job", "submit", "--address", self.head.dashboard]
        command += ["--runtime-env-json", json.dumps(wanted), "--", "python", f"{ROOT}/jobs/{job}.py", *arguments]
        return self.started.start(name, command, self.environment, ROOT)

    def runs(self, name: str) -> list[Any]:
        """MLflow's runs whose name begins so."""
        client = MlflowClient(self.mlflow)
        every = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
        return [run for run in every if run.data.tags.get("miseg.run", "").startswith(name)]

    def step(self, name: str) -> int:
        """The last step that the journals of the runs whose name begins so hold; -1 before the first."""
        steps = [-1]
        for run in self.runs(name):
            for path in self.storage.rglob(f"{run.info.run_id}.jsonl"):
                whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
                entries = [json.loads(line) for line in whole]
                steps += [entry["step"] for entry in entries if "train/loss" in entry.get("values", ())]
        return max(steps)


def of_the_file() -> tuple[dict[str, Any], float]:
    """cluster.yaml's node types for this machine, and the idle time-out (s) of spot workers."""
    raw = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    types = copy.deepcopy(raw["available_node_types"])
    for node_type in types.values():
        node_type.pop("node_config")
        if node_type["resources"]["GPU"]:
            node_type["resources"] = {
                "CPU": 2,
                "GPU": node_type["resources"]["GPU"],
                "object_store_memory": 150_000_000,
            }
        if "idle_timeout_s" in node_type:
            node_type["idle_timeout_s"] /= FASTER
    minutes = raw["idle_timeout_minutes"] / FASTER
    metadata = {"budget": float("inf"), "prices": PRICES}
    kept = {name: raw[name] for name in ("max_workers", "upscaling_speed", "head_node_type")}
    return kept | {"available_node_types": types, "idle_timeout_minutes": minutes, "metadata": metadata}, 60 * minutes


@pytest.fixture(scope="module")
def pretended() -> Iterator[Pretended]:
    with processes() as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        environment = started.environment(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", PYTHONPATH=str(ROOT))
        config, idle_s = of_the_file()
        head, (server, mlflow) = start_head(started, environment, cpus=0, config=config), start_mlflow(started)
        needs = [head.process, server]
        data = started.folder / "scenes"
        command = [sys.executable, "jobs/prepare_data.py", "--train", "8", "--val", "4", "--splits", "train", "val"]
        pack = started.start("pack", [*command, "--out", str(data)], environment, ROOT)
        wait_until(lambda: pack.poll() is not None, 120, "the packed data set")
        assert pack.returncode == 0, started.text("pack")
        wait_until(lambda: http(f"{mlflow}/health")[0] == 200, 120, "the MLflow server", needs)
        wait_until(lambda: http(f"{head.dashboard}/api/jobs/")[0] == 200, 120, "the dashboard", needs)
        (port,) = free_ports(1)
        guard = [
            sys.executable,
            "-m",
            "miseg.service.cloud.budget",
            head.address,
            "--every",
            "0.5",
            "--port",
            str(port),
        ]
        guard += ["--config", str(started.folder / "autoscaling.json"), "--ledger", str(started.folder / "budget.json")]
        # So long that the autoscaler asks for a worker meanwhile, which comes when there may be none any more.
        guard += ["--targets", str(started.folder / "targets"), "--settle", str(SETTLE)]
        needs.append(started.start("budget", guard, environment, started.folder))
        wait_until(lambda: (started.folder / "budget.json").exists(), 60, "the guard's first look", needs)
        watched = Watched(head.address)
        thread = threading.Thread(target=watched.run, daemon=True)
        thread.start()
        yield Pretended(started, head, mlflow, data, environment, watched, needs, idle_s, port)
        watched.ended = True
        thread.join(20)


def test_a_tuning_of_four_trials_at_a_time_gets_four_gpu_workers_and_gives_them_back(pretended: Pretended) -> None:
    watched, asked = pretended.watched, time.monotonic()
    assert watched.now() == 0, "none before any work"
    trials = ["--trials", "4", "--concurrent", "4", "--confirm-seeds", "1", "--steps", str(STEPS), "--name", "four"]
    job = pretended.submit("four", "tune_rmi", "--data", str(pretended.data), *trials, *SMALL)
    wait_until(lambda: job.poll() is not None, 800, "the tuning", pretended.needs)
    done = time.monotonic()
    assert job.returncode == 0, pretended.started.text("four")
    wait_until(lambda: watched.now() == 0, pretended.idle_s + 120, "the end of the workers", pretended.needs)

    four, first, gone = watched.when(4, asked), watched.when(1, asked), watched.when(0, done)
    assert max(counts.total() for _, counts in watched.seen) == 4, watched.seen
    assert watched.busy == 4, "all four worked at one time"
    assert not any(counts["gpu_on_demand"] for _, counts in watched.seen), "spot is there, so none at full price"
    finished = [run for run in pretended.runs("four") if run.data.tags.get("miseg.kind") == "trial"]
    assert len(finished) >= 4 and {run.info.status for run in finished} == {"FINISHED"}
    assert done - asked < gone - asked <= done - asked + pretended.idle_s + 60
    print(
        f"\n| of a tuning with four trials at a time | s |\n|---|---|\n"
        f"| from `ray job submit` to the first pretend node | {first - asked:.1f} |\n"
        f"| to four | {four - asked:.1f} |\n"
        f"| to the end of the job | {done - asked:.1f} |\n"
        f"| from then until all are gone, with an idle time-out of {pretended.idle_s:g} s | {gone - done:.1f} |"
    )


def test_once_the_budget_is_spent_the_training_is_kept_and_goes_on_when_there_is_more(pretended: Pretended) -> None:
    watched, began = pretended.watched, time.monotonic()
    folder = pretended.started.folder
    once = ["--trials", "1", "--confirm-seeds", "1", "--steps", str(LONGER), "--name", "spent"]
    job = pretended.submit("spent", "tune_rmi", "--data", str(pretended.data), *once, *SMALL)
    wait_until(lambda: watched.now() == 1, 200, "a worker", [*pretended.needs, job])
    wait_until(lambda: pretended.step("spent") >= 10, 200, "ten steps", [*pretended.needs, job])

    def set_budget(amount: float, change: Callable[[dict[str, Any]], None] = lambda config: None) -> None:
        with autoscaling.changing(pretended.config) as config:
            config["metadata"]["budget"] = amount
            change(config)

    types = autoscaling.read(pretended.config)["available_node_types"]
    limits = {name: node_type["max_workers"] for name, node_type in types.items()}
    # One, or two where the autoscaler asked again before the first had joined.
    running, spent_at = watched.now(), time.monotonic()
    set_budget(1.0)
    # The training waits for a GPU, and the autoscaler looks every five seconds. The worker that it asked for comes,
    # drains, and is ended where it does not leave.
    wait_until(lambda: watched.still_at_0() > 15, 200, "the end of the worker", [*pretended.needs, job])
    gone, starts = watched.seen[-1][0], watched.starts(spent_at)
    assert starts == 1 and job.poll() is None, watched.seen
    said = pretended.started.text("budget")
    assert "STOPPED" in said and said.count("draining gpu_spot") == running + starts, said
    ended = set(re.findall(r"(\w+) has not left in time", said))
    assert len(ended) <= starts and re.findall(r"draining gpu_spot (\w+)", said)[0] not in ended, said
    assert json.loads((folder / "budget.json").read_text())["state"] == "stopped"
    ratio = [
        line for line in http(f"http://127.0.0.1:{pretended.port}/metrics")[1].splitlines() if "used_ratio " in line
    ][-1]
    assert float(ratio.split()[-1]) >= 1

    # As `ray up --no-restart` with a larger budget: its file in place of the one that the guard changed.
    def restore(config: dict[str, Any]) -> None:
        config["max_workers"] = sum(limits.values())
        for name, limit in limits.items():
            config["available_node_types"][name]["max_workers"] = limit

    set_budget(float("inf"), restore)
    wait_until(lambda: job.poll() is not None, 500, "the training", pretended.needs)
    assert job.returncode == 0, pretended.started.text("spent")
    assert "within the budget" in pretended.started.text("budget")
    trials = [run for run in pretended.runs("spent") if run.data.tags.get("miseg.kind") == "trial"]
    client = MlflowClient(pretended.mlflow)
    for run in trials:
        losses = client.get_metric_history(run.info.run_id, "train/loss")
        assert [loss.step for loss in losses] == list(range(LONGER)), "a step is missing, or logged twice"
    [preempted] = [run.data.tags["miseg.preempted"] for run in trials if "miseg.preempted" in run.data.tags]
    assert "Ray drains node" in preempted
    print(f"\nbudget spent to all workers gone: {gone - spent_at:.1f} s; {starts} came meanwhile")
    print(f"{time.monotonic() - began:.0f} s in all")
