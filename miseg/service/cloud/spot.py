"""Drains this machine's Ray node once the cloud announces in its metadata service that it takes the machine back.

python -m miseg.service.cloud.spot 10.0.0.1:6379 --cloud aws

The cloud tells nobody else: EC2 two minutes before it ends a spot machine, Google's cloud half a minute before. Where
Kubernetes ends a pod it runs a command of the pod's first, which this can be: it has been told then. Ray
starts nothing more on a node that drains, trainings there keep a checkpoint and go on elsewhere
(`miseg.service.cluster.preemption`), and the node leaves once nothing runs on it.
"""

from __future__ import annotations

import datetime
import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from miseg.json_values import parse
from miseg.service.cloud import autoscaling
from miseg.service.cluster import ray_internals

TIMEOUT_S = 5.0
TOKEN_LIFE_S = 21_600
GCP_NOTICE_S = 30
KUBERNETES_NOTICE_S = 45
"""Less than the pod has to end, `terminationGracePeriodSeconds`, which is in cluster/kuberay.yaml."""


@dataclass
class Watch:
    """Wait for the notice, drain the node, end."""

    address: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="HOST:PORT")]
    """Ray's control store, host:port."""
    cloud: Literal["aws", "gcp", "kubernetes"] = "aws"
    """Whose metadata service tells; kubernetes has told already, and waits until the node has left. The service's
    address: $AWS_EC2_METADATA_SERVICE_ENDPOINT or $GCE_METADATA_HOST, else the cloud's own."""
    node_ip: Annotated[str | None, tyro.conf.arg(metavar="IP")] = None
    """This node's address as Ray knows it. Default: what this machine reaches the control store from."""
    every: float = 2.0
    """Seconds between two questions."""


def aws_deadline() -> float | None:
    """Time at which EC2 stops or ends this machine (s since 1970); None while it has not said so.

    Raises:
        OSError: the metadata service does not answer.
    """
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
    life = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFE_S)}
    # The address is EC2's, or its administrator's.
    token = _answer(urllib.request.Request(f"{base}/latest/api/token", headers=life, method="PUT"))  # noqa: S310
    notice = urllib.request.Request(  # noqa: S310
        f"{base}/latest/meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": token}
    )
    try:
        answer = parse(_answer(notice))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    # "hibernate" begins at once, and its time is then in the past.
    return datetime.datetime.fromisoformat(answer["time"].replace("Z", "+00:00")).timestamp()


def gcp_deadline() -> float | None:
    """Time at which Google's cloud ends this machine (s since 1970), counted from now; None while it has not said so.

    Raises:
        OSError: the metadata service does not answer.
    """
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/preempted"
    answer = _answer(urllib.request.Request(url, headers={"Metadata-Flavor": "Google"}))
    return time.time() + GCP_NOTICE_S if answer.strip() == "TRUE" else None


def kubernetes_deadline() -> float:
    """Time at which Kubernetes ends this pod, as it has said (s since 1970)."""
    return time.time() + KUBERNETES_NOTICE_S


def _answer(request: urllib.request.Request) -> str:
    # A proxy that the environment names must not be asked for what this machine alone is told.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        return answer.read().decode()


def wait_for_notice(ask: Callable[[], float | None], every: float) -> float:
    """Ask every so many seconds until there is a deadline (s since 1970); a service that is away is asked again."""
    silent = ""
    while True:
        try:
            if (deadline := ask()) is not None:
                return deadline
            silent = ""
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            if str(error) != silent:  # one line, not one for each question
                silent = str(error)
                autoscaling.say(f"the metadata service gives no answer ({error}); asking again every {every:g} s")
        time.sleep(every)


def drain(address: str, node_ip: str, deadline: float, reason: str) -> str:
    """Drain the Ray nodes at `node_ip`; their ids, in hexadecimal.

    Raises:
        RuntimeError: there is none, or Ray refuses.
    """
    nodes = _live(address, node_ip)
    if not nodes:
        raise RuntimeError(f"no live node of the Ray at {address} has the address {node_ip}: give it as --node-ip")
    for node_id in nodes:
        autoscaling.drain(address, node_id, reason, deadline)
    return ", ".join(nodes)


def _live(address: str, node_ip: str) -> list[str]:
    nodes = ray_internals.GcsClient(address=address).get_all_node_info(timeout=30).items()
    return [
        node_id.hex()
        for node_id, node in nodes
        if node.node_manager_address == node_ip and node.state == ray_internals.GcsNodeInfo.ALIVE
    ]


def _own_ip(address: str) -> str:
    host, port = address.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        return str(probe.getsockname()[0])


def main(watch: Watch) -> None:
    """Watch until the notice came and the node drains."""
    node_ip = watch.node_ip or _own_ip(watch.address)
    ask = {"aws": aws_deadline, "gcp": gcp_deadline, "kubernetes": kubernetes_deadline}[watch.cloud]
    deadline = wait_for_notice(ask, watch.every)
    left = deadline - time.time()
    autoscaling.say(f"{watch.cloud} takes this machine back in {left:.0f} s: draining the Ray node at {node_ip}")
    pod = watch.cloud == "kubernetes"
    while True:
        try:
            drained = drain(watch.address, node_ip, deadline, f"{watch.cloud} takes the machine back")
            break
        except Exception as error:  # what the control store raises where it is away has no common class
            autoscaling.say(f"not drained yet: {error}")
            if pod:  # it ends because the autoscaler drained it, or Ray has gone before it
                return
            time.sleep(1)
    autoscaling.say(f"Ray drains {drained}")
    # Once this returns, the pod ends.
    while pod and time.time() < deadline and _live(watch.address, node_ip):
        time.sleep(0.5)


if __name__ == "__main__":
    main(tyro.cli(Watch, description=__doc__))
