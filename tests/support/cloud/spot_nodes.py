"""A real Ray of several nodes on this machine: a head that only coordinates, and nodes that come and are taken away."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import psutil
import ray

from tests.support.processes import Processes, free_ports, wait_until

TRAINS = ("ImplicitFunc", "RayTrainWorker")
"""What Ray calls the processes of a trial of one worker, and of Ray Train's workers."""


class SpotNodes:
    """Nodes on addresses of the loopback's own, by number; node 0 is the head, which has no CPU."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.port = free_ports(1)[0]
        self.started: dict[int, subprocess.Popen] = {}
        self.start(0)

    @property
    def address(self) -> str:
        """Where Ray's control store listens."""
        return f"127.0.0.1:{self.port}"

    def start(self, number: int, cpus: int = 2) -> subprocess.Popen:
        """`ray start --block` for a node; of two CPUs, which a trial and the decoding beside it fill."""
        ports = iter(free_ports(5))
        command = ["ray", "start", "--block", "--node-ip-address", f"127.0.0.{number + 1}", "--num-gpus", "0"]
        command += ["--node-name", f"node-{number}"]
        command += ["--object-store-memory", str(100_000_000), "--min-worker-port", "0", "--max-worker-port", "0"]
        for name in ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export"):
            command += [f"--{name}-port", str(next(ports))]
        if number == 0:
            command += ["--head", "--port", str(self.port), "--num-cpus", "0", "--include-dashboard", "false"]
            command += ["--temp-dir", str(self.processes.folder / "ray"), "--ray-client-server-port", str(next(ports))]
        else:
            command += ["--address", self.address, "--num-cpus", str(cpus)]
        environment = self.processes.environment(
            RAY_USAGE_STATS_ENABLED="0",
            RAY_AUTH_MODE="disabled",
            PYTHONPATH=os.environ.get("PYTHONPATH", ""),
        )
        self.started[number] = self.processes.start(f"node-{number}", command, environment, self.processes.folder)
        return self.started[number]

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """This process as a driver of the cluster, on the head."""
        from miseg.service.cluster import ray_cluster

        wait_until(lambda: "Ray runtime started" in self.processes.text("node-0"), 120, "the head", [self.started[0]])
        ray_cluster.connect(self.address)
        try:
            yield
        finally:
            ray.shutdown()

    def alive(self) -> dict[int, str]:
        """Ray's ids of the nodes that live, by number."""
        return {int(node["NodeName"].removeprefix("node-")): node["NodeID"] for node in ray.nodes() if node["Alive"]}

    def add(self, number: int) -> None:
        """Start a node and wait until it has joined; one after the other, for Ray gives each half a minute to start."""
        started = self.start(number)
        wait_until(lambda: number in self.alive(), 120, f"node {number}", [started])

    def raylet(self, number: int) -> psutil.Process:
        """The process that is the node to Ray."""
        children = psutil.Process(self.started[number].pid).children(recursive=True)
        return next(child for child in children if child.name().startswith("raylet"))

    def trainings(self, number: int) -> list[psutil.Process]:
        """The processes that train on a node."""
        found = []
        with contextlib.suppress(psutil.Error, StopIteration):
            for child in self.raylet(number).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any(name in " ".join(child.cmdline()) for name in TRAINS):
                        found.append(child)
        return found
