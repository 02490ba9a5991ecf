"""The fall-back from spot to on-demand, against Ray's own autoscaler v2 in this process, with a pretended EC2."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_LAUNCH_REQUEST, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig, FileConfigReader
from ray.autoscaler.v2.instance_manager.instance_manager import InstanceManager
from ray.autoscaler.v2.instance_manager.instance_storage import InstanceStorage
from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter
from ray.autoscaler.v2.instance_manager.reconciler import Reconciler
from ray.autoscaler.v2.instance_manager.storage import InMemoryStorage
from ray.autoscaler.v2.instance_manager.subscribers.cloud_instance_updater import CloudInstanceUpdater
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler
from ray.autoscaler.v2.schema import Stats
from ray.autoscaler.v2.utils import ClusterStatusParser
from ray.core.generated.autoscaler_pb2 import (
    ClusterResourceState,
    GetClusterStatusReply,
    NodeState,
    NodeStatus,
    ResourceRequestByCount,
)

from miseg.service.cloud import fallback
from tests.support import ROOT

FILE = ROOT / "cluster.yaml"


class PretendedCloud:
    """Grants on-demand and, as long as `spot_refused` is set, refuses spot as EC2 does."""

    def __init__(self) -> None:
        self.nodes = {"i-head": {TAG_RAY_NODE_KIND: "head", TAG_RAY_USER_NODE_TYPE: "head"}}
        self.spot_refused = True
        self.requests: list[str] = []

    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> None:
        self.requests.append(tags[TAG_RAY_USER_NODE_TYPE])
        if "InstanceMarketOptions" in node_config and self.spot_refused:
            raise NodeLaunchException("InsufficientInstanceCapacity", "no spot capacity", None)
        for _ in range(count):
            self.nodes[f"i-{len(self.nodes)}"] = tags

    def non_terminated_nodes(self, tag_filters: Any) -> list[str]:
        return list(self.nodes)

    def node_tags(self, node_id: str) -> dict[str, str]:
        return {TAG_RAY_LAUNCH_REQUEST: "", **self.nodes[node_id]}

    def is_running(self, node_id: str) -> bool:
        return True

    def workers(self) -> list[str]:
        return [tags[TAG_RAY_USER_NODE_TYPE] for name, tags in self.nodes.items() if name != "i-head"]


class Cluster:
    """One waiting task that wants a GPU, and the autoscaler's steps."""

    def __init__(self, raw: dict[str, Any], folder: Path) -> None:
        (folder / "key.pem").write_text("no key: Ray only hashes this file")
        raw["auth"]["ssh_private_key"] = str(folder / "key.pem")
        # On the head the key is a copy and updates run over SSH: neither exists here.
        raw["provider"]["disable_node_updaters"] = True
        self.path = folder / "ray_bootstrap_config.yaml"
        self.path.write_text(json.dumps(prepare_config(raw)))
        self.cloud = PretendedCloud()
        self.reader = FileConfigReader(str(self.path))
        self.adapter = NodeProviderAdapter(self.cloud, self.reader)
        self.monitor = CloudResourceMonitor()
        self.instances = InstanceManager(
            InstanceStorage("cluster", InMemoryStorage()), [CloudInstanceUpdater(self.adapter), self.monitor]
        )
        self.version = 0

    def step(self) -> list[Any]:
        """One update of the autoscaler; returns the failed launches as `get_cluster_status` gives them."""
        self.version += 1
        head = NodeState(
            node_id=b"head",
            instance_id="i-head",
            ray_node_type_name="head",
            total_resources={"node:__internal_head__": 1},
            available_resources={"node:__internal_head__": 1},
            status=NodeStatus.RUNNING,
        )
        wanted = ResourceRequestByCount(count=1)
        wanted.request.resources_bundle["GPU"] = 1
        state = ClusterResourceState(
            cluster_resource_state_version=self.version, node_states=[head], pending_resource_requests=[wanted]
        )
        self.reader.refresh_cached_autoscaling_config()
        config: AutoscalingConfig = self.reader.get_cached_autoscaling_config()
        reply = Reconciler.reconcile(
            instance_manager=self.instances,
            scheduler=ResourceDemandScheduler(None),
            cloud_provider=self.adapter,
            cloud_resource_monitor=self.monitor,
            ray_cluster_resource_state=state,
            non_terminated_cloud_instances=self.adapter.get_non_terminated(),
            cloud_provider_errors=self.adapter.poll_errors(),
            autoscaling_config=config,
        )
        asked = len(self.cloud.requests)
        deadline = time.monotonic() + 0.3  # launches run in the adapter's threads
        while len(self.cloud.requests) == asked and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.02)
        status = GetClusterStatusReply(autoscaling_state=reply, cluster_resource_state=state)
        return ClusterStatusParser.from_get_cluster_status_reply(status, Stats()).failed_launches


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(yaml.safe_load(FILE.read_text()), tmp_path)


def test_spot_is_taken_first(cluster: Cluster) -> None:
    cluster.cloud.spot_refused = False
    for _ in range(3):
        cluster.step()
    assert cluster.cloud.workers() == ["gpu_spot"]


def test_ray_alone_asks_for_refused_spot_for_ever(cluster: Cluster) -> None:
    """The reason for the fall-back script. Should this fail with a newer Ray: the script may no longer be needed."""
    for _ in range(8):
        cluster.step()
    assert len(cluster.cloud.requests) >= 3
    assert set(cluster.cloud.requests) == {"gpu_spot"}
    assert cluster.cloud.workers() == []


def test_fall_back_to_on_demand_and_back(cluster: Cluster) -> None:
    for _ in range(8):
        failed = cluster.step()
        fallback.rank(cluster.path, fallback.spot_refused(failed, time.time()))
    assert cluster.cloud.workers() == ["gpu_on_demand"]
    # A later look, when the refusal is old: spot is first again, and Ray still accepts the file it reads.
    fallback.rank(cluster.path, fallback.spot_refused(failed, time.time() + fallback.WINDOW_S + 1))
    rewritten = yaml.safe_load(cluster.path.read_text())
    validate_config(rewritten)
    node_types = rewritten["available_node_types"]
    assert node_types["gpu_spot"]["priority"] > node_types["gpu_on_demand"]["priority"]
