"""The budget guard's sums, what it says, and what it refuses. test_autoscaling.py sees it stop a real Ray's workers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray._private.state import GlobalState
from ray.core.generated.autoscaler_pb2 import ClusterConfig

from miseg.service.cloud import autoscaling, budget, draining
from miseg.service.cloud.budget import BudgetPlan, Ledger
from miseg.service.cloud.draining import Stop
from tests.support import ROOT
from tests.support.processes import free_ports, http

PLAN = BudgetPlan(100, {"head": 0.5, "gpu_spot": 1.0, "gpu_on_demand": 3.0}, "head")
HOUR = 3600.0


def written(folder: Path, **changed: Any) -> Path:
    """A configuration in JSON, as `ray up` writes it."""
    metadata = {"budget": 100, "prices": dict(PLAN.prices)} | changed
    types = {name: {"max_workers": 8, "min_workers": 0} for name in PLAN.prices}
    path = folder / "ray_bootstrap_config.yaml"
    path.write_text(json.dumps({"metadata": metadata, "head_node_type": "head", "available_node_types": types}))
    return path


def test_node_hours_are_counted_by_type_and_priced() -> None:
    ledger = Ledger()
    ledger.look({"head": 1}, now=1000.0)
    assert ledger.spent(PLAN) == 0
    ledger.look({"head": 1, "gpu_spot": 4}, now=1000.0 + HOUR)  # they came meanwhile: the more of both looks
    ledger.look({"head": 1}, now=1000.0 + 1.5 * HOUR)
    assert ledger.hours == {"head": 1.5, "gpu_spot": 6.0}
    assert ledger.spent(PLAN) == 1.5 * 0.5 + 6.0
    assert ledger.spent(BudgetPlan(100, {"head": 1.0, "gpu_spot": 2.0}, "head")) == 13.5, (
        "prices may be corrected later"
    )


def test_a_type_without_a_price_counts_as_the_dearest() -> None:
    ledger = Ledger(hours={"node_by_hand": 2.0})
    assert ledger.spent(PLAN) == 6.0


def test_the_sum_survives_a_restart_and_what_ran_meanwhile_counts(tmp_path: Path) -> None:
    kept = tmp_path / "budget.json"
    ledger = Ledger.load(kept)
    ledger.look({"head": 1, "gpu_on_demand": 2}, now=1000.0)
    ledger.save(kept)
    again = Ledger.load(kept)
    assert again == ledger
    again.look({"head": 1}, now=1000.0 + HOUR)
    assert again.spent(PLAN) == 0.5 + 6.0
    again.save(kept)
    stopped = Ledger.load(kept)
    # `ray down`, and `ray up` a week later: the head was off.
    week = 1000.0 + HOUR + 7 * 24 * HOUR
    stopped.look({"head": 1}, now=week, booted=week - 60)
    assert stopped.spent(PLAN) == pytest.approx(6.5 + 0.5 / 60)


def test_a_clock_that_is_put_back_takes_nothing_away() -> None:
    ledger = Ledger(hours={"head": 1.0}, nodes={"head": 1}, looked=5000.0)
    ledger.look({"head": 1}, now=4000.0)
    assert ledger.hours == {"head": 1.0}


def test_a_damaged_file_is_refused_and_stays(tmp_path: Path) -> None:
    kept = tmp_path / "budget.json"
    for damage in ('{"hours": {"he', "[]", '{"hours": {}, "other": 1}'):
        kept.write_text(damage)
        with pytest.raises(ValueError, match=r"budget\.json is damaged .* move it away to begin at 0"):
            Ledger.load(kept)
        assert kept.read_text() == damage


def test_it_warns_at_four_fifths_and_stops_at_the_whole_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(hours={"gpu_spot": 79.9})
    told = []
    for hours in (79.9, 80.0, 90.0, 100.0, 101.0):
        ledger.hours["gpu_spot"] = hours
        budget._tell(ledger, PLAN)
        told.append((ledger.state, capsys.readouterr().out))
    assert [state for state, _ in told] == ["within", "warned", "warned", "stopped", "stopped"]
    assert "WARNING: the budget is nearly spent: 80.00 of 100 (80%)" in told[1][1]
    assert "STOPPED: 100.00 of 100 (100%)" in told[3][1]
    assert [text for _, text in told][0::2] == ["", "", ""]
    budget._tell(ledger, BudgetPlan(200, PLAN.prices, "head"))
    assert ledger.state == "within"


class Workers:
    """Workers that a guard sees, and what it did to them, with a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.drained, self.ended, self.forbidden = 1000.0, {}, [], 0
        monkeypatch.setattr(draining.time, "time", lambda: self.now)
        monkeypatch.setattr(draining.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(autoscaling, "drain", self._drain)
        self.stop = Stop("ray:6379", self._forbid, notice=300.0, settle=2.0)
        monkeypatch.setattr(self.stop, "_end", self.ended.append)

    def _drain(self, address: str, node_id: str, reason: str, deadline: float) -> None:
        self.drained[node_id] = deadline - self.now

    def _forbid(self) -> None:
        self.forbidden += 1

    def look(self, *node_ids: str, spent: bool = True) -> None:
        """A look at these."""
        nodes = [
            SimpleNamespace(
                node_id=node_id,
                node_status="DRAINING" if node_id in self.drained else "RUNNING",
                ray_node_type_name="gpu_spot",
                total_resources=dict,
            )
            for node_id in node_ids
        ]
        self.stop.look(SimpleNamespace(active_nodes=nodes, idle_nodes=[]), spent)


def test_workers_have_their_notice_and_those_that_come_late_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(monkeypatch)
    workers.look("a", "b", spent=False)
    assert not workers.drained and not workers.forbidden
    workers.look("a", "b")
    assert workers.drained == {"a": 300, "b": 300} and workers.forbidden == 1
    workers.now += 5
    workers.look("b", "late")
    assert workers.drained["late"] == draining.LATE_S
    workers.now += draining.LATE_S + 1
    workers.look("b", "late")
    assert workers.ended == ["late"], "Ray may have reserved it for a training that never starts there"
    workers.now += 300
    workers.look("b")
    assert workers.ended == ["late", "b"]


def test_a_worker_that_drains_ends_though_there_is_more_to_spend_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(monkeypatch)
    workers.look("a")
    workers.look("a", "late")
    workers.now += draining.LATE_S + 1
    workers.look("a", "late", "fresh", spent=False)
    assert workers.ended == ["late"] and "fresh" not in workers.drained
    # The next time those that run then have the whole notice again.
    workers.look("fresh")
    assert workers.drained["fresh"] == 300


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"budget": "SET-ME"}, "metadata.budget = 'SET-ME': give an amount of 0 or more, such as 500"),
        ({"budget": None}, "metadata.budget = None"),
        ({"budget": -1}, "metadata.budget = -1"),
        ({"budget": ".nan"}, "metadata.budget = '.nan'"),
        ({"prices": 3}, "metadata.prices = 3: give a price an hour for each node type"),
        ({"prices": {"head": 1, "gpu_spot": 1}}, "metadata.prices has none for the node type gpu_on_demand"),
        ({"prices": dict(PLAN.prices) | {"gpu_spot": "dear"}}, "metadata.prices.gpu_spot = 'dear': give an amount"),
        ({"prices": dict(PLAN.prices) | {"head": True}}, "metadata.prices.head = True"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_told_with_its_file(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    path = written(tmp_path, **changed)
    with pytest.raises(ValueError) as refused:
        budget.read_plan(path)
    assert str(refused.value).startswith(f"{path}: {told}")


def test_no_limit_survives_the_json_of_ray_up(tmp_path: Path) -> None:
    assert budget.read_plan(written(tmp_path, budget=math.inf)).budget == math.inf
    path = written(tmp_path, budget=math.inf)
    with autoscaling.changing(path) as config:  # which writes YAML
        config["max_workers"] = 3
    assert budget.read_plan(path).budget == math.inf and autoscaling.read(path)["max_workers"] == 3


def test_the_check_ends_ray_up_where_nothing_was_set(tmp_path: Path) -> None:
    """As cluster.yaml runs it before Ray starts, on the file's own placeholders."""
    raw = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    path = tmp_path / "ray_bootstrap_config.yaml"
    command = [sys.executable, "-m", "miseg.service.cloud.budget", "localhost:6379", "--check", "--config", str(path)]
    command += ["--ledger", str(tmp_path / "budget.json")]
    for metadata, status in ((raw["metadata"], 2), (raw["metadata"] | {"budget": 5, "prices": dict(PLAN.prices)}, 0)):
        path.write_text(json.dumps(raw | {"metadata": metadata}))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        assert done.stderr == ("" if status == 0 else f"error: {path}: metadata.budget = 'SET-ME': give an amount of 0 "
                               "or more, such as 500; .inf for no limit\n")  # fmt: skip
    assert not (tmp_path / "budget.json").exists()


def test_prometheus_finds_the_metrics_on_the_loopback(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    exported = budget.Exported("127.0.0.1", port, tmp_path / "targets")
    exported.put(Ledger(hours={"head": 2.0, "gpu_spot": 79.0}), PLAN)
    [target] = json.loads((tmp_path / "targets" / "budget.json").read_text())
    assert target == {"targets": [f"127.0.0.1:{port}"], "labels": {"job": "budget"}}
    status, body = http(f"http://{target['targets'][0]}/metrics")
    assert status == 200
    lines = [line for line in body.splitlines() if line.startswith("miseg_")]
    assert lines == [
        "miseg_budget_spent 80.0",
        "miseg_budget_limit 100.0",
        "miseg_budget_used_ratio 0.8",
        'miseg_budget_node_hours{NodeType="head"} 2.0',
        'miseg_budget_node_hours{NodeType="gpu_spot"} 79.0',
    ]


@pytest.mark.parametrize(
    ("head", "limit", "expected"),
    [
        ({"CPU": 0}, 8, {"CPU": 64, "GPU": 8}),
        ({"CPU": 2}, 8, {"CPU": 66, "GPU": 8}),
        ({"CPU": 2}, 0, {"CPU": 2, "GPU": 0}),
    ],
)
def test_ray_is_told_how_far_the_cluster_may_grow(monkeypatch, head, limit, expected):
    """Spot and on-demand workers together, and the head; as Ray Train asks for it."""
    kept: list[bytes] = []

    class Kept:
        def __init__(self, address: str) -> None:
            pass

        def internal_kv_put(self, key: bytes, value: bytes, *_: object) -> None:
            kept.append(value)

    monkeypatch.setattr("ray._raylet.GcsClient", Kept)
    worker = {"resources": {"CPU": 8, "GPU": 1}, "max_workers": limit}
    types = {"head": {"resources": head, "max_workers": 0}, "gpu_spot": worker, "gpu_on_demand": worker}
    autoscaling.announce("", {"available_node_types": types, "head_node_type": "head", "max_workers": limit})
    state = GlobalState()
    monkeypatch.setattr(state, "get_cluster_config", lambda: ClusterConfig.FromString(kept[0]))
    assert state.get_max_resources_from_cluster_config() == expected
