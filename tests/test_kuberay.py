"""cluster/kuberay.yaml, as far as it can be checked without Kubernetes: its parts, and what Ray makes of them.

`SPEC` is written after KubeRay's Go types and API reference (ray-project/kuberay, ray-operator/apis/ray/v1 and
docs/reference/api.md): the fields of a RayCluster down to the pods' templates, and no more. Kubernetes' own fields are
not checked against a schema.
"""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay import node_provider
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from miseg.service.cloud import budget, draining
from tests.support import ROOT

FILE = ROOT / "cluster/kuberay.yaml"
LABEL = "app.kubernetes.io/part-of"

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


SPEC = _closed(
    ["headGroupSpec", "rayVersion"],
    rayVersion={"type": "string"},
    authOptions=_closed(["mode"], mode={"enum": ["token", "disabled"]}, secretName={"type": "string"}),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=_closed(
        [],
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        env={"type": "array"},
        resources={"type": "object"},
    ),
    headGroupSpec=_closed(
        ["template"],
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        rayStartParams=STRINGS,
        template={"type": "object"},
    ),
    workerGroupSpecs={
        "type": "array",
        "items": _closed(
            ["groupName", "minReplicas", "maxReplicas", "template"],
            groupName={"type": "string"},
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            priority={"type": "integer"},
            idleTimeoutSeconds=COUNT,
            rayStartParams=STRINGS,
            template={"type": "object"},
        ),
    },
)


@pytest.fixture(scope="module")
def parts() -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name."""
    found = list(yaml.safe_load_all(FILE.read_text()))
    named = {(part["kind"], part["metadata"]["name"]): part for part in found}
    assert len(named) == len(found)
    return named


@pytest.fixture
def cluster(parts: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    return parts["RayCluster", "miseg"]


def pods(parts: dict[tuple[str, str], dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's template."""
    for (kind, name), part in parts.items():
        if kind == "Deployment":
            yield name, part["spec"]["template"]
        if kind == "RayCluster":
            yield "head", part["spec"]["headGroupSpec"]["template"]
            yield from ((group["groupName"], group["template"]) for group in part["spec"]["workerGroupSpecs"])


def test_it_has_the_fields_of_a_raycluster_and_no_others(cluster: dict[str, Any]) -> None:
    assert cluster["apiVersion"] == "ray.io/v1"
    jsonschema.validate(cluster["spec"], SPEC)
    broken = json.loads(json.dumps(cluster["spec"]))
    broken["workerGroupSpecs"][0]["maxReplica"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SPEC)
    for group in cluster["spec"]["workerGroupSpecs"]:  # names of pods begin with it
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", group["groupName"])


def test_rays_autoscaler_makes_of_it_what_it_makes_of_cluster_yaml(cluster: dict[str, Any]) -> None:
    """By Ray's own code: the names (with dashes), limits, priorities and idle time-outs."""
    made = _derive_autoscaling_config_from_ray_cr(cluster | {"metadata": {"name": "miseg", "namespace": "miseg"}})
    aws = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    assert made["idle_timeout_minutes"] == aws["idle_timeout_minutes"]
    types = {name: kind for name, kind in made["available_node_types"].items() if name != "headgroup"}
    assert set(types) == {name.replace("_", "-") for name in aws["available_node_types"] if name != "head"}
    for name, kind in types.items():
        as_there = aws["available_node_types"][name.replace("-", "_")]
        for key in ("min_workers", "max_workers", "priority", "idle_timeout_s"):
            assert kind.get(key) == as_there.get(key), (name, key)
        assert kind["resources"]["GPU"] == 1
    head = made["available_node_types"]["headgroup"]["resources"]
    assert (head["CPU"], head["GPU"]) == (0, 0)


def test_both_groups_are_the_same_but_for_where_they_run(cluster: dict[str, Any]) -> None:
    spot, on_demand = (dict(group["template"]["spec"]) for group in cluster["spec"]["workerGroupSpecs"])
    assert spot.pop("nodeSelector") != on_demand.pop("nodeSelector")
    assert spot == on_demand
    [worker] = spot["containers"]
    assert worker["resources"]["requests"] == worker["resources"]["limits"]
    assert worker["lifecycle"]["preStop"]["exec"]["command"][-2:] == ["--cloud", "kubernetes"]
    from miseg.service.cloud import spot as watcher

    assert spot["terminationGracePeriodSeconds"] > watcher.KUBERNETES_NOTICE_S


