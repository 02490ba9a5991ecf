"""Notices that a process or a node goes away, for real: a step's checkpoint, a clean end, the same losses elsewhere."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from mlflow import MlflowClient
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from miseg.recipes import spaces
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.cloud import draining, spot
from miseg.service.cluster import ray_cluster
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails, RunStore
from miseg.service.training import train
from miseg.service.training.run import FINISHED, TrainingRun
from miseg.service.tuning import tune
from miseg.service.tuning.tuning import Tuning
from tests.support import ROOT
from tests.support.cloud.metadata_service import Metadata, serving
from tests.support.cloud.spot_nodes import SpotNodes
from tests.support.processes import processes, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600, method="signal")]

STEPS = 240


@pytest.fixture(scope="module")
def nodes() -> Iterator[SpotNodes]:
    """A head and two spot nodes, joined by this process."""
    with pytest.MonkeyPatch.context() as patch, processes() as started:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        found = SpotNodes(started)
        with found.joined():
            found.add(1)
            found.add(2)
            yield found


class Place:
    """A storage with its MLflow store, and what is trained there."""

    def __init__(self, folder: Path, experiment: Any) -> None:
        self.folder, self.experiment = folder, experiment
        self.uri = f"sqlite:///{folder}/mlflow.db"
        mlflow_runs.check(self.uri, str(folder))

    def run(self, name: str, workers: int = 1) -> TrainingRun:
        resources = ray_cluster.Resources(cpus=1, gpus=0, workers=workers, concurrency=1)
        return TrainingRun(name, self.experiment, self.experiment.data, str(self.folder / name), self.uri, resources)

    def step(self, name: str) -> int:
        """The last step that the journals of storage `name` hold; -1 before the first."""
        entries = [
            json.loads(line)
            for path in (self.folder / name / "journals").glob("*.jsonl")
            for line in path.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return max((entry["step"] for entry in entries if "train/loss" in entry.get("values", ())), default=-1)

    def losses(self, name: str) -> list[tuple[int, float]]:
        """Step and loss as MLflow has them."""
        found = MlflowClient(self.uri).get_metric_history(self.of(name).info.run_id, "train/loss")
        return [(metric.step, metric.value) for metric in found]

    def of(self, name: str) -> Any:
        """The MLflow run whose own name is `name`, a pattern."""
        runs = [run for run in all_runs(MlflowClient(self.uri), self) if run.data.tags.get("miseg.kind") != "tuning"]
        return next(run for run in runs if re.fullmatch(name, run.data.tags["miseg.run"]))


@pytest.fixture(scope="module")
def place(small, tiny, tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("spot"), replace(tiny, steps=STEPS, validate_every=120))


@pytest.fixture(scope="module")
def whole(nodes: SpotNodes, place: Place) -> list[tuple[int, float]]:
    """The losses of a run that nothing disturbs."""
    train.fit_here(place.run("whole"), lambda found: None)
    return place.losses("whole")


class Taker(threading.Thread):
    """Takes one thing after the other away, each when the training in storage `name` has logged ten more steps."""

    def __init__(self, place: Place, name: str, *takes: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.place, self.storage, self.takes = place, name, takes
        self.taken: list[int] = []

    def run(self) -> None:
        for take in self.takes:
            step = self.place.step(self.storage) + 10
            wait_until(lambda step=step: self.place.step(self.storage) >= step, 120, f"step {step}")
            self.taken.append(self.place.step(self.storage))
            take()


def training_on(nodes: SpotNodes) -> int:
    """The number of the node that trains."""
    return next(number for number in nodes.alive() if number > 0 and nodes.trainings(number))


@pytest.mark.long
def test_a_trial_that_is_preempted_twice_goes_on_elsewhere(nodes, place, whole, monkeypatch, capsys):
    """Once its process gets SIGTERM, once `ray start` of its node; not one failure is allowed."""
    monkeypatch.setattr(tune, "TRIAL_FAILURES", 0)
    on: list[int] = []

    def process() -> None:
        [training] = nodes.trainings(training_on(nodes))
        training.send_signal(signal.SIGTERM)
        wait_until(lambda: not training.is_running(), 30, "the end of the process")

    def node() -> None:
        on.append(training_on(nodes))
        nodes.started[on[0]].send_signal(signal.SIGTERM)

    experiment = place.experiment
    point = spaces.region_mutual_information.point(experiment)
    tuning = Tuning(
        name="preempted",
        base=experiment,
        space=spaces.region_mutual_information,
        default_point=point,
        rivals={},
        tuned="RMI tuned",
        data=experiment.data,
        storage=str(place.folder / "trial"),
        tracking_uri=place.uri,
        resources=place.run("trial").resources,
        trials=1,
        confirm_seeds=1,
        grid={name: [value] for name, value in point.items()},
    )
    parent = mlflow_runs.open_run(
        RunStore(str(place.folder), place.uri),
        mlflow_runs.experiment_name(experiment.data),
        "tuned",
        RunDetails(tags={"miseg.kind": "tuning"}),
    )
    taker = Taker(place, "trial", process, node)
    taker.start()
    trials = tune.search(tuning, parent)
    taker.join(60)

    assert len(taker.taken) == 2, "the training ended before it was preempted"
    assert list(trials["ended"]) == [FINISHED] and list(trials["step"]) == [STEPS]
    found = place.losses("preempted-.*")
    assert found == whole, "another loss, or a step that is missing or logged twice"
    said = capsys.readouterr().out
    assert said.count("preempted at step") == 2 and "SIGTERM" in said and "Ray drains node" in said
    assert "Ray drains node" in place.of("preempted-.*").data.tags["miseg.preempted"]
    wait_until(lambda: nodes.started[on[0]].poll() is not None, 60, "the end of the node")
    assert "finished draining" in nodes.processes.text(f"node-{on[0]}"), "its time ran out before the training left"
    [folder] = (place.folder / "trial" / "runs").iterdir()
    kept = CheckpointStore(str(folder))
    assert kept.last().step == STEPS and all(found.scored for found in kept.all())


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    """A metadata service on this machine, as either cloud's."""
    with serving() as addresses:
        for name, address in addresses.items():
            monkeypatch.setenv(name, address)
        yield Metadata


