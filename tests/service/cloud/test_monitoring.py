"""A real Prometheus on a real Ray head while trainings run: every query of every panel, and every alert.

A query returns data, or stands in `NOT_HERE` with the reason. The table of all of them is printed (`-s` shows it).
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from miseg.service.cloud import monitor
from tests.support import ROOT
from tests.support.cloud.clusters import start_head, start_mlflow
from tests.support.processes import Processes, free_ports, http, processes, wait_until
from tests.support.queries import asked, defaults, rules

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1500, method="signal"),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed: apt-get install it"),
]

NODE_TYPES = ("head", "gpu_spot", "gpu_on_demand")
"""Those of cluster.yaml, which the cost is counted by."""

NO_GPU = "this machine has no GPU"
NOT_HERE = {
    ("run", "GPU memory", "A"): NO_GPU,
    ("cluster", "GPUs in use", "A"): NO_GPU,
    ("cluster", "GPUs", "A"): NO_GPU,
    ("cluster", "GPU memory", "A"): NO_GPU,
    ("run", "Faults", "B"): "MLflow answered all the time; tests/service/cluster/test_metrics.py has one that does not",
}
"""Queries that return nothing here: page, panel, letter of the query."""

TUNING, UNLABELLED, BROKEN = "watched", "unlabelled", "broken"
"""A tuning with its confirmation; a method without labels; a run whose loss becomes NaN."""


@dataclass
class Watched:
    """What was watched, and Prometheus, which has all of it."""

    started: Processes
    prometheus: str
    since: float
    runs: list[str]

    def ask(self, expr: str) -> int:
        """Series of `expr` that had a value at any time."""
        found = self.api("query_range", query=expr, start=self.since, end=time.time(), step=5)["result"]
        return sum(any(not math.isnan(float(value)) for _, value in series["values"]) for series in found)

    def last(self, expr: str) -> float:
        """The last value of an expression with one series."""
        [series] = self.api("query_range", query=expr, start=self.since, end=time.time(), step=5)["result"]
        return float(series["values"][-1][1])

    def api(self, path: str, **parameters: Any) -> Any:
        """Prometheus' answer."""
        status, body = http(f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=60)
        assert status == 200, f"{parameters}: {body}"
        return json.loads(body)["data"]


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with processes() as started:
        environment = started.environment(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", PYTHONPATH=str(ROOT))
        head = start_head(started, environment, cpus=2, node_types=NODE_TYPES)
        server, mlflow = start_mlflow(started)
        needs = [head.process, server]
        prometheus, grafana = free_ports(2)
        command = [sys.executable, "jobs/monitor.py", "--ray-folder", str(started.folder / "ray")]
        command += ["--folder", str(started.folder / "monitor"), "--prometheus-port", str(prometheus)]
        command += ["--grafana-port", str(grafana)]
        watching = started.start("monitor", command, environment, ROOT)
        guard = [sys.executable, "-m", "miseg.service.cloud.budget", head.address, "--port", str(free_ports(1)[0])]
        guard += ["--config", str(started.folder / "autoscaling.json"), "--ledger", str(started.folder / "budget.json")]
        guard += ["--targets", str(started.folder / "monitor/targets")]
        needs.append(started.start("budget", guard, environment, ROOT))
        address = f"http://127.0.0.1:{prometheus}"
        data = started.folder / "scenes"
        sizes = ["--train", "16", "--val", "4", "--splits", "train", "val", "--out", str(data)]
        pack = started.start("pack", [sys.executable, "jobs/prepare_data.py", *sizes], environment, ROOT)
        wait_until(lambda: pack.poll() is not None, 120, "the packed data set")
        assert pack.returncode == 0, started.text("pack")
        wait_until(lambda: http(f"{mlflow}/health")[0] == 200, 120, "the MLflow server", needs)
        wait_until(lambda: http(f"{head.dashboard}/api/jobs/")[0] == 200, 120, "the dashboard", needs)
        wait_until(lambda: http(f"{address}/-/ready")[0] == 200, 60, "Prometheus", [watching])
        found = Watched(started, address, time.time(), [])
        needs.append(watching)
        _train(found, head.dashboard, mlflow, data, environment, needs)
        metrics = "ray_miseg_run_progress_timestamp_seconds"
        found.runs += found.api("label/run/values", **{"match[]": metrics, "start": found.since, "end": time.time()})
        yield found
        watching.terminate()
        assert watching.wait(60) == 0, "Ctrl-C and SIGTERM end the job, and Prometheus with it"
        assert http(f"{address}/-/ready")[0] == 0


def _train(
    found: Watched,
    dashboard: str,
    mlflow: str,
    data: Path,
    environment: dict[str, str],
    needs: list[subprocess.Popen],
) -> None:  # fmt: skip
    storage = found.started.folder / "storage"
    variables = {"MLFLOW_TRACKING_URI": mlflow, "MISEG_STORAGE": str(storage), "MISEG_COMMIT": "watched"}
    common = ["--data", str(data), "--name"]
    by_turns = ["--concurrent", "1"]  # trials that end together leave no rate at which they end
    jobs = {
        TUNING: ["tune_rmi.py", *common, TUNING, "--trials", "2", "--confirm-seeds", "1", "--steps", "40", *by_turns],
        UNLABELLED: ["train.py", "embedded-iic", *common, UNLABELLED, "--steps", "30", "--validate-every", "15"],
        BROKEN: ["train.py", "embedded-ce", *common, BROKEN, "--steps", "40", "--optimiser.learning-rate", "1e30"],
    }
    for name, job in jobs.items():
        submit = ["ray", "job", "submit", "--address", dashboard, "--working-dir", "."]
        submit += ["--runtime-env-json", json.dumps({"env_vars": variables}), "--", "python", f"jobs/{job[0]}"]
        done = found.started.start(f"job-{name}", [*submit, *job[1:]], environment, ROOT)
        wait_until(lambda done=done: done.poll() is not None, 600, name, needs)
        assert (done.returncode == 0) == (name != BROKEN), found.started.text(f"job-{name}")
    # The last numbers of the last process are exported, looked at, and compared by the rules.
    time.sleep(3 * monitor.SCRAPE_S)


def test_ray_reports_every_node_and_prometheus_reads_it(watched: Watched) -> None:
    targets = watched.api("targets")["activeTargets"]
    assert len(targets) >= 2, "the node and the autoscaler"
    assert {target["health"] for target in targets} == {"up"}, [target["lastError"] for target in targets]


def test_every_query_of_every_panel_returns_data(watched: Watched) -> None:
    lines, empty, stale = [], [], []
    for query in asked():
        values = defaults(query.page)
        ways = [values | {"run": run} for run in watched.runs] if "$run" in query.expr else [values]
        count = sum(watched.ask(query.filled(way)) for way in ways)
        key = query.page, query.panel, query.letter
        reason = NOT_HERE.get(key)
        lines.append(f"| {query.page} | {query.panel} | {query.letter} | {reason or count} |")
        if reason is None and not count:
            empty.append((key, query.filled(ways[0])))
        if reason is not None and count:
            stale.append(key)
    print("\n| page | panel | query | series |\n|---|---|---|---|", *lines, sep="\n")
    assert len(lines) > 60
    assert not empty, empty
    assert not stale, f"these do return data here: {stale}"
    assert set(NOT_HERE) <= {(query.page, query.panel, query.letter) for query in asked()}


def test_every_rule_is_evaluated_and_each_alert_has_something_to_compare(watched: Watched) -> None:
    found = [rule for group in watched.api("rules")["groups"] for rule in group["rules"]]
    assert len(found) == len(rules())
    assert {rule["health"] for rule in found} == {"ok"}, [rule.get("lastError") for rule in found]
    counts = {rule["record"]: watched.ask(rule["record"]) for rule in rules() if "record" in rule}
    print("\n".join(f"| {name} | {count} |" for name, count in counts.items()))
    assert all(counts.values()), counts
    assert watched.ask('up{job="ray"}') >= 2


def test_a_loss_that_is_not_finite_raises_its_alert_and_no_other_is_raised(watched: Watched) -> None:
    fired = watched.api(
        "query_range", query='ALERTS{alertstate="firing"}', start=watched.since, end=time.time(), step=5
    )
    raised = {(series["metric"]["alertname"], series["metric"].get("run")) for series in fired["result"]}
    assert raised == {("MisegNonFiniteLoss", BROKEN)}


def test_what_prometheus_has_is_what_the_trainings_did(watched: Watched) -> None:
    """Of the run without labels, which was trained once: 30 steps of 16 images, to its end."""

    last = watched.last
    of = f'{{run="{UNLABELLED}"}}'
    assert last(f"sum(ray_miseg_training_steps_total{of})") == 30
    assert last(f"sum(ray_miseg_training_images_total{of})") == 30 * 16
    assert last(f"max(ray_miseg_run_progress_ratio{of})") == 1
    assert last(f'sum(ray_miseg_training_seconds_total{{run="{UNLABELLED}",part="compute"}})') > 0
    assert last(f'sum(ray_miseg_faults_total{{run="{BROKEN}",kind="non_finite_loss"}})') == 1


def test_what_the_cluster_costs_is_nodes_by_price(watched: Watched) -> None:
    """One head and no worker, by a price that the user typed."""
    [hour] = [query for query in asked() if (query.page, query.panel) == ("cluster", "An hour costs")]
    prices = {f"price_{name}": str(price) for name, price in zip(NODE_TYPES, (0.25, 1.5, 3.5), strict=True)}
    assert watched.last(hour.filled(prices)) == 0.25


def test_a_gauge_stays_as_long_as_its_run(watched: Watched) -> None:
    """Ray lets go of what was set once: a run that makes no step must not vanish, nor one that has ended stay."""
    of = f'{{run="{UNLABELLED}"}}'
    [series] = watched.api("query_range", query=f"max(ray_miseg_run_active{of})", start=watched.since, end=time.time(),
                           step=monitor.SCRAPE_S)["result"]  # fmt: skip
    times = [when for when, _ in series["values"]]
    assert times[-1] - times[0] <= (len(times) - 1) * monitor.SCRAPE_S, "no gap between the first and the last"
    assert times[-1] < time.time() - monitor.SCRAPE_S
