"""Ray's pretend cloud, whose machines are processes here, with a head of the type that cluster.yaml has."""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE


class PretendCloud(FakeMultiNodeProvider):
    """Ray's own calls its head by a name that no configuration has, and its autoscaler then fails at every step."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._nodes[self._head_node_id]["tags"][TAG_RAY_USER_NODE_TYPE] = "head"
