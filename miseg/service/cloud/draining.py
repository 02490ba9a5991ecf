"""The end of a cluster's workers, so that what trains there loses no step and none comes in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from miseg.service.cloud import autoscaling
from miseg.service.cluster import ray_internals

LATE_S = 20.0
"""Seconds left to a worker that comes once there may be none: the autoscaler had asked for it before. What trains there
began from a checkpoint a moment ago. Where Ray had reserved it for a training, but not started that, it would drain for
ever: Ray starts nothing on a node that drains, and gives up no reservation before the node is gone."""

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""File in which a pod finds its own namespace."""


def no_workers(path: Path) -> None:
    """Have the autoscaler start none."""
    with autoscaling.changing(path) as config:
        config["max_workers"] = 0
        for node_type in config["available_node_types"].values():
            node_type["min_workers"] = node_type["max_workers"] = 0


def no_pods(raycluster: str) -> None:
    """Have KubeRay start none; those that there are it leaves to the autoscaler, which ends them once they drained."""
    client = ray_internals.kuberay_node_provider.KubernetesHttpApiClient(NAMESPACE.read_text().strip())
    groups = client.get(f"rayclusters/{raycluster}")["spec"]["workerGroupSpecs"]
    limits = [(at, limit) for at in range(len(groups)) for limit in ("minReplicas", "maxReplicas")]
    if patch := [
        {"op": "replace", "path": f"/spec/workerGroupSpecs/{at}/{limit}", "value": 0}
        for at, limit in limits
        if groups[at][limit]
    ]:
        client.patch(f"rayclusters/{raycluster}", patch)


class Stop:
    """Ends the workers, so that what trains there loses no step.

    Args:
        address: Ray's control store, host:port.
        forbid: sees to it that no worker starts.
        notice: s between the notice and the end.
        settle: s between the notice and the word that none may start.
    """

    def __init__(self, address: str, forbid: Callable[[], None], notice: float, settle: float) -> None:
        self._address, self._forbid, self._notice, self._settle = address, forbid, notice, settle
        self._deadlines: dict[str, float] = {}
        self._forbidden = False

    def look(self, status: Any, spent: bool) -> None:
        """End the workers whose time is up; where all is spent, drain those that do not drain, and let none start.

        In this order, and with a pause: where there may be none, the autoscaler ends at once what it does not see
        draining, and it asks Ray which nodes drain before it reads its configuration. A worker that drains never works
        again, so its time is up when it said, even where there is more to spend by then.

        Raises:
            Exception: Ray is away; to be called again.
        """
        workers = {str(node.node_id): node for node in autoscaling.workers(status)}
        self._deadlines = {node_id: deadline for node_id, deadline in self._deadlines.items() if node_id in workers}
        for node_id, deadline in self._deadlines.items():
            if time.time() > deadline:
                self._end(node_id)
        if spent:
            self._drain({node_id: node for node_id, node in workers.items() if node_id not in self._deadlines})
            self._forbid()
        self._forbidden = spent

    def _drain(self, nodes: Mapping[str, Any]) -> None:
        notice = min(LATE_S, self._notice) if self._forbidden else self._notice
        any_begun = False
        for node_id, node in nodes.items():
            deadline = time.time() + notice
            if node.node_status != "DRAINING":
                autoscaling.drain(self._address, node_id, "the budget is spent", deadline)
                autoscaling.say(f"draining {node.ray_node_type_name} {node_id}, which has {notice:g} s")
                any_begun = True
            self._deadlines[node_id] = deadline
        if any_begun:
            time.sleep(self._settle)

    def _end(self, node_id: str) -> None:
        autoscaling.say(f"{node_id} has not left in time: ending it")
        ray_internals.GcsClient(address=self._address).drain_nodes([bytes.fromhex(node_id)])
