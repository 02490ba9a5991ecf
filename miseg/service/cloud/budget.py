"""Adds up what the cluster's nodes cost by the hour, and ends its workers once that reaches the budget.

python -m miseg.service.cloud.budget 10.0.0.1:6379

It also tells Ray how far the cluster may grow (`autoscaling.announce`).

It reads `budget` and `prices` from `metadata` of the autoscaler's configuration, at every look. At 80 % it warns. At
100 % no worker starts any more and those that run are drained: trainings keep a checkpoint of their current step
(`miseg.service.cluster.preemption`), leave, and wait; the head stays. With a larger budget (`ray up --no-restart`)
they go on.

It counts what the autoscaler knows of, by the prices it is told: disks, traffic and storage come on top, and the
cloud's bill is what counts. What it has counted lies in a file, so that it goes on where it was after a restart.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import psutil
import tyro

from miseg.files import replacing
from miseg.json_values import parse
from miseg.service.cloud import autoscaling, draining
from miseg.service.records import read_record

WARNING = 0.8
"""Share of the budget from which on it warns."""

WITHIN, WARNED, STOPPED = "within", "warned", "stopped"


@dataclass
class Guard:
    """Watch what the cluster costs."""

    address: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="HOST:PORT")]
    """Ray's control store, host:port."""
    config: str = autoscaling.CONFIG
    """The autoscaler's configuration: its `metadata` has the budget, in the currency of the prices, and `prices` an
    hour by node type, the head's too."""
    ledger: str = "~/.miseg/budget.json"
    """File with the hours counted so far; without it they begin at 0."""
    targets: str = "~/.miseg/monitor/targets"
    """Folder in which Prometheus finds where to look: that of `miseg monitor`."""
    host: str = "127.0.0.1"
    """Address of the metrics."""
    port: int = 44230
    """Port of the metrics."""
    raycluster: str | None = None
    """On Kubernetes, the name of the RayCluster whose workers it ends; it is in the pod's own namespace."""
    every: float = 10.0
    """Seconds between two looks."""
    notice: float = 300.0
    """Seconds that trainings have to keep a checkpoint and to leave; what still runs on a worker then ends with it."""
    settle: float = 2.0
    """Seconds between the draining of workers and the word that there may be none: more than the autoscaler takes
    between its looks at both. A training that leaves sooner may get another worker, which then drains too."""
    check: bool = False
    """Only look whether budget and prices can be read."""


@dataclass(frozen=True)
class BudgetPlan:
    """Budget and prices of nodes an hour."""

    budget: float
    prices: Mapping[str, float]
    head: str
    """The head's node type."""

    def price(self, node_type: str) -> float:
        """An hour of a node; of a type that is not in the configuration, as of the dearest."""
        return self.prices.get(node_type, max(self.prices.values()))


def read_plan(path: Path) -> BudgetPlan:
    """Budget and prices from the autoscaler's configuration.

    Raises:
        OSError, ValueError: they are not there, or are no amounts.
    """
    config = autoscaling.read(path)
    metadata = config.get("metadata") or {}
    budget = _amount(path, "budget", metadata.get("budget"), "such as 500; .inf for no limit")
    prices = metadata.get("prices")
    if not isinstance(prices, dict):
        raise ValueError(f"{path}: metadata.prices = {prices!r}: give a price an hour for each node type")
    types = config["available_node_types"]
    for name in types:
        if name not in prices:
            raise ValueError(f"{path}: metadata.prices has none for the node type {name}")
    amounts = {
        name: _amount(path, f"prices.{name}", price, "from your cloud's price list") for name, price in prices.items()
    }
    return BudgetPlan(budget, amounts, config.get("head_node_type", "head"))


def _amount(path: Path, name: str, value: Any, example: str) -> float:
    # `ray up` writes JSON, where .inf is a word.
    amount = math.nan
    with contextlib.suppress(TypeError, ValueError):
        amount = float(value)
    if not amount >= 0 or isinstance(value, bool):
        raise ValueError(f"{path}: metadata.{name} = {value!r}: give an amount of 0 or more, {example}")
    return amount


