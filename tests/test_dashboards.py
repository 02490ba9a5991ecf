"""The dashboards, rules and alerts, as far as they can be checked without a running Prometheus or Grafana."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from miseg.service.cloud import monitor
from miseg.service.cluster import metrics
from tests.support.queries import PAGES, ROOT, RULES, asked, defaults, page, rules

EXPORTED = {f"ray_{name}_total": keys for name, (_, keys) in metrics.COUNTERS.items()} | {
    f"ray_{name}": keys for name, (_, keys) in metrics.GAUGES.items()
}
"""miseg's own metrics under the names that Prometheus knows, with their labels."""

KINDS = {"timeseries", "stat", "table", "row"}
OF_RAY = {"instance", "job", "WorkerId", "SessionName", "NodeAddress"}

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


def panels(name: str) -> list[dict[str, Any]]:
    return page(name)["panels"]


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# The dashboards


def test_the_files_are_what_the_code_writes(tmp_path: Path) -> None:
    run(sys.executable, "dashboards/build.py", "--out", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in PAGES.values()}
    for path in PAGES.values():
        assert (tmp_path / path.name).read_text() == path.read_text(), f"run: python dashboards/build.py ({path.name})"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_of_the_current_schema(name: str) -> None:
    found = page(name)
    assert found["schemaVersion"] == 42
    assert found["uid"] == {"data-path": "miseg-data"}.get(name, f"miseg-{name}") and found["tags"] == ["miseg"]
    ids = [panel["id"] for panel in panels(name)]
    assert len(ids) == len(set(ids)) >= 10
    for panel in panels(name):
        assert panel["type"] in KINDS, panel["title"]
        if panel["type"] == "row":
            assert not panel["collapsed"]
            continue
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("name", PAGES)
def test_panels_neither_overlap_nor_leave_the_page(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(name):
        at = panel["gridPos"]
        assert at["x"] >= 0 and at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize("name", PAGES)
def test_every_variable_is_defined_and_used(name: str) -> None:
    found = page(name)
    defined = {variable["name"] for variable in found["templating"]["list"]}
    exprs = [target["expr"] for panel in panels(name) for target in panel.get("targets", [])]
    exprs += [str(v["query"]) for v in found["templating"]["list"] if v["type"] == "query"]
    # Names only: in links and legends `$` may mean something of Grafana's own.
    used = set(re.findall(r"\$\{?(\w+)", " ".join(exprs)))
    assert {one for one in used if not one.startswith("__")} <= defined
    everywhere = PAGES[name].read_text()
    assert all(re.search(rf"\$\{{?{variable}\b", everywhere) for variable in defined)


# Queries and metrics


@promtool
def test_every_query_is_promql(tmp_path: Path) -> None:
    """Each as a rule of its own, with what Grafana would put in for the variables."""
    every = list(asked())
    assert len(every) > 60
    recorded = [{"record": f"q:{i}", "expr": q.filled(defaults(q.page))} for i, q in enumerate(every)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    assert f"{len(every)} rules found" in run("promtool", "check", "rules", str(path))


def test_queries_name_only_metrics_that_there_are_with_labels_that_they_have() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    exprs = [query.expr for query in asked()] + [rule["expr"] for rule in rules()]
    for expr in exprs:
        for name, selector in re.findall(r"\b(ray_miseg_\w+)(?:\{([^}]*)\})?", expr):
            assert name in EXPORTED, f"{name} in {expr}"
            for label in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector):
                assert label in {*EXPORTED[name], *OF_RAY}, f"{label} of {name} in {expr}"
        assert set(re.findall(r"\b\w+:miseg_\w+(?::\w+)?", expr)) <= recorded, expr


def test_every_metric_is_shown_or_watched() -> None:
    everywhere = " ".join([*(query.expr for query in asked()), *(rule["expr"] for rule in rules())])
    assert [name for name in EXPORTED if not re.search(rf"\b{name}\b", everywhere)] == []


# Rules and alerts


@promtool
def test_the_rules_are_valid_and_each_alert_fires_and_does_not() -> None:
    run("promtool", "check", "rules", str(RULES))
    assert "SUCCESS" in run("promtool", "test", "rules", "rules-test.yml", cwd=RULES.parent)


def test_each_alert_is_tested_both_ways() -> None:
    tested: dict[str, set[bool]] = {}
    for case in yaml.safe_load((RULES.parent / "rules-test.yml").read_text())["tests"]:
        for expected in case["alert_rule_test"]:
            tested.setdefault(expected["alertname"], set()).add(bool(expected.get("exp_alerts")))
    alerts = [rule["alert"] for rule in rules() if "alert" in rule]
    assert len(alerts) == 9
    assert tested == {alert: {True, False} for alert in alerts}


def test_each_alert_says_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["annotations"]["summary"].endswith(".") and rule["annotations"]["description"].endswith(".")


# What shows them


@promtool
def test_prometheus_takes_the_configuration(tmp_path: Path) -> None:
    ray = tmp_path / 'a folder: with "marks" in its name'
    ray.mkdir()
    (ray / monitor.TARGETS).write_text('[{"labels": {"job": "ray"}, "targets": ["127.0.0.1:1"]}]')
    monitor.write_prometheus(monitor.Monitor(ray_folder=str(ray)), tmp_path, ROOT / "dashboards")
    said = run("promtool", "check", "config", str(tmp_path / "prometheus.yml"))
    assert f"{len(rules())} rules found" in said and "SUCCESS" in said


def test_grafana_is_given_prometheus_and_the_pages_and_nobody_may_change_them(tmp_path: Path) -> None:
    """Grafana itself is in no registry that tests reach: this is what its documentation asks for."""
    arguments = monitor.Monitor(ray_folder="/tmp/of-ray", prometheus_port=19090, grafana_port=13000)
    monitor.write_grafana(arguments, tmp_path, ROOT / "dashboards")
    [source] = yaml.safe_load((tmp_path / "provisioning/datasources/miseg.yaml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://127.0.0.1:19090", True)
    providers = yaml.safe_load((tmp_path / "provisioning/dashboards/miseg.yaml").read_text())["providers"]
    assert [p["options"]["path"] for p in providers] == [
        str(ROOT / "dashboards/grafana"),
        "/tmp/of-ray/session_latest/metrics/grafana/dashboards",
    ]
    settings = monitor.grafana_settings(arguments, tmp_path, ROOT / "dashboards")
    assert settings["GF_SERVER_HTTP_ADDR"] == "127.0.0.1" and settings["GF_SERVER_HTTP_PORT"] == "13000"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    password = Path(settings["GF_SECURITY_ADMIN_PASSWORD__FILE"])
    assert password.stat().st_mode & 0o777 == 0o600 and len(password.read_text()) >= 32
    assert Path(settings["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
