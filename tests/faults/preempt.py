"""Takes nodes away from a training and takes the time: python -m tests.faults.preempt --times 5

A real Ray of a head and two nodes on this machine, a trial of one worker. Each time the notice comes in one of three
ways; what is taken is when the step's checkpoint was whole, how many steps were made twice, and when the first step
after it was logged by the process that took over (losses are logged every ten steps).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support import ROOT

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # else the training's thread starts a Ray when its own is gone

from tests.support.cloud.metadata_service import Metadata, serving
from tests.support.cloud.spot_nodes import SpotNodes
from tests.support.processes import processes, wait_until

WAYS = {
    "process": "SIGTERM to the training process",
    "node": "SIGTERM to `ray start --block`",
    "drain": "EC2's notice, which `python -m miseg.service.cloud.spot` asks for every 2 s",
}


@dataclass
class Found:
    """What one preemption took, seconds from the notice on."""

    kept_s: float
    new_step_s: float
    lost: int


class Training:
    """A trial that goes on for as long as it takes."""

    def __init__(self, nodes: SpotNodes, folder: Path, steps: int, size: int) -> None:
        from miseg.data.configs import Augmentation
        from miseg.data.packed.dataset import PackedDataset
        from miseg.data.packed.packing import pack
        from miseg.data.sources.registry import Embedded
        from miseg.methods.configs import RegionMutualInformation
        from miseg.networks.configs import UNet
        from miseg.recipes.experiment import Experiment, Optimiser

        self.nodes, self.folder = nodes, folder
        source = Embedded({"train": 16, "val": 4, "test": 2}, height=96, width=128)
        data = PackedDataset.open(pack(source, folder / "packed", source.available()).path)
        self.experiment = Experiment(
            method=RegionMutualInformation(UNet(size, "group")),
            data=data.uri,
            optimiser=Optimiser(learning_rate=3e-3),
            augmentation=Augmentation(crop=(64, 64)),
            steps=steps,
            batch_size=4,
            validate_every=steps,
        )
        self.thread = threading.Thread(target=self._search, daemon=True)
        self.thread.start()

    def _search(self) -> None:
        from miseg.recipes import spaces
        from miseg.service.cluster import ray_cluster
        from miseg.service.tracking import mlflow_runs
        from miseg.service.tuning import tune
        from miseg.service.tuning.tuning import Tuning

        tune.TRIAL_FAILURES = 0
        uri = f"sqlite:///{self.folder}/mlflow.db"
        mlflow_runs.check(uri, str(self.folder))
        point = spaces.region_mutual_information.point(self.experiment)
        resources = replace(ray_cluster.resources(1, 1), cpus=1)
        tuning = Tuning(
            name="preempted",
            base=self.experiment,
            space=spaces.region_mutual_information,
            default_point=point,
            rivals={},
            tuned="tuned",
            data=self.experiment.data,
            storage=str(self.folder),
            tracking_uri=uri,
            resources=resources,
            trials=1,
            confirm_seeds=1,
            grid={name: [value] for name, value in point.items()},
        )
        parent = mlflow_runs.open_run(tuning.store, mlflow_runs.experiment_name(self.experiment.data), "p")
        print(tune.search(tuning, parent).T)

    def steps(self) -> dict[int, float]:
        """When each step was logged (s since 1970), the first time; a step that was logged twice is an error."""
        found: dict[int, float] = {}
        for path in self.folder.glob("journals/*.jsonl"):
            for line in path.read_text().splitlines(keepends=True):
                entry = json.loads(line) if line.endswith("\n") else {}
                if "train/loss" in entry.get("values", ()):
                    assert entry["step"] not in found, f"step {entry['step']} was logged twice"
                    found[entry["step"]] = entry["time"] / 1000
        return found

    def last(self) -> int:
        """The last step that was logged."""
        return max(self.steps(), default=-1)

    def checkpoints(self) -> dict[int, float]:
        """When each checkpoint that is there was whole (s since 1970), by its step."""
        manifests = self.folder.glob("runs/*/step-*/checkpoint.json")
        return {int(path.parent.name.removeprefix("step-")): path.stat().st_mtime for path in manifests}

    def on(self) -> list[int]:
        """The nodes that train."""
        return [number for number in self.nodes.alive() if number and self.nodes.trainings(number)]


def preempt(training: Training, way: str, fresh: int) -> Found:
    """Give notice one way, and wait until the training goes on."""
    nodes, before = training.nodes, training.last()
    wait_until(lambda: training.last() >= before + 40, 240, "forty steps more")
    [number] = training.on()
    if way != "process":
        nodes.add(fresh)
    if way == "drain":
        watch(nodes, number)
    earlier = set(training.checkpoints())
    noticed = time.time()
    if way == "process":
        nodes.trainings(number)[0].terminate()
    elif way == "node":
        nodes.started[number].terminate()
    else:
        notified = time.gmtime(noticed + 120)
        Metadata.notice = {"action": "terminate", "time": time.strftime("%FT%TZ", notified)}
    # Those of before go, as a run keeps its best one and its last.
    wait_until(lambda: training.checkpoints().keys() - earlier, 60, "the checkpoint")
    [(step, kept)] = [item for item in training.checkpoints().items() if item[0] not in earlier]
    wait_until(lambda: training.last() >= step, 240, "a step after it")
    logged = training.steps()
    # Steps count from 0: a checkpoint of step n holds what steps 0 to n - 1 did.
    lost = sum(1 for at in logged if at >= step and logged[at] < kept)
    return Found(kept - noticed, logged[step] - noticed, lost)


def watch(nodes: SpotNodes, number: int) -> None:
    """Start on a node what `cluster.yaml` starts there, and wait until it asks."""
    Metadata.notice, asked = None, Metadata.asked
    command = [sys.executable, "-m", "miseg.service.cloud.spot", nodes.address, "--node-ip", f"127.0.0.{number + 1}"]
    environment = nodes.processes.environment(
        RAY_AUTH_MODE="disabled",
        AWS_EC2_METADATA_SERVICE_ENDPOINT=os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"],
    )
    watching = nodes.processes.start(f"spot-{number}", command, environment, ROOT)
    wait_until(lambda: Metadata.asked > asked, 60, "the watcher's first question", [watching])


def main() -> None:
    """Preempt, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="preemptions of each way")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--features", type=int, default=16, help="of the U-Net's first level")
    arguments = parser.parse_args()
    found: dict[str, list[Found]] = {way: [] for way in arguments.ways}
    with serving() as addresses, processes() as started, tempfile.TemporaryDirectory() as folder:
        os.environ.update(addresses)
        nodes = SpotNodes(started)
        with nodes.joined():
            nodes.add(1)
            training = Training(nodes, Path(folder), 1_000_000, arguments.features)
            fresh = 2
            for time_ in range(arguments.times):
                for way in arguments.ways:
                    found[way].append(preempt(training, way, fresh))
                    fresh += way != "process"
                    print(f"{time_ + 1}. {way}: {found[way][-1]}", flush=True)
    print("\n| notice | times | checkpoint after, s: median (worst) | steps lost | new step after, s: median (worst) |")
    print("|---|---|---|---|---|")
    for way, all_of in found.items():
        kept, new = ([getattr(one, name) for one in all_of] for name in ("kept_s", "new_step_s"))
        lost = sum(one.lost for one in all_of)
        print(
            f"| {WAYS[way]} | {len(all_of)} | {statistics.median(kept):.1f} ({max(kept):.1f}) | {lost} "
            f"| {statistics.median(new):.1f} ({max(new):.1f}) |",
            flush=True,
        )
    os._exit(0)  # the training's thread waits in Ray's own code, and would for good


if __name__ == "__main__":
    main()