def test_the_deadline_is_what_the_cloud_says(metadata, monkeypatch, capsys):
    assert spot.aws_deadline() is None and spot.gcp_deadline() is None
    metadata.notice = {"action": "terminate", "time": "2017-09-18T08:22:00Z"}
    assert spot.aws_deadline() == 1505722920
    assert spot.gcp_deadline() == pytest.approx(time.time() + spot.GCP_NOTICE_S, abs=10)
    answers: list[Any] = [OSError("away"), OSError("away"), None, 7.0]

    def ask() -> float | None:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert spot.wait_for_notice(ask, every=0.01) == 7.0
    assert capsys.readouterr().out.count("the metadata service gives no answer (away)") == 1


@pytest.mark.long
def test_two_workers_leave_a_node_that_the_cloud_takes_back_after_the_same_step(nodes, place, metadata):
    """Under Ray Train; EC2's notice comes through `python -m miseg.service.cloud.spot`; not one failure is allowed."""
    undisturbed = train.fit(place.run("two-whole", workers=2), max_failures=0)
    [left] = set(nodes.alive()) - {0}
    command = [sys.executable, "-m", "miseg.service.cloud.spot", nodes.address, "--every", "0.2"]
    command += ["--node-ip", f"127.0.0.{left + 1}"]
    environment = nodes.processes.environment(
        RAY_AUTH_MODE="disabled",
        PYTHONPATH=os.environ.get("PYTHONPATH", ""),
        AWS_EC2_METADATA_SERVICE_ENDPOINT=os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"],
    )
    watching = nodes.processes.start("spot", command, environment, Path.cwd())

    def notify() -> None:
        assert training_on(nodes) == left
        metadata.notice = {"action": "terminate", "time": time.strftime("%FT%TZ", time.gmtime(time.time() + 120))}
        wait_until(lambda: watching.poll() is not None, 60, "the drain")
        nodes.add(3)

    taker = Taker(place, "two", notify)
    taker.start()
    outcome = train.fit(place.run("two", workers=2), max_failures=0)
    taker.join(60)

    assert taker.taken and not nodes.trainings(left)
    assert outcome.ended == undisturbed.ended == FINISHED
    assert place.losses("two") == place.losses("two-whole")
    assert "Ray drains node" in place.of("two").data.tags["miseg.preempted"]


