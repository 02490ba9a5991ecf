"""cluster.yaml, as far as it can be checked without a cloud account: nothing here calls AWS or needs boto3."""

import copy
import importlib.util
import json
import re
import subprocess
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
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

FILE = Path(__file__).parent.parent / "cluster.yaml"
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
START, END = "# ---- set these ---", "# ---- nothing below needs a change ---"


@pytest.fixture
def raw() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture
def config(raw: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` works with: the file over Ray's defaults for AWS. No call leaves the machine up to here."""
    prepared = prepare_config(raw)
    validate_config(prepared)
    return prepared


def commands(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("initialization_commands", "head_setup_commands", "worker_setup_commands"):
        yield from ((key, command) for command in config[key])
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        yield from ((key, command) for command in config[key])


def ray_starts(config: dict[str, Any]) -> dict[str, str]:
    found = [(key, command) for key, command in commands(config) if "ray start" in command]
    assert len(found) == 2
    return dict(found)


def test_schema_and_ray_accept_the_file(raw: dict[str, Any], config: dict[str, Any]) -> None:
    jsonschema.validate(raw, SCHEMA)
    assert config["head_node_type"] in config["available_node_types"]


def rename(mapping: dict[str, Any], old: str, new: str) -> None:
    mapping[new] = mapping.pop(old)


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: rename(c, "idle_timeout_minutes", "idle_timeout_minute"),
        lambda c: rename(c["available_node_types"]["gpu_spot"], "min_workers", "min_worker"),
        lambda c: rename(c["provider"]["security_group"], "IpPermissions", "IpPermission"),
        lambda c: c["available_node_types"]["gpu_spot"].pop("resources"),
        lambda c: c.update(max_workers="8"),
        lambda c: c.update(cluster_name=5),
        lambda c: c.update(head_node_type="haed"),
    ],
)
def test_a_broken_copy_is_refused(raw: dict[str, Any], damage: Any) -> None:
    broken = copy.deepcopy(raw)
    damage(broken)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(prepare_config(broken))


def test_head_offers_nothing_to_train_on(config: dict[str, Any]) -> None:
    head = config["available_node_types"]["head"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert head["max_workers"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]  # reclaiming the head would end the cluster
    assert not re.match(r"(g|p|inf|trn|dl)\d", head["node_config"]["InstanceType"])
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(ray_starts(config)["head_start_ray_commands"].split())


def test_workers_are_spot_from_zero_with_an_on_demand_twin(config: dict[str, Any]) -> None:
    node_types = config["available_node_types"]
    assert set(node_types) == {"head", "gpu_spot", "gpu_on_demand"}
    spot, on_demand = node_types["gpu_spot"], node_types["gpu_on_demand"]
    assert spot["min_workers"] == on_demand["min_workers"] == 0
    assert spot["max_workers"] == on_demand["max_workers"] == config["max_workers"]
    assert spot["resources"] == on_demand["resources"]  # else the better fit wins, whatever the priority
    assert spot["resources"]["GPU"] >= 1
    assert spot["priority"] > on_demand["priority"]
    assert spot["node_config"].pop("InstanceMarketOptions")["MarketType"] == "spot"
    assert spot["node_config"] == on_demand["node_config"]


def test_idle_workers_go(config: dict[str, Any]) -> None:
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert 0 < config["available_node_types"]["gpu_on_demand"]["idle_timeout_s"] <= 60 * config["idle_timeout_minutes"]


def test_token_and_privacy_in_every_start_command(config: dict[str, Any]) -> None:
    for command in ray_starts(config).values():
        before = command[: command.index("ray start")]
        assert "RAY_AUTH_MODE=token" in before
        assert 'RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"' in before
        assert "RAY_USAGE_STATS_ENABLED=0" in before
        assert "MLFLOW_TRACKING_URI=" in before
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert config["file_mounts"]["~/.mlflow/credentials"] in (
        "~/.miseg/mlflow-login",
        str(Path("~/.miseg/mlflow-login").expanduser()),
    )


def test_nothing_listens_on_all_addresses(config: dict[str, Any]) -> None:
    assert "--dashboard-host=127.0.0.1" in ray_starts(config)["head_start_ray_commands"]
    assert not [command for _, command in commands(config) if "0.0.0.0" in command]
    (mlflow,) = [command for _, command in commands(config) if "mlflow server" in command]
    assert '--host "$address"' in mlflow
    assert "address=$(hostname -I" in mlflow


def test_only_ssh_is_open(config: dict[str, Any]) -> None:
    # Ray adds these to its own rules, which are: all traffic inside the group, and port 22.
    for rule in config["provider"]["security_group"]["IpPermissions"]:
        assert (rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) == (22, 22, "tcp")
    for node_type in config["available_node_types"].values():
        assert not {"SecurityGroupIds", "NetworkInterfaces"} & set(node_type["node_config"])  # would bypass that group


def test_what_a_user_sets_stands_in_the_block_at_the_top_and_nowhere_else() -> None:
    text = FILE.read_text()
    comments, rest = text.split(START)
    block, below = rest.split(END)
    assert all(not line or line.startswith("#") for line in comments.splitlines())  # the block is the first thing
    settings = yaml.safe_load(START + block)["metadata"]
    placeholders = {key for key, value in settings.items() if "SET-ME" in str(value)}
    assert placeholders == {"image", "key_name", "ssh_private_key", "bucket", "head_profile", "worker_profile"}
    assert "SET-ME" not in below

    # Below, each setting is a YAML alias: the parser meets the very node of the block again, not a copy of its text.
    parsed = yaml.compose(text, Loader=yaml.SafeLoader)
    references = _count_references(parsed)
    for key in settings:
        assert references[id(_child(_child(parsed, "metadata"), key))] > 1, f"{key} is set but not used"
    for value in settings.values():
        if isinstance(value, str):
            assert value not in below, f"{value} is written out below the block"


def _child(mapping: Any, name: str) -> Any:
    return next(value for key, value in mapping.value if key.value == name)


def _count_references(root: Any) -> dict[int, int]:
    seen: dict[int, int] = {}

    def walk(node: Any) -> None:
        seen[id(node)] = seen.get(id(node), 0) + 1
        if seen[id(node)] == 1 and not isinstance(node, yaml.ScalarNode):
            for item in node.value:
                for part in item if isinstance(item, tuple) else (item,):
                    walk(part)

    walk(root)
    return seen


def test_no_secrets_and_no_registry_addresses() -> None:
    text = FILE.read_text()
    secret = r"AKIA|BEGIN [A-Z ]*PRIVATE KEY|aws_secret|password = (?!\$\()"
    assert not re.search(secret + r"|https?://(?!\$|localhost)|index-url", text)


def test_commands_are_valid_bash_inside_rays_wrapping(config: dict[str, Any]) -> None:
    # command_runner.py puts each command into parentheses: a heredoc whose end is glued to ")" would swallow the rest.
    for _, command in commands(config):
        wrapped = f"source ~/.bashrc; export OMP_NUM_THREADS=1 && (export RAY_HEAD_IP=10.0.0.1; {command})"
        checked = subprocess.run(["bash", "-n", "-c", wrapped], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), command


# The fall-back from spot to on-demand, against Ray's own autoscaler v2 in this process, with a pretended EC2.


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
def cluster(raw: dict[str, Any], tmp_path: Path) -> Cluster:
    return Cluster(raw, tmp_path)


@pytest.fixture
def fallback(raw: dict[str, Any], tmp_path: Path) -> types.ModuleType:
    """~/miseg_fallback.py, as the head's setup command writes it."""
    (command,) = [command for command in raw["head_setup_commands"] if "miseg_fallback.py" in command]
    subprocess.run(["bash", "-c", f"({command})"], check=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    spec = importlib.util.spec_from_file_location("miseg_fallback", tmp_path / "miseg_fallback.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_fall_back_to_on_demand_and_back(cluster: Cluster, fallback: types.ModuleType) -> None:
    for _ in range(8):
        failed = cluster.step()
        fallback.rank(str(cluster.path), fallback.spot_refused(failed, time.time()))
    assert cluster.cloud.workers() == ["gpu_on_demand"]
    # A later look, when the refusal is old: spot is first again, and Ray still accepts the file it reads.
    fallback.rank(str(cluster.path), fallback.spot_refused(failed, time.time() + fallback.WINDOW_S + 1))
    rewritten = yaml.safe_load(cluster.path.read_text())
    validate_config(rewritten)
    node_types = rewritten["available_node_types"]
    assert node_types["gpu_spot"]["priority"] > node_types["gpu_on_demand"]["priority"]
