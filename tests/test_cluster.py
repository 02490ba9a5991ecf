"""cluster.yaml and cluster/, as far as they can be checked without a cloud account: nothing here calls a cloud."""

import copy
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.support import ROOT

FILES = {"aws": ROOT / "cluster.yaml", "gcp": ROOT / "cluster/gcp.yaml"}
SHELL = {path.name: path for path in sorted((ROOT / "cluster").glob("*.sh"))}
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
START, END = "# ---- set these ---", "# ---- nothing below needs a change ---"
GUARDED = {"budget", "prices"}
"""What of the block at the top the budget guard reads, and nothing below it."""
PLACEHOLDERS = {
    "aws": {"image", "key_name", "ssh_private_key", "bucket", "head_profile", "worker_profile", *GUARDED},
    "gcp": {"project", "image", "subnet", "bucket", "head_account", "worker_account", *GUARDED},
}


@pytest.fixture(params=FILES)
def cloud(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def raw(cloud: str) -> dict[str, Any]:
    return yaml.safe_load(FILES[cloud].read_text())


@pytest.fixture
def config(raw: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` works with: the file over Ray's defaults for the cloud. No call leaves the machine up to here."""
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


# What Ray is told


def test_schema_and_ray_accept_the_file(raw: dict[str, Any], config: dict[str, Any]) -> None:
    jsonschema.validate(raw, SCHEMA)
    assert config["head_node_type"] in config["available_node_types"]
    assert config["metadata"] == raw["metadata"], "the budget guard reads it from what Ray hands on"


def rename(mapping: dict[str, Any], old: str, new: str) -> None:
    mapping[new] = mapping.pop(old)


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: rename(c, "idle_timeout_minutes", "idle_timeout_minute"),
        lambda c: rename(c["available_node_types"]["gpu_spot"], "min_workers", "min_worker"),
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


def test_head_offers_nothing_to_train_on(cloud: str, config: dict[str, Any]) -> None:
    head = config["available_node_types"]["head"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert head["max_workers"] == 0
    if cloud == "aws":  # reclaiming the head would end the cluster
        assert "InstanceMarketOptions" not in head["node_config"]
        assert not re.match(r"(g|p|inf|trn|dl)\d", head["node_config"]["InstanceType"])
    else:
        assert "scheduling" not in head["node_config"] and "guestAccelerators" not in head["node_config"]
        assert re.match(r"[cen]\d", head["node_config"]["machineType"])
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(ray_starts(config)["head_start_ray_commands"].split())


def test_workers_are_spot_from_zero_with_an_on_demand_twin(cloud: str, config: dict[str, Any]) -> None:
    node_types = config["available_node_types"]
    assert set(node_types) == {"head", "gpu_spot", "gpu_on_demand"}
    spot, on_demand = node_types["gpu_spot"], node_types["gpu_on_demand"]
    assert spot["min_workers"] == on_demand["min_workers"] == 0
    assert spot["max_workers"] == on_demand["max_workers"] == config["max_workers"]
    assert spot["resources"] == on_demand["resources"]  # else the better fit wins, whatever the priority
    assert spot["resources"]["GPU"] >= 1
    assert spot["priority"] > on_demand["priority"]
    if cloud == "aws":
        assert spot["node_config"].pop("InstanceMarketOptions")["MarketType"] == "spot"
    else:
        cheap = spot["node_config"].pop("scheduling")
        assert (cheap["provisioningModel"], cheap["instanceTerminationAction"]) == ("SPOT", "DELETE")
        dear = on_demand["node_config"].pop("scheduling")
        assert cheap["onHostMaintenance"] == dear["onHostMaintenance"] == "TERMINATE", "a machine with a GPU stays"
    assert spot["node_config"] == on_demand["node_config"]


def test_idle_workers_go(config: dict[str, Any]) -> None:
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert 0 < config["available_node_types"]["gpu_on_demand"]["idle_timeout_s"] <= 60 * config["idle_timeout_minutes"]


def test_both_clouds_run_the_same(cloud: str, raw: dict[str, Any]) -> None:
    """But for the words that name the cloud."""
    aws = yaml.safe_load(FILES["aws"].read_text())
    for key in ("head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands", "file_mounts"):
        assert raw[key] == json.loads(json.dumps(aws[key]).replace("--cloud aws", f"--cloud {cloud}")), key
    for key in ("cluster_name", "idle_timeout_minutes", "upscaling_speed", "rsync_exclude"):
        assert raw[key] == aws[key]
    for name, node_type in raw["available_node_types"].items():
        mine, other = dict(node_type), dict(aws["available_node_types"][name])
        mine.pop("node_config"), other.pop("node_config")
        assert mine == other
    assert raw["metadata"]["bucket"] == aws["metadata"]["bucket"].replace(
        "s3://", {"aws": "s3://", "gcp": "gs://"}[cloud]
    )


# What a user sets


def test_what_a_user_sets_stands_in_the_block_at_the_top_and_nowhere_else(cloud: str) -> None:
    text = FILES[cloud].read_text()
    comments, rest = text.split(START)
    block, below = rest.split(END)
    assert all(not line or line.startswith("#") for line in comments.splitlines())  # the block is the first thing
    settings = yaml.safe_load(START + block)["metadata"]
    assert {key for key, value in settings.items() if "SET-ME" in str(value)} == PLACEHOLDERS[cloud]
    assert "SET-ME" not in below
    assert set(settings["prices"]) == set(yaml.safe_load(text)["available_node_types"])

    # Below, each setting is a YAML alias: the parser meets the very node of the block again, not a copy of its text.
    parsed = yaml.compose(text, Loader=yaml.SafeLoader)
    references = _count_references(parsed)
    for key in settings.keys() - GUARDED:
        assert references[id(_child(_child(parsed, "metadata"), key))] > 1, f"{key} is set but not used"
        if isinstance(settings[key], str):
            assert settings[key] not in below, f"{settings[key]} is written out below the block"


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


@pytest.mark.parametrize("path", [*FILES.values(), *SHELL.values()], ids=lambda path: path.name)
def test_no_secrets_and_no_registry_addresses(path: Path) -> None:
    secret = r"AKIA|BEGIN [A-Z ]*PRIVATE KEY|aws_secret|password = (?!\$\()"
    # Google's scope is a name in the form of an address.
    assert not re.search(secret + r"|https?://(?!\$|localhost|www\.googleapis\.com/auth/)|index-url", path.read_text())


# Who may talk to what


def test_nothing_listens_on_all_addresses(config: dict[str, Any]) -> None:
    assert "--dashboard-host=127.0.0.1" in ray_starts(config)["head_start_ray_commands"]
    text = "".join([*(command for _, command in commands(config)), *(path.read_text() for path in SHELL.values())])
    assert "0.0.0.0" not in text
    assert '--host "$address"' in SHELL["mlflow.sh"].read_text()
    assert 'address="$(hostname -I' in SHELL["mlflow.sh"].read_text()
    setup = SHELL["setup-head.sh"].read_text()
    assert "ALTER SYSTEM SET listen_addresses = ''" in setup
    # Masked before they are installed, or the packages would start them on every address.
    assert setup.index("mask prometheus prometheus-node-exporter") < setup.index("install -y")


def test_only_ssh_is_open() -> None:
    config = prepare_config(yaml.safe_load(FILES["aws"].read_text()))
    # Ray adds these to its own rules, which are: all traffic inside the group, and port 22.
    for rule in config["provider"]["security_group"]["IpPermissions"]:
        assert (rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) == (22, 22, "tcp")
    for node_type in config["available_node_types"].values():
        assert not {"SecurityGroupIds", "NetworkInterfaces"} & set(node_type["node_config"])  # would bypass that group


def test_on_googles_cloud_every_machine_is_in_the_network_that_the_user_closed() -> None:
    text = FILES["gcp"].read_text()
    opened = re.findall(r"firewall-rules create (\S+) .*--allow=(\S+) --source-ranges=(.+)", text)
    assert opened == [("miseg-inside", "tcp,udp,icmp", "10.10.0.0/20"), ("miseg-ssh", "tcp:22", "<your addresses>")]
    raw = yaml.safe_load(text)
    for node_type in raw["available_node_types"].values():
        [interface] = node_type["node_config"]["networkInterfaces"]
        assert interface["subnetwork"] == raw["metadata"]["subnet"]
        assert "tags" not in node_type["node_config"], "rules of the project's other networks may name tags"


def test_the_token_and_the_login_travel_as_files(config: dict[str, Any]) -> None:
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert config["file_mounts"]["~/.mlflow/credentials"] in (
        "~/.miseg/mlflow-login",
        str(Path("~/.miseg/mlflow-login").expanduser()),
    )
    key = config["file_mounts"]["~/.config/miseg/state.key"]
    assert Path(key).expanduser() == Path("~/.miseg/state.key").expanduser()
    assert (
        "chmod 600 ~/.ray/auth_token ~/.mlflow/credentials ~/.config/miseg/state.key" in SHELL["setup.sh"].read_text()
    )


# The shell


def test_commands_are_valid_bash_inside_rays_wrapping(config: dict[str, Any]) -> None:
    # command_runner.py puts each command into parentheses: a heredoc whose end is glued to ")" would swallow the rest.
    for _, command in commands(config):
        wrapped = f"source ~/.bashrc; export OMP_NUM_THREADS=1 && (export RAY_HEAD_IP=10.0.0.1; {command})"
        checked = subprocess.run(["bash", "-n", "-c", wrapped], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), command


@pytest.mark.parametrize("name", SHELL)
def test_the_scripts_are_valid_bash(name: str) -> None:
    checked = subprocess.run(["bash", "-n", SHELL[name]], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_each_script_and_module_that_is_run_is_there_and_shipped(config: dict[str, Any]) -> None:
    text = " ".join([*(command for _, command in commands(config)), *(path.read_text() for path in SHELL.values())])
    used = set(re.findall(r"~/miseg-source/cluster/([\w-]+\.sh)", text))
    assert used == set(SHELL)
    for module in set(re.findall(r"-m (miseg\.[\w.]+)", text)):
        assert importlib.util.find_spec(module) is not None
    for folder in ("miseg", "cluster", "jobs", "dashboards"):
        assert config["file_mounts"][f"~/miseg-source/{folder}"] in (f"./{folder}", str(ROOT / folder))
    for job in re.findall(r"~/miseg-source/(jobs/\w+\.py)", text):
        assert (ROOT / job).is_file()


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell on a node, whose home is a folder of the test's."""
    (tmp_path / "miseg-source").symlink_to(ROOT)
    (tmp_path / ".miseg-bucket").write_text("export MISEG_BUCKET=s3://bucket\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hostname").write_text("#!/bin/sh\necho 10.0.0.7 172.17.0.1\n")
    (tmp_path / "bin" / "hostname").chmod(0o755)
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}:/usr/bin:/bin"
    return {"HOME": str(tmp_path), "PATH": path, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("head", [None, "10.0.0.1"])
def test_what_rays_processes_inherit(node: dict[str, str], head: str | None) -> None:
    """On the head, and on a worker, where Ray sets RAY_HEAD_IP."""
    environment = node | ({} if head is None else {"RAY_HEAD_IP": head})
    command = ["bash", SHELL["run.sh"], "bash", "-c", "env; ulimit -n"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    found = dict(line.partition("=")[::2] for line in printed if "=" in line)
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_AUTH_TOKEN_PATH"] == f"{node['HOME']}/.ray/auth_token"
    assert found["RAY_USAGE_STATS_ENABLED"] == "0" and found["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert found["MISEG_STORAGE"] == "s3://bucket/miseg"
    assert found["MLFLOW_TRACKING_URI"] == f"http://{head or '10.0.0.7'}:5000"
    assert found["PATH"].startswith(f"{node['HOME']}/miseg-env/bin:")
    assert "OMP_NUM_THREADS" not in found
    assert int(printed[-1]) == min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def test_the_bucket_is_written_where_the_profile_looks(raw: dict[str, Any], node: dict[str, str]) -> None:
    subprocess.run(["bash", "-c", raw["setup_commands"][0]], env=node, check=True)
    shown = subprocess.run(
        ["bash", "-c", ". ~/miseg-source/cluster/profile.sh; echo $MISEG_STORAGE"],
        env=node,
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(r"(s3|gs)://SET-ME-bucket/miseg\n", shown.stdout)


def test_a_watcher_runs_once_however_often_it_is_started(node: dict[str, str]) -> None:
    home = Path(node["HOME"])
    mark = f"600.{os.getpid()}"
    started = []
    try:
        for _ in range(2):
            command = ["bash", SHELL["watch.sh"], "test", "bash", "-c", f"echo $BASHPID; exec sleep {mark}"]
            subprocess.run(command, env=node, check=True, timeout=20)
            time.sleep(0.5)
        started = (home / "miseg_test.log").read_text().split()
        assert len(started) == 1
        assert Path(f"/proc/{started[0]}/cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", mark.encode()]
    finally:
        for process in started:
            os.kill(int(process), 9)


def test_workers_listen_for_the_notice_that_they_are_taken_back(cloud: str, config: dict[str, Any]) -> None:
    (command,) = [command for _, command in commands(config) if "miseg.service.cloud.spot" in command]
    assert command in config["worker_start_ray_commands"]
    assert command.endswith(f'watch.sh spot python -m miseg.service.cloud.spot "$RAY_HEAD_IP:6379" --cloud {cloud}')


def test_the_head_is_watched(config: dict[str, Any]) -> None:
    started = config["head_start_ray_commands"]
    for name in ("fallback", "budget"):
        (command,) = [
            command for command in started if f"watch.sh {name} python -m miseg.service.cloud.{name} " in command
        ]
        assert started.index(command) > started.index(ray_starts(config)["head_start_ray_commands"])
    assert any(command.endswith("watch.sh monitor miseg monitor") for command in started)
    assert started[0].endswith("miseg.service.cloud.budget localhost:6379 --check"), "before anything runs that costs"