def test_jobs_on_the_head_sign_with_the_key_of_a_secret(parts: dict[tuple[str, str], dict[str, Any]]) -> None:
    head = parts["RayCluster", "miseg"]["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    (key,) = [entry for entry in head["env"] if entry["name"] == "MISEG_STATE_KEY"]
    assert key == {"name": "MISEG_STATE_KEY", "valueFrom": {"secretKeyRef": {"name": "miseg-state", "key": "key"}}}


def test_what_is_referred_to_is_there_and_secrets_are_not(parts: dict[tuple[str, str], dict[str, Any]]) -> None:
    text = FILE.read_text()
    assert "Secret" not in {kind for kind, _ in parts}
    created = set(re.findall(r"create secret generic (\S+)", text)) | {"miseg"}  # KubeRay's own, with the token
    for name, template in pods(parts):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, name
        for volume in spec.get("volumes", []):
            for kind, key, field in (
                ("ConfigMap", "configMap", "name"),
                ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ):
                if key in volume:
                    assert (kind, volume[key][field]) in parts, name
        told = json.dumps(template)
        assert set(re.findall(r'"secretName": "([^"]+)"', told)) <= created
        assert set(re.findall(r'"secretKeyRef": \{"name": "([^"]+)"', told)) <= created
        assert {("ConfigMap", found) for found in re.findall(r'"configMapRef": \{"name": "([^"]+)"', told)} <= set(
            parts
        )
        if account := spec.get("serviceAccountName"):
            assert ("ServiceAccount", account) in parts, name
    assert not re.search(r"https?://(?!miseg-)", text)


def test_ports_are_closed_to_all_but_each_other(parts: dict[tuple[str, str], dict[str, Any]]) -> None:
    inside = {name for name, template in pods(parts) if template["metadata"]["labels"].get(LABEL) == "miseg"}
    assert inside == {"head", "gpu-spot", "gpu-on-demand", "miseg-budget", "miseg-mlflow"}
    policy = parts["NetworkPolicy", "miseg"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {LABEL: "miseg"}} and policy["policyTypes"] == ["Ingress"]
    own, *others = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": {LABEL: "miseg"}}}]}
    assert all(rule["ports"] and rule["from"][0]["podSelector"] for rule in others)
    # Policies add up: what another one selects too would be open to whom that lets in.
    database = parts["NetworkPolicy", "miseg-postgres"]["spec"]
    labels = dict(pods(parts))["miseg-postgres"]["metadata"]["labels"]
    assert labels == database["podSelector"]["matchLabels"]
    assert database["ingress"] == [
        {"from": [{"podSelector": {"matchLabels": {"app": "miseg-mlflow"}}}], "ports": [{"port": 5432}]}
    ]
    assert not [part for (kind, _), part in parts.items() if kind == "Service" and part["spec"].get("type")]
    for part in (part for (kind, _), part in parts.items() if kind == "Service"):
        selected = dict(pods(parts))[part["metadata"]["name"]]["metadata"]["labels"]
        assert part["spec"]["selector"].items() <= selected.items()


def test_its_shell_is_valid_and_starts_mlflow_as_the_head_does(parts: dict[tuple[str, str], dict[str, Any]]) -> None:
    [container] = dict(pods(parts))["miseg-mlflow"]["spec"]["containers"]
    [script] = container["args"]
    checked = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    there = (ROOT / "cluster/mlflow.sh").read_text()
    for line in re.findall(
        r"(?:export MLFLOW_AUTH\w+_(?:USERNAME|PASSWORD)=.*|--backend-store-uri postgresql\S+)", there
    ):
        assert line in script


def test_the_guards_file_has_a_price_for_each_group(
    parts: dict[tuple[str, str], dict[str, Any]], cluster: dict[str, Any], tmp_path: Path
) -> None:
    text = parts["ConfigMap", "miseg-budget"]["data"]["budget.yaml"]
    path = tmp_path / "budget.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"metadata\.budget = 'SET-ME'"):
        budget.read_plan(path)
    path.write_text(text.replace("SET-ME", "2"))
    plan = budget.read_plan(path)
    assert set(plan.prices) == {"head", *(group["groupName"] for group in cluster["spec"]["workerGroupSpecs"])}
    made = _derive_autoscaling_config_from_ray_cr(cluster | {"metadata": {"name": "miseg", "namespace": "miseg"}})
    for name, told in yaml.safe_load(text)["available_node_types"].items():
        real = made["available_node_types"][name]
        assert told["max_workers"] == real["max_workers"]
        assert told["resources"] == {kind: real["resources"][kind] for kind in ("CPU", "GPU")}


class Kubernetes(BaseHTTPRequestHandler):
    """The part of Kubernetes' API that the guard asks."""

    cluster: ClassVar[dict[str, Any]] = {}
    patches: ClassVar[list[Any]] = []

    def do_GET(self) -> None:
        """The RayCluster."""
        self._say(200 if self.path.endswith("/namespaces/miseg/rayclusters/miseg") else 404)

    def do_PATCH(self) -> None:
        """A JSON patch of it, of `replace` alone."""
        assert self.headers["Content-type"] == "application/json-patch+json"
        patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for change in patch:
            *parents, last = change["path"].strip("/").split("/")
            found: Any = Kubernetes.cluster
            for parent in parents:
                found = found[int(parent) if isinstance(found, list) else parent]
            assert change["op"] == "replace" and last in found
            found[last] = change["value"]
        Kubernetes.patches.append(patch)
        self._say(200)

    def _say(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(Kubernetes.cluster).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def test_the_guard_lets_kuberay_start_no_pod_any_more(
    cluster: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Kubernetes.cluster, Kubernetes.patches = json.loads(json.dumps(cluster)), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    (tmp_path / "namespace").write_text("miseg")
    monkeypatch.setattr(draining, "NAMESPACE", tmp_path / "namespace")
    # What a pod has of its own, and a machine without Kubernetes has not.
    monkeypatch.setattr(node_provider, "load_k8s_secrets", lambda: ({}, True, None))
    at = f"http://127.0.0.1:{server.server_port}/apis/ray.io/v1"
    monkeypatch.setattr(
        node_provider,
        "url_from_resource",
        lambda namespace, path, kuberay_crd_version: f"{at}/namespaces/{namespace}/{path}",
    )
    try:
        for _ in range(2):
            draining.no_pods("miseg")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    groups = Kubernetes.cluster["spec"]["workerGroupSpecs"]
    assert [(group["minReplicas"], group["maxReplicas"]) for group in groups] == [(0, 0), (0, 0)]
    assert len(Kubernetes.patches) == 1, "what is so already is not asked for again"
