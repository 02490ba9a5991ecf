"""One run on three hosts whose links are cut, slow or lossy: what arrives at MLflow, what is missing, what is twice.

The hosts are network namespaces of this machine, which wants root: an MLflow server, a worker, and the worker that
takes its place. They share a folder, as over NFS, but for what the table names. The workers train without Ray.

python -m tests.faults.partitions [FAULT ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from miseg.data.packed.packing import pack
from miseg.data.sources.registry import Embedded
from miseg.service.checkpoints import fencing
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.journal.files import read
from miseg.service.journal.sender import sync
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from tests.support import ROOT
from tests.support.paced_training import STEPS, STOPPED, VALIDATE_EVERY
from tests.support.processes import Processes, free_ports, http, processes, wait_until

NETWORK = "10.213.77"
HOSTS = {"server": 10, "first": 11, "second": 12}
PACE = 0.4
"""Seconds that a step takes at least: a run takes half a minute."""


@dataclass(frozen=True)
class Fault:
    """What happens to the first worker once it has validated.

    Attributes:
        name: in the table.
        link: arguments of `tc … netem` for all hosts, from the start.
        cut: seconds for which its link is down; 0 for none.
        stands: seconds for which it stands still.
        killed: whether it is killed.
        replaced: whether the second takes the run up, 3 s later.
        own_journals: whether each host has its journals on its own disk, as with storage that is no folder.
    """

    name: str
    link: str = ""
    cut: float = 0
    stands: float = 0
    killed: bool = False
    replaced: bool = False
    own_journals: bool = False


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("link cut for 20 s", cut=20),
        Fault("link cut for 20 s, worker replaced", cut=20, replaced=True),
        Fault("the same, journals on each host's disk", cut=20, replaced=True, own_journals=True),
        Fault("link cut for ever, worker replaced", cut=3600, replaced=True),
        Fault("the same for ever, journals on each host's disk", cut=3600, replaced=True, own_journals=True),
        Fault("latency of 100 ms", link="delay 100ms"),
        Fault("5 % of packets lost", link="loss 5%"),
        Fault("stands still for 60 s", stands=60),
        Fault("stands still for 20 s, replaced", stands=20, replaced=True),
        Fault("killed, replaced", killed=True, replaced=True),
    )
}


def refusal() -> str:
    """Why this machine has no network namespaces; "" where it has."""
    if shutil.which("ip") is None:
        return "there is no program ip (iproute2)"
    tried = subprocess.run(["ip", "netns", "add", "mseg-probe"], capture_output=True, text=True)
    if tried.returncode:
        return f"ip netns add: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", "mseg-probe"], check=True)
    return ""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def hosts(link: str) -> Iterator[None]:
    """The namespaces `mseg-NAME`, each at a port of one bridge; this process is at the bridge too."""
    try:
        ip("link", "add", "mseg-bridge", "type", "bridge")
        ip("address", "add", f"{NETWORK}.1/24", "dev", "mseg-bridge")
        ip("link", "set", "mseg-bridge", "up")
        for name, number in HOSTS.items():
            ip("netns", "add", f"mseg-{name}")
            ip("link", "add", f"mseg-{name}", "type", "veth", "peer", "name", "eth0", "netns", f"mseg-{name}")
            ip("link", "set", f"mseg-{name}", "master", "mseg-bridge", "up")
            inside = ("-n", f"mseg-{name}")
            ip(*inside, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", "lo", "up")
            if link:
                command = ["tc", "qdisc", "add", "dev", f"mseg-{name}", "root", "netem", *link.split()]
                subprocess.run(command, check=True, capture_output=True, text=True)
        yield
    finally:
        for name in HOSTS:
            # Without its own end the other goes a moment later, with the namespace.
            subprocess.run(["ip", "link", "delete", f"mseg-{name}"], capture_output=True)
            subprocess.run(["ip", "netns", "delete", f"mseg-{name}"], capture_output=True)
        subprocess.run(["ip", "link", "delete", "mseg-bridge"], capture_output=True)


def try_fault(fault: Fault) -> str:
    """A row of the table."""
    with processes() as started:
        try:
            with hosts(fault.link):
                return Trial(started, fault).row()
        except subprocess.CalledProcessError as error:
            return f"| {fault.name} | not tried: {' '.join(error.cmd[:1])}: {error.stderr.strip()} | | | | |"


class Trial:
    """One run under one fault."""

    def __init__(self, started: Processes, fault: Fault) -> None:
        self.started, self.fault, self.folder = started, fault, started.folder
        source = Embedded({"train": 13, "val": 2}, height=48, width=64)
        self.data = pack(source, self.folder / "data", ("train", "val")).path
        (port,) = free_ports(1)
        self.url = f"http://{NETWORK}.{HOSTS['server']}:{port}"
        server = [sys.executable, "-m", "mlflow", "server", "--host", "0.0.0.0", "--port", str(port), "--workers", "1"]
        server += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--allowed-hosts", "*"]
        server += ["--artifacts-destination", str(self.folder / "artifacts")]
        process = self._start("server", server)
        wait_until(lambda: http(f"{self.url}/health", timeout=2)[0] == 200, 120, "MLflow", [process])
        self.run_id = mlflow_runs.open_run(RunStore(str(self.folder), self.url), "miseg/test", "run")
        self.run_folder = str(self.folder / "runs" / "run")
        self.driver = fencing.drive(self.run_folder)

    def _start(self, host: str, command: Sequence[str]) -> subprocess.Popen:
        environment = self.started.environment(MLFLOW_HTTP_REQUEST_TIMEOUT="5")
        return self.started.start(host, ["ip", "netns", "exec", f"mseg-{host}", *command], environment, ROOT)

    def _journals(self, host: str) -> Path:
        return self.folder / (f"journals-{host}" if self.fault.own_journals else "journals")

    def _work(self, host: str) -> subprocess.Popen:
        arguments = [str(self.data), self.run_folder, str(self._journals(host)), self.url, self.run_id]
        arguments += [json.dumps(self.driver.generation), str(PACE), str(self.folder / f"go-{host}")]
        return self._start(host, [sys.executable, "-m", "tests.support.paced_training", *arguments])

    def row(self) -> str:
        """Name, what became of the workers, values that arrived, are missing, are there twice, checkpoints."""
        fault = self.fault
        first, second = self._work("first"), self._work("second") if self.fault.replaced else None
        (self.folder / "go-first").touch()
        journal = self._journals("first") / f"{self.run_id}.jsonl"
        wait_until(lambda: len(read(journal, 0)[0]) > 2 * VALIDATE_EVERY, 120, "the first to validate", [first])
        healed = time.monotonic() + max(fault.cut, fault.stands)
        if fault.cut:
            ip("link", "set", "mseg-first", "down")
        if fault.stands:
            os.kill(first.pid, signal.SIGSTOP)
        if fault.killed:
            first.kill()
        if fault.replaced:
            time.sleep(3)
            (self.folder / "go-second").touch()
        if fault.cut < 600:
            time.sleep(max(0.0, healed - time.monotonic()))
            ip("link", "set", "mseg-first", "up")
        if fault.stands:
            os.kill(first.pid, signal.SIGCONT)
        last = second or first
        code = last.wait(300)
        ended = {0: "ended", STOPPED: "stopped itself", -signal.SIGKILL: "killed"}
        became = ended.get(first.wait(120), "failed")
        assert code == 0, self.started.text("second" if second else "first")
        for host in ("first", "second"):
            if self._journals(host).exists():
                sync(self._journals(host), self.url)  # as the next job does
        steps = Counter(m.step for m in MlflowClient(self.url).get_metric_history(self.run_id, "train/loss"))
        twice, missing = sum(steps.values()) - len(steps), STEPS - len(steps)
        whole = [saved.step for saved in CheckpointStore(self.run_folder).all()] == [STEPS]
        checkpoints = "whole" if whole else "NOT WHOLE"
        return f"| {fault.name} | {became} | {sum(steps.values())} | {missing} | {twice} | {checkpoints} |"


def main() -> None:
    """Print the table; status 1 where something was lost, or is there twice."""
    parser = argparse.ArgumentParser()
    parser.add_argument("faults", nargs="*", default=list(FAULTS), metavar="FAULT")
    names = parser.parse_args().faults
    if reason := refusal():
        sys.exit(f"network namespaces cannot be had: {reason}")
    print(f"| fault | the first worker | values of {STEPS} | missing | twice | last checkpoint |")
    print("|---|---|---|---|---|---|")
    rows = []
    for name in names:
        rows.append(try_fault(FAULTS[name]))
        print(rows[-1], flush=True)
    sys.exit(any("not tried" not in row and not row.endswith(f"| {STEPS} | 0 | 0 | whole |") for row in rows))


if __name__ == "__main__":
    main()
