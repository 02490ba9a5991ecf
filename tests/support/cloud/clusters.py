"""A cluster as an operator starts it, and an MLflow server: on this machine, on free ports, gone with `Processes`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import Processes, free_ports

OBJECT_STORE = 300_000_000
"""Bytes of each node's object store."""


@dataclass(frozen=True)
class Head:
    """Ray's head, with the dashboard."""

    process: subprocess.Popen
    address: str
    """Where nodes join."""
    dashboard: str
    """Where jobs are submitted."""


def start_head(
    started: Processes,
    environment: Mapping[str, str],
    cpus: int,
    node_types: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Head:
    """Start `ray start --head`; it answers some seconds later.

    With `node_types`, the first of which is the head's own, an autoscaler with a pretend cloud counts nodes by them;
    nothing that a job of miseg asks for starts one. With `config`, in the form of cluster.yaml, it starts what that
    says, as processes on this machine (`pretend_cloud`, so `environment` has the checkout on PYTHONPATH); the file is
    `autoscaling.json` in the folder of `started`.
    """
    gcs, dashboard, client = free_ports(3)
    options = ["--head", "--port", str(gcs), "--temp-dir", str(started.folder / "ray")]
    options += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)]
    options += ["--ray-client-server-port", str(client)]
    if node_types or config:
        found = config or _counted(node_types, cpus)
        provider = "tests.support.cloud.pretend_cloud.PretendCloud" if config else _OF_RAY
        path = _pretend_cloud(started, f"127.0.0.1:{gcs}", found, provider)
        options += ["--autoscaling-config", str(path)]
        environment = dict(environment) | _OF_PRETEND_CLOUDS | {"AUTOSCALER_METRIC_PORT": str(free_ports(1)[0])}
    process = started.start("head", [*_ray_start(cpus), *options], environment, started.folder)
    return Head(process, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}")


_OF_RAY = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_HEAD_ID = 51 * "f" + 5 * "0"
_OF_PRETEND_CLOUDS = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
}


def _counted(node_types: Sequence[str], cpus: int) -> dict[str, Any]:
    head, *workers = node_types
    kinds: dict[str, Any] = {head: {"resources": {"CPU": cpus}, "max_workers": 0}}
    for name in workers:
        kinds[name] = {"resources": {f"of-{name}": 1}, "max_workers": 1}
    metadata = {"budget": 1000, "prices": dict.fromkeys(node_types, 1)}
    kept = {"available_node_types": kinds, "head_node_type": head, "max_workers": len(workers)}
    return kept | {"metadata": metadata}


def _pretend_cloud(started: Processes, address: str, asked: Mapping[str, Any], module: str) -> Path:
    provider = {
        "type": "external",
        "module": module,
        "gcs_address": address,
        "head_node_id": _HEAD_ID,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    path = started.folder / "autoscaling.json"
    # What Ray has no defaults for where the cloud is none of its own.
    config: dict[str, Any] = {"upscaling_speed": 1, "idle_timeout_minutes": 1, **asked}
    config |= {"cluster_name": "pretend", "provider": provider, "auth": {}, "docker": {}}
    config |= {"file_mounts": {}, "cluster_synced_files": []}
    for node_type in config["available_node_types"].values():
        node_type |= {"min_workers": 0, "node_config": {}}
    for command in ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray"):
        config[f"{command}_commands"] = []
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def start_node(
    started: Processes, name: str, address: str, environment: Mapping[str, str], cpus: int
) -> subprocess.Popen:  # fmt: skip
    """Start `ray start --address` under `name`: a further node of the cluster at `address`, on the same machine."""
    # In a folder that it shared with the head, either would remove the other's copies of what jobs were submitted with.
    command = [*_ray_start(cpus), "--address", address, "--temp-dir", str(started.folder / name)]
    return started.start(name, command, environment, started.folder)


def _ray_start(cpus: int) -> list[str]:
    # Not one port that Ray would choose by itself, and no fixed range for workers: another Ray may be running here.
    agent, agent_grpc, runtime_env, metrics = free_ports(4)
    command = ["ray", "start", "--block", "--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus)]
    command += ["--num-gpus", "0", "--object-store-memory", str(OBJECT_STORE)]
    command += ["--dashboard-agent-listen-port", str(agent), "--dashboard-agent-grpc-port", str(agent_grpc)]
    command += ["--runtime-env-agent-port", str(runtime_env), "--metrics-export-port", str(metrics)]
    return [*command, "--min-worker-port", "0", "--max-worker-port", "0"]


def start_mlflow(started: Processes) -> tuple[subprocess.Popen, str]:
    """Start an MLflow server with a store of its own; the process, and its address."""
    [port] = free_ports(1)
    store = started.folder / "mlflow"
    store.mkdir()
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{store}/mlflow.db", "--artifacts-destination", str(store / "files")]
    # Its background jobs serve MLflow's own language model features: four processes that nothing here needs.
    quiet = started.environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    return started.start("mlflow", command, quiet, store), f"http://127.0.0.1:{port}"
