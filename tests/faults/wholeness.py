"""What must be the same after a kill, and what must not be left behind."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.service.checkpoints.checkpoint_files import MANIFEST, CheckpointError, verify
from miseg.service.tracking import mlflow_runs, queries

History = dict[str, list[tuple[int, str]]]
"""Steps and values of each metric, as they are stored: a step that was logged twice is there twice."""

OF_THE_MACHINE = ("system/", "images_per_second")
"""Metrics that say how fast a machine was."""
STEP = "step"


def history(client: MlflowClient, run: Run) -> History:
    """What a run has logged, by metric and step."""
    found: History = {}
    for key in run.data.metrics:
        if not key.startswith(OF_THE_MACHINE):
            logged = client.get_metric_history(run.info.run_id, key)
            found[key] = sorted((metric.step, repr(metric.value)) for metric in logged)
    # How far a run got is logged whenever it is closed, and so once more for each interruption.
    if STEP in found:
        found[STEP] = found[STEP][-1:]
    return found


def histories(uri: str, data: str, work: str) -> dict[str, History]:
    """What the trainings of a work called `work` have logged, by experiment id.

    Raises:
        ValueError: one that did not end as it should, or that is there twice.
    """
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(mlflow_runs.experiment_name(data))
    found: dict[str, History] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=10_000):
        name, key = run.data.tags[queries.RUN_KEY], run.data.tags["miseg.experiment_id"]
        if "miseg.method" not in run.data.tags or not f"{name}-".startswith(f"{work}-"):
            continue
        if run.info.status != "FINISHED" or run.data.tags.get("miseg.ended") != "finished":
            raise ValueError(f"{name} is {run.info.status}: {run.data.tags.get('miseg.ended')}")
        if key in found:
            raise ValueError(f"{name} is there twice")
        found[key] = history(client, run)
    return found


def differences(expected: dict[str, History], found: dict[str, History]) -> list[str]:
    """What differs between undisturbed trainings and others, in words."""
    told = [f"{key} was not trained" for key in expected.keys() - found.keys()]
    told += [f"{key} was trained beside what was asked for" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        for metric in sorted(expected[key].keys() | found[key].keys()):
            want, have = expected[key].get(metric, []), found[key].get(metric, [])
            steps = [step for step, _ in have]
            if steps != [step for step, _ in want]:
                told.append(f"{key} {metric}: logged at {steps}")
            elif want != have:
                step = next(step for (step, a), (_, b) in zip(want, have, strict=True) if a != b)
                told.append(f"{key} {metric}: another value from step {step} on")
    return told


def checkpoints_not_whole(runs: Path) -> list[str]:
    """Folders of checkpoints under the runs of a storage that are not whole, and what was left of their writing."""
    told = []
    for folder in sorted(path for path in runs.glob("*/*") if path.is_dir() and "step-" in path.name):
        if folder.name.startswith("."):
            told.append(f"{folder} was left")
            continue
        try:
            verify(folder)
        except CheckpointError as error:
            told.append(str(error))
    return told


def last_checkpoint(folder: Path) -> int:
    """The step of the last whole checkpoint of a run's folder; 0 where there is none."""
    return max((int(path.parent.name.removeprefix("step-")) for path in folder.glob(f"step-*/{MANIFEST}")), default=0)
