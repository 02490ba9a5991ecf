"""Access of the watchers on a cluster's head to Ray's autoscaler: its status and its configuration.

The autoscaler reads its configuration again at every step (5 s), so a change is an edit of the file.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from miseg.files import replacing
from miseg.locks import locked
from miseg.service.cluster import ray_internals

if TYPE_CHECKING:
    from ray.autoscaler.v2.schema import ClusterStatus, NodeInfo

CONFIG = "~/ray_bootstrap_config.yaml"
"""Path of the configuration that `ray up` puts on the head."""

HEAD = "node:__internal_head__"
"""A resource that the head alone has."""


def status(address: str) -> ClusterStatus:
    """Status of the nodes by the autoscaler of the Ray at `address` (host:port).

    Raises:
        Exception: Ray is away, or has no autoscaler; its errors have no common class.
    """
    # Only on a cluster that scales.
    from ray.autoscaler.v2.sdk import get_cluster_status

    return get_cluster_status(address)


def workers(status: ClusterStatus) -> list[NodeInfo]:
    """The nodes that run Ray, those that drain too, without the head."""
    return [node for node in (*status.active_nodes, *status.idle_nodes) if HEAD not in node.total_resources()]


@contextlib.contextmanager
def changing(path: Path) -> Iterator[dict[str, Any]]:
    """The configuration, to be changed in the block; written in one step, for the autoscaler may be reading it.

    One process at a time changes it; `ray up`, which knows of no lock, puts its own in place of whatever is there.
    """
    with locked(Path(f"{path}.lock")):
        before = read(path)
        config = copy.deepcopy(before)
        yield config
        if config != before:
            with replacing(path, durable=True) as new:
                new.write_text(yaml.safe_dump(config))
                new.chmod(path.stat().st_mode)


def read(path: Path) -> dict[str, Any]:
    """The configuration.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("available_node_types"), dict):
        raise ValueError(f"{path} has no available_node_types: give Ray's autoscaling configuration")
    return config


def announce(address: str, config: dict[str, Any]) -> None:
    """Tell Ray's control store how far the cluster may grow, which Ray 2.60's autoscaler does not.

    Without this a job that comes while there is no worker takes the cluster for one without CPUs and GPUs
    (`miseg.service.cluster.ray_cluster.resources`); Ray Train and Ray Data ask, too.

    Args:
        address: of Ray's control store, host:port.
        config: the autoscaler's configuration.

    Raises:
        Exception: Ray is away.
    """
    cluster_config, types = ray_internals.ClusterConfig(), dict(config["available_node_types"])
    head = types.pop(config.get("head_node_type"), {}).get("resources", {})
    for name, node_type in types.items():
        group = cluster_config.node_group_configs.add(name=name, max_count=node_type.get("max_workers", 0))
        for kind, amount in node_type.get("resources", {}).items():
            group.resources[kind] = int(amount)
            if "max_workers" in config:
                limit = int(amount) * config["max_workers"] + int(head.get(kind, 0))
                cluster_config.max_resources[kind] = max(cluster_config.max_resources.get(kind, 0), limit)
    group = cluster_config.node_group_configs.add(name="head", max_count=1)
    for kind, amount in head.items():
        group.resources[kind] = int(amount)
    ray_internals.GcsClient(address=address).internal_kv_put(
        ray_internals.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY.encode(),
        cluster_config.SerializeToString(),
        True,
        ray_internals.GCS_AUTOSCALER_STATE_NAMESPACE.encode(),
    )


def drain(address: str, node_id: str, reason: str, deadline: float) -> None:
    """Tell Ray that a node is taken away: it starts nothing there any more, and trainings there keep a checkpoint.

    Args:
        address: of Ray's control store, host:port.
        node_id: Ray's, in hexadecimal.
        reason: for the logs.
        deadline: when it is gone (s since 1970).

    Raises:
        RuntimeError: Ray refuses.
    """
    accepted, why = ray_internals.GcsClient(address=address).drain_node(
        node_id, ray_internals.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, reason, int(1000 * deadline)
    )
    if not accepted:
        raise RuntimeError(f"Ray does not drain node {node_id}: {why}")


def say(text: str) -> None:
    """A line of a watcher's log."""
    print(f"{time.strftime('%F %T')} {text}", flush=True)