@pytest.mark.long
def test_a_pod_that_kubernetes_ends_is_held_until_its_node_has_left(nodes):
    """As cluster/kuberay.yaml runs it before a pod ends; a second time there is nothing to wait for."""
    nodes.add(7)
    command = [sys.executable, "-m", "miseg.service.cloud.spot", nodes.address, "--cloud", "kubernetes"]
    command += ["--node-ip", "127.0.0.8"]
    environment = nodes.processes.environment(RAY_AUTH_MODE="disabled", PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    for said in ("Ray drains ", "not drained yet: no live node"):
        ending = nodes.processes.start("pod", command, environment, Path.cwd())
        assert ending.wait(60) == 0
        assert said in nodes.processes.text("pod")
        assert 7 not in nodes.alive()


@pytest.mark.long
def test_sigterm_closes_a_driver_s_runs_and_resume_goes_on(nodes, place):
    """As `ray job stop` sends it."""
    storage = place.folder / "stopped"
    command = [sys.executable, "jobs/tune_rmi.py", "--data", place.experiment.data, "--storage", str(storage)]
    command += [
        "--name",
        "stopped",
        "--trials",
        "1",
        "--confirm-seeds",
        "1",
        "--steps",
        "200",
        "--address",
        nodes.address,
    ]
    environment = nodes.processes.environment(
        RAY_AUTH_MODE="disabled",
        PYTHONPATH=os.environ.get("PYTHONPATH", ""),
        MLFLOW_TRACKING_URI=place.uri,
        HOME=os.environ["HOME"],
    )
    first = nodes.processes.start("stopped", command, environment, ROOT)
    wait_until(lambda: place.step("stopped") >= 20, 120, "step 20", [first])
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 130, nodes.processes.text("stopped")
    wait_until(lambda: not any(nodes.trainings(number) for number in nodes.alive()), 30, "the end of the trial")
    client = MlflowClient(place.uri)
    runs = [run for run in all_runs(client, place) if run.data.tags["miseg.run"].startswith("stopped")]
    assert len(runs) == 2, "the tuning and its trial"
    for run in runs:
        assert run.info.status == "KILLED" and run.data.tags["miseg.ended"] == "interrupted; --resume continues"

    again = nodes.processes.start("resumed", [*command, "--resume"], environment, ROOT)
    assert again.wait(200) == 0, nodes.processes.text("resumed")
    for run in all_runs(client, place):
        if run.data.tags["miseg.run"].startswith("stopped"):
            assert run.info.status == "FINISHED"
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
            assert steps == list(range(len(steps)))


def all_runs(client: MlflowClient, place: Place) -> list[Any]:
    experiment = client.get_experiment_by_name(mlflow_runs.experiment_name(place.experiment.data))
    return client.search_runs([experiment.experiment_id])


@pytest.mark.long
def test_a_node_that_is_reserved_and_drains_for_ever_is_ended_by_the_budget_guard(nodes: SpotNodes) -> None:
    nodes.add(8)
    group = placement_group([{"CPU": 1}], "STRICT_PACK", _soft_target_node_id=nodes.alive()[8])
    assert group.wait(60) and ray.util.placement_group_table(group)["bundles_to_node_id"][0] == nodes.alive()[8]
    node = SimpleNamespace(
        node_id=nodes.alive()[8], node_status="RUNNING", ray_node_type_name="spot", total_resources=dict
    )
    seen = SimpleNamespace(active_nodes=[node], idle_nodes=[])
    stop = draining.Stop(nodes.address, lambda: None, notice=4.0, settle=2.0)
    stop.look(seen, spent=True)

    @ray.remote(num_cpus=1, scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    def train_there() -> None:
        pass

    waits = train_there.remote()
    assert ray.wait([waits], timeout=4)[0] == [] and 8 in nodes.alive(), "Ray starts nothing there, and keeps it"
    stop.look(seen, spent=False)
    wait_until(lambda: 8 not in nodes.alive(), 60, "the end of the node")
    ray.cancel(waits, force=True)
    remove_placement_group(group)
