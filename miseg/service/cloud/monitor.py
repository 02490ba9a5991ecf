"""Prometheus and Grafana over the metrics that Ray exports: their configuration, and the processes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from miseg.files import replacing
from miseg.service.cloud import plots, programs
from miseg.service.cloud.programs import LOOPBACK
from miseg.service.cloud.resources import resource

TARGETS = "prom_metrics_service_discovery.json"
"""File in which Ray's head lists the metrics ports of all nodes, in its folder for temporary files."""

SCRAPE_S = 15
"""Seconds between two looks at each node; Ray's processes report every ten."""

HOMES = (Path("/usr/share/grafana"), Path("/opt/homebrew/share/grafana"), Path("/usr/local/share/grafana"))
"""Folders in which packages of Grafana put its files."""


@dataclass
class Monitor:
    """Watch a Ray."""

    ray_folder: str = "/tmp/ray"  # noqa: S108  (Ray's own default; it is read)
    """Ray's folder for temporary files on this machine, the cluster's head: `--temp-dir` of `ray start`."""
    dashboards: str = str(resource("dashboards"))
    """The folder of dashboards and rules."""
    folder: str = "~/.miseg/monitor"
    """Folder of their configuration and measurements."""
    keep: str = "30d"
    """For how long, as Prometheus has it: 12h, 30d."""
    prometheus_port: int = 9090
    """Port on 127.0.0.1 of Prometheus."""
    grafana_port: int = 3000
    """Port on 127.0.0.1 of Grafana."""


def run(arguments: Monitor) -> int:
    """Start both and wait; the status of the first that ends by itself.

    Raises:
        FileNotFoundError: no Prometheus, or no dashboards.
        ValueError: a port is taken.
    """
    folder, dashboards = Path(arguments.folder).expanduser().resolve(), Path(arguments.dashboards).resolve()
    if not (dashboards / "prometheus/rules.yml").is_file():
        raise FileNotFoundError(f"--dashboards {dashboards}: there is no prometheus/rules.yml in it; use miseg's")
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        raise FileNotFoundError("prometheus is not installed: on Debian and Ubuntu, apt-get install prometheus")
    for name, port in (("prometheus", arguments.prometheus_port), ("grafana", arguments.grafana_port)):
        programs.check_free(f"--{name}-port", port)
    folder.mkdir(parents=True, exist_ok=True)
    write_prometheus(arguments, folder, dashboards)
    commands = {"Prometheus": (prometheus_command(arguments, folder, prometheus), dict(os.environ))}
    if (grafana := grafana_command()) is not None:
        write_grafana(arguments, folder, dashboards)
        commands["Grafana"] = grafana, dict(os.environ) | grafana_settings(arguments, folder, dashboards)
    targets = Path(arguments.ray_folder) / TARGETS
    if not targets.exists():
        print(f"there is no {targets} yet: what a Ray exports is seen from its start on (--ray-folder)", flush=True)
    return _run_until_exit(commands, arguments, folder)


def prometheus_command(arguments: Monitor, folder: Path, program: str) -> list[str]:
    """Prometheus on this machine's loopback alone."""
    return [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--storage.tsdb.retention.time={arguments.keep}",
        f"--web.listen-address={LOOPBACK}:{arguments.prometheus_port}",
    ]


def write_prometheus(arguments: Monitor, folder: Path, dashboards: Path) -> None:
    """The configuration, as JSON, which is YAML too: paths need no quoting of ours."""
    # The other is what miseg's own watchers on a head tell (miseg.service.cloud.budget); without one there is no file.
    targets = [str(Path(arguments.ray_folder) / TARGETS), str(folder / "targets/*.json")]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(dashboards / "prometheus/rules.yml")],
        "scrape_configs": [
            {"job_name": "ray", "file_sd_configs": [{"files": targets, "refresh_interval": f"{SCRAPE_S}s"}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config, indent=1))


def grafana_command() -> list[str] | None:
    """Grafana's server, with where its files are; None where it is not installed."""
    program = shutil.which("grafana")
    if program is None:
        return None
    homes = [Path(program).resolve().parents[1], *HOMES]
    home = next((home for home in homes if (home / "conf/defaults.ini").is_file()), None)
    return [program, "server", *(["--homepath", str(home)] if home else [])]


def write_grafana(arguments: Monitor, folder: Path, dashboards: Path) -> None:
    """Write Grafana's configuration: Prometheus, miseg's dashboards, and Ray's own in a folder beside them."""
    source = {
        "name": "Prometheus",
        "type": "prometheus",
        "uid": "miseg-prometheus",
        "access": "proxy",
        "url": f"http://{LOOPBACK}:{arguments.prometheus_port}",
        "isDefault": True,
        "jsonData": {"httpMethod": "POST", "timeInterval": f"{SCRAPE_S}s"},
    }
    ray_dashboards = Path(arguments.ray_folder) / "session_latest/metrics/grafana/dashboards"
    providers = [
        {"name": "miseg", "folder": "", "type": "file", "options": {"path": str(dashboards / "grafana")}},
        {"name": "Ray", "folder": "Ray", "type": "file", "options": {"path": str(ray_dashboards)}},
    ]
    for kind, content in (("datasources", [source]), ("providers", providers)):
        target = folder / "provisioning" / ("dashboards" if kind == "providers" else kind)
        target.mkdir(parents=True, exist_ok=True)
        (target / "miseg.yaml").write_text(json.dumps({"apiVersion": 1, kind: content}, indent=1))


def grafana_settings(arguments: Monitor, folder: Path, dashboards: Path) -> dict[str, str]:
    """Grafana's settings: on the loopback alone, where whoever gets there may look and nobody may change anything."""
    password = folder / "grafana-admin-password"
    if not password.exists():
        with replacing(password, durable=True) as new:
            new.touch(mode=0o600)
            new.write_text(secrets.token_hex(24))
    return {
        "GF_SERVER_HTTP_ADDR": LOOPBACK,
        "GF_SERVER_HTTP_PORT": str(arguments.grafana_port),
        "GF_PATHS_DATA": str(folder / "grafana"),
        "GF_PATHS_LOGS": str(folder / "grafana/log"),
        "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
        "GF_SECURITY_ADMIN_PASSWORD__FILE": str(password),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_AUTH_DISABLE_LOGIN_FORM": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(dashboards / "grafana/study.json"),
    }


def _run_until_exit(
    commands: dict[str, tuple[list[str], dict[str, str]]], arguments: Monitor, folder: Path
) -> int:  # fmt: skip
    ports = {"Prometheus": arguments.prometheus_port, "Grafana": arguments.grafana_port}
    with contextlib.ExitStack() as stack:
        programs.interrupted_by_sigterm()
        started: dict[str, subprocess.Popen] = {}
        for name, (command, environment) in commands.items():
            log = stack.enter_context((folder / f"{name.lower()}.log").open("ab"))
            process = programs.start(command, environment, log)
            started[name] = process
            stack.callback(programs.end, process)
            print(f"{name}: http://{LOOPBACK}:{ports[name]} (log: {log.name})", flush=True)
        try:
            if "Grafana" not in commands:
                print(
                    "Grafana, which the dashboards want, is not installed: "
                    "grafana.com/docs/grafana/latest/setup-grafana/installation\n"
                    f"plots without it: {plots.address(arguments.prometheus_port)}",
                    flush=True,
                )
            while True:
                for name, process in started.items():
                    if process.poll() is not None:
                        print(f"{name} ended with {process.returncode}: see its log", flush=True)
                        return 1
                time.sleep(0.5)
        except KeyboardInterrupt:
            return 0
