"""Many trials in a row, most of them stopped early, leave nothing behind."""

import os
import re
import signal
import time
from dataclasses import replace

import pandas as pd
import psutil
import pytest
import ray
from ray.util.placement_group import placement_group

from miseg.recipes import spaces
from miseg.service.cluster import ray_cluster
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from miseg.service.training.run import FINISHED
from miseg.service.tuning import tune
from miseg.service.tuning.tuning import Tuning
from tests.support.cloud.own_ray import actors

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("ray_here")]


@pytest.fixture(scope="module")
def before() -> set[str]:
    """The actors of tests that used this Ray before, such as those that Ray Data keeps for a driver's pipelines."""
    return set(actors())


@pytest.fixture(scope="module", params=[12, pytest.param(30, marks=pytest.mark.long)])
def trials(request, small, tiny, tmp_path_factory, before) -> pd.DataFrame:
    """A row a trial of a search; two at a time."""
    folder = tmp_path_factory.mktemp("storage")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow_runs.check(uri, str(folder))
    base = replace(tiny, steps=6, validate_every=1)
    tuning = Tuning(
        name="many",
        base=base,
        space=spaces.region_mutual_information,
        default_point=spaces.region_mutual_information.point(base),
        rivals={},
        tuned="RMI tuned",
        data=small.uri,
        storage=str(folder),
        tracking_uri=uri,
        resources=replace(ray_cluster.resources(1, 2), cpus=2),
        trials=request.param,
        confirm_seeds=1,
    )
    parent = mlflow_runs.open_run(RunStore(str(folder), uri), mlflow_runs.experiment_name(base.data), tuning.name)
    return tune.search(tuning, parent)


def in_time(there: object, seconds: float = 20) -> bool:
    """Whether what `there` returns becomes empty soon: processes take a moment to end."""
    deadline = time.monotonic() + seconds
    while (left := there()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left


def test_every_trial_is_a_whole_one_or_was_stopped_at_a_validation(trials):
    assert trials["run_id"].nunique() == len(trials) in (12, 30)
    whole = trials["ended"] == FINISHED
    early = trials["ended"].str.fullmatch(r"stopped early by ASHA at step \d+")
    assert (whole ^ early).all(), trials[["step", "ended"]]
    assert early.sum() >= len(trials) / 3 and (trials.loc[whole, "step"] == 6).all()
    # A trial waits at each validation for what the scheduler says: none runs on past its end.
    assert set(trials.loc[early, "step"]) <= {1, 3}


def test_no_placement_group_actor_or_process_is_left(trials, before):
    def groups() -> list[dict]:
        return [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]

    def left() -> list[str]:
        return [name for actor, name in actors().items() if actor not in before]

    assert in_time(groups), groups()
    assert in_time(left), left()

    raylet = ray._private.worker._global_node.all_processes["raylet"][0].process.pid

    def processes() -> list[str]:
        titles = []
        for child in psutil.Process(raylet).children(recursive=True):
            try:
                titles.append(" ".join(child.cmdline()))
            except psutil.Error:  # it ended meanwhile
                continue
        return [title for title in titles if "ImplicitFunc" in title]

    assert in_time(processes), processes()


def test_what_the_trials_held_is_free_again(trials):
    offered = ray.cluster_resources()
    assert in_time(lambda: [kind for kind in ("CPU",) if ray.available_resources().get(kind, 0) < offered[kind]])


@pytest.mark.long
def test_trials_of_two_workers_train_under_ray_train(small, tiny, uri, tmp_path):
    base = replace(tiny, steps=4, validate_every=2)
    point = spaces.region_mutual_information.point(base)
    tuning = Tuning(
        name="pairs",
        base=base,
        space=spaces.region_mutual_information,
        default_point=point,
        rivals={},
        tuned="RMI tuned",
        data=small.uri,
        storage=str(tmp_path),
        tracking_uri=uri,
        resources=replace(ray_cluster.resources(2, 1), cpus=2),
        trials=2,
        confirm_seeds=1,
        grid={name: [value] for name, value in point.items()} | {"region_size": [2, 3]},
    )
    parent = mlflow_runs.open_run(RunStore(str(tmp_path), uri), mlflow_runs.experiment_name(base.data), tuning.name)
    found = tune.search(tuning, parent)
    assert list(found["ended"]) == [FINISHED] * 2 and list(found["step"]) == [4, 4]
    assert sorted(found["params/region_size"]) == [2, 3] and found["mean_iou"].notna().all()


@pytest.mark.faults
def test_trials_that_fail_are_rows_with_their_reason_and_the_tuning_goes_on(small, tiny, uri, tmp_path, monkeypatch):
    """One diverges, one raises; what they were is in the table beside the others, and neither is the best."""
    monkeypatch.setattr(tune, "TRIAL_FAILURES", 1)
    base = replace(tiny, steps=4, validate_every=2)
    point = spaces.region_mutual_information.point(base)
    tuning = Tuning(
        name="failing",
        base=base,
        space=spaces.region_mutual_information,
        default_point=point,
        rivals={"diverging": replace(base, optimiser=replace(base.optimiser, learning_rate=1e30))},
        tuned="RMI tuned",
        data=small.uri,
        storage=str(tmp_path),
        tracking_uri=uri,
        resources=replace(ray_cluster.resources(1, 2), cpus=2),
        trials=4,
        confirm_seeds=1,
        # A region of 9 x 9 does not fit into the 8 x 8 that downsampling leaves of a crop: no experiment can be made.
        grid={name: [value] for name, value in point.items()} | {"learning_rate": [3e-3, 1e30], "region_size": [3, 9]},
    )
    report = tune.run(tuning)
    found = report.trials.set_index(["params/learning_rate", "params/region_size"])["ended"]
    assert found[3e-3, 3] == FINISHED
    assert re.match(r"the loss is \S+ at step \d \(learning rate .*, images train/", found[1e30, 3])
    for learning_rate in (3e-3, 1e30):
        assert found[learning_rate, 9].startswith("failed: downsampling factor 4 with region size 9 needs images")
    confirmed = report.confirmation.set_index("row")
    assert confirmed["ended"]["RMI tuned"] == FINISHED and confirmed["mean_iou"].notna()["RMI tuned"]
    [failure] = report.failures
    assert re.match(r"diverging seed 1: the loss is \S+ at step \d", failure)
    assert replace(report, confirmation=report.confirmation.query("row == 'RMI tuned'")).failures == []
    assert replace(report, trials=report.trials.iloc[:0]).failures[0] == "no trial has a score"


@pytest.mark.faults
def test_what_a_killed_actor_held_is_freed_and_a_drivers_own_stays():
    @ray.remote(num_cpus=0)
    class Holder:
        def hold(self) -> tuple[int, str]:
            group = placement_group([{"CPU": 0.1}])
            ray.get(group.ready())
            return os.getpid(), group.id.hex()

    def state(group: str) -> str:
        return ray.util.placement_group_table()[group]["state"]

    own = placement_group([{"CPU": 0.1}])
    ray.get(own.ready())
    holder = Holder.remote()
    pid, held = ray.get(holder.hold.remote())
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(holder.hold.remote())
    assert state(held) == "CREATED", "Ray frees it by itself: free_abandoned is not needed any more"
    assert in_time(lambda: [ray_cluster.free_abandoned(), state(held) != "REMOVED"][1])
    assert state(own.id.hex()) == "CREATED"
    ray.util.remove_placement_group(own)
