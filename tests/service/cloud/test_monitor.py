"""The job that shows the dashboards: what it starts, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from miseg.service.cloud import plots
from miseg.service.cluster.metrics import COUNTERS, GAUGES
from tests.support import ROOT
from tests.support.processes import free_ports, http, wait_until

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed: apt-get install prometheus"
)

STAND_IN = """#!{python}
import json, os, pathlib, sys, time
told = {{key: value for key, value in os.environ.items() if key.startswith("GF_")}}
pathlib.Path({out!r}).write_text(json.dumps([sys.argv[1:], told]))
time.sleep(600)
"""
"""In place of Grafana, which tests cannot get: it keeps what it was told."""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Starts the job with options; it ends with the test."""
    started = []

    def start(*options: str, path: str | None = None) -> subprocess.Popen:
        command = [sys.executable, "jobs/monitor.py", "--folder", str(tmp_path / "kept"), *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({} if path is None else {"PATH": path})
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def _ports() -> tuple[list[str], list[int]]:
    ports = free_ports(2)
    return ["--prometheus-port", str(ports[0]), "--grafana-port", str(ports[1])], ports


@needs_prometheus
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_both_are_started_on_the_loopback_and_end_with_the_job(job, tmp_path: Path, ending: int) -> None:
    programs, told = tmp_path / "programs", tmp_path / "told.json"
    programs.mkdir()
    grafana = programs / "grafana"
    grafana.write_text(STAND_IN.format(python=sys.executable, out=str(told)))
    grafana.chmod(0o755)
    options, (prometheus, _) = _ports()
    process = job("--ray-folder", str(tmp_path), *options, path=f"{programs}{os.pathsep}{os.environ['PATH']}")
    address = f"http://127.0.0.1:{prometheus}"
    wait_until(lambda: http(f"{address}/-/ready")[0] == 200 and told.exists(), 60, "both", [process])
    found = json.loads(http(f"{address}/api/v1/rules")[1])["data"]["groups"]
    assert sum(len(group["rules"]) for group in found) == 14
    [command, settings] = json.loads(told.read_text())
    assert command[0] == "server" and settings["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert _listens_on_the_loopback_alone(prometheus)
    process.send_signal(ending)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert f"Prometheus: {address}" in said and "Grafana: http://127.0.0.1:" in said
    assert f"there is no {tmp_path}/prom_metrics_service_discovery.json yet" in said
    assert http(f"{address}/-/ready")[0] == 0
    assert not _alive(str(grafana))


def _listens_on_the_loopback_alone(port: int) -> bool:
    import psutil

    found = [c.laddr.ip for c in psutil.net_connections("inet") if c.laddr and c.laddr.port == port and not c.raddr]
    return found == ["127.0.0.1"]


def _alive(program: str) -> bool:
    import psutil

    return any(program in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))


@needs_prometheus
def test_without_grafana_prometheus_shows_plots_of_its_own(job, tmp_path: Path) -> None:
    """Its first page is an empty box for an expression."""
    options, (prometheus, _) = _ports()
    programs = tmp_path / "programs"  # where no Grafana lies
    programs.mkdir()
    (programs / "prometheus").symlink_to(shutil.which("prometheus"))
    process = job("--ray-folder", str(tmp_path), *options, path=str(programs))
    wait_until(lambda: http(f"http://127.0.0.1:{prometheus}/-/ready")[0] == 200, 60, "Prometheus", [process])
    address, said = f"http://127.0.0.1:{prometheus}", ""
    while not said.startswith("plots without it: "):
        said = process.stdout.readline()
        assert said, "the job ended"
    page = said.split()[-1]
    assert page.startswith(address) and "/graph?g0.expr=max+by+%28run%29+%28ray_miseg_validation_mean_iou_ratio" in page
    assert http(page)[0] == 200, "Debian's Prometheus has no /graph"
    for query in plots.QUERIES:
        answer = json.loads(http(f"{address}/api/v1/query?{urlencode({'query': query})}")[1])
        assert answer["status"] == "success", answer
        (name,) = re.findall(r"ray_(miseg_\w+)", query)
        assert name in GAUGES or name.removesuffix("_total") in COUNTERS
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_what_is_missing_is_told_in_a_line(job, tmp_path: Path) -> None:
    for options, path, told in (
        (["--dashboards", str(tmp_path)], None, f"--dashboards {tmp_path}: there is no prometheus/rules.yml in it"),
        ([], str(tmp_path), "prometheus is not installed: on Debian and Ubuntu, apt-get install prometheus"),
    ):
        said, _ = (process := job(*options, path=path)).communicate(timeout=60)
        assert process.returncode == 2 and said.startswith("error: ") and told in said, said


@needs_prometheus
def test_a_port_that_is_taken_is_told_with_the_option_that_changes_it(job) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said, _ = (process := job("--prometheus-port", str(port))).communicate(timeout=60)
    assert process.returncode == 2
    assert f"port {port} of 127.0.0.1 is taken" in said and "choose another --prometheus-port" in said