@dataclass
class Ledger:
    """Hours of nodes that were counted."""

    hours: dict[str, float] = field(default_factory=dict)
    """By node type."""
    nodes: dict[str, int] = field(default_factory=dict)
    """By node type, at the last look."""
    looked: float = 0.0
    """Time of the last look (s since 1970); 0: never."""
    state: str = WITHIN

    @classmethod
    def load(cls, path: Path) -> Ledger:
        """The ledger that `save` kept; an empty one where there is none.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            content = path.read_bytes()
            cls(**parse(content))  # of another version, a field that is not known
            return read_record(cls, content)
        except FileNotFoundError:
            return cls()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): mend it, or move it away to begin at 0") from error

    def save(self, path: Path) -> None:
        """Keep it, whole or not at all."""
        with replacing(path, durable=True) as new:
            new.write_text(json.dumps(asdict(self), indent=1))

    def look(self, nodes: Mapping[str, int], now: float, booted: float = 0.0) -> None:
        """Count the time since the last look, each type with the more nodes of the two looks.

        Args:
            nodes: that there are now, by type.
            now: s since 1970.
            booted: when this machine started: before, the head did not run, and nothing is counted.
        """
        if self.looked:
            elapsed = max(0.0, now - max(self.looked, booted)) / 3600
            for name in {*nodes, *self.nodes}:
                count = max(nodes.get(name, 0), self.nodes.get(name, 0))
                self.hours[name] = self.hours.get(name, 0.0) + count * elapsed
        self.nodes, self.looked = dict(nodes), now

    def spent(self, plan: BudgetPlan) -> float:
        """Cost of the hours so far, by the prices of now."""
        return sum(hours * plan.price(name) for name, hours in self.hours.items())


def nodes_by_type(status: Any, head: str) -> Counter[str]:
    """Nodes that cost: those that run Ray, those that the cloud has granted, and the head."""
    nodes = [*autoscaling.workers(status), *status.pending_nodes]
    return Counter({head: 1}) + Counter(node.ray_node_type_name for node in nodes)


class Exported:
    """The metrics, for Prometheus.

    They do not go by way of Ray, whose driver would have to be started again with each Ray.
    """

    def __init__(self, host: str, port: int, targets: Path) -> None:
        # Only where the guard runs.
        from prometheus_client import CollectorRegistry, Gauge, start_http_server

        registry = CollectorRegistry()
        self._spent = Gauge("miseg_budget_spent", "What the nodes have cost, by the prices given.", registry=registry)
        self._limit = Gauge("miseg_budget_limit", "The budget.", registry=registry)
        self._used = Gauge("miseg_budget_used_ratio", "Share of the budget that is spent.", registry=registry)
        self._hours = Gauge("miseg_budget_node_hours", "Hours of nodes.", ["NodeType"], registry=registry)
        start_http_server(port, addr=host, registry=registry)
        targets.mkdir(parents=True, exist_ok=True)
        scrape_targets = [{"targets": [f"{host}:{port}"], "labels": {"job": "budget"}}]
        with replacing(targets / "budget.json") as new:  # Prometheus may be reading it
            new.write_text(json.dumps(scrape_targets))

    def put(self, ledger: Ledger, plan: BudgetPlan) -> None:
        """Export the current figures."""
        spent = ledger.spent(plan)
        self._spent.set(spent)
        self._limit.set(plan.budget)
        self._used.set(_used(spent, plan.budget))
        for name, hours in ledger.hours.items():
            self._hours.labels(name).set(hours)


def _used(spent: float, budget: float) -> float:
    return spent / budget if budget else math.inf


def main(guard: Guard) -> None:
    """Watch for ever; with `check`, status 2 and a line where budget or prices cannot be read."""
    path, ledger_path = Path(guard.config).expanduser(), Path(guard.ledger).expanduser()
    try:
        read_plan(path)
        ledger = Ledger.load(ledger_path)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if guard.check:
        return
    ledger_path.parent.mkdir(parents=True, exist_ok=True)
    exported = Exported(guard.host, guard.port, Path(guard.targets).expanduser())
    forbid = partial(draining.no_workers, path)
    if guard.raycluster is not None:
        forbid = partial(draining.no_pods, guard.raycluster)
    stop = draining.Stop(guard.address, forbid, guard.notice, guard.settle)
    failed = ""
    while True:
        try:
            plan, status = read_plan(path), autoscaling.status(guard.address)
            ledger.look(nodes_by_type(status, plan.head), time.time(), psutil.boot_time())
            autoscaling.announce(guard.address, autoscaling.read(path))
            _tell(ledger, plan)
            ledger.save(ledger_path)
            exported.put(ledger, plan)
            stop.look(status, ledger.state == STOPPED)
            failed = ""
        except Exception as error:  # Ray restarts, or `ray up` is writing the file: look again in a moment
            if repr(error) != failed:  # one line, not one for each look
                failed = repr(error)
                autoscaling.say(f"no look: {failed}")
        time.sleep(guard.every)


def _tell(ledger: Ledger, plan: BudgetPlan) -> None:
    """Set the ledger's state, and say so where it is another."""
    spent = ledger.spent(plan)
    used = _used(spent, plan.budget)
    state = STOPPED if used >= 1 else WARNED if used >= WARNING else WITHIN
    if state != ledger.state:
        ledger.state = state
        label = {WITHIN: "within the budget", WARNED: "WARNING: the budget is nearly spent", STOPPED: "STOPPED"}[state]
        autoscaling.say(f"{label}: {spent:.2f} of {plan.budget:g} ({used:.0%})")


if __name__ == "__main__":
    main(tyro.cli(Guard, description=__doc__))
