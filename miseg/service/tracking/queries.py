"""Queries of MLflow: searches of any length, runs by name, parent and kind, and what they hold."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from miseg.json_values import parse
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.service.tracking.connection import TrackingError, is_away, missing
from miseg.settings import differing

RUN_KEY = "miseg.run"
"""The tag with a run's name: one process at a time works at a name, and a name that exists goes on."""


PAGE = 1000
"""Entries of a page, the most that every MLflow server takes."""


def all_pages(search: Callable[..., Any], **settings: Any) -> list[Any]:
    """Every entry that a search of MLflow's client gives, in the order of its pages.

    Args:
        search: a method of `MlflowClient` that takes `max_results` and `page_token`, such as `search_runs`.
        settings: its other arguments.
    """
    entries: list[Any] = []
    token: str | None = None
    while True:
        page = search(**settings, max_results=PAGE, page_token=token)
        entries += page
        token = page.token
        if not token:
            return entries


def find_run(uri: str, experiment: str, name: str) -> Run | None:
    """The run whose `miseg.run` tag is `name`."""
    client = MlflowClient(uri)
    mlflow_experiment = client.get_experiment_by_name(experiment)
    runs = runs_named(client, mlflow_experiment.experiment_id, name) if mlflow_experiment else []
    return runs[0] if runs else None


def runs_named(client: MlflowClient, experiment_id: str, name: str) -> list[Run]:
    """The runs whose `miseg.run` tag is `name`, the earliest first."""
    runs = client.search_runs([experiment_id], named(name))
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def children(uri: str, experiment: str, parent: str) -> list[Run]:
    """Every run whose parent is `parent`."""
    client = MlflowClient(uri)
    mlflow_experiment = client.get_experiment_by_name(experiment)
    if mlflow_experiment is None:
        return []
    filter_string = f"tags.`mlflow.parentRunId` = '{parent}'"
    return all_pages(client.search_runs, experiment_ids=[mlflow_experiment.experiment_id], filter_string=filter_string)


def latest_run(uri: str, experiment: str, kind: str) -> Run | None:
    """The run that was started last of those whose tag `miseg.kind` is `kind`."""
    client = MlflowClient(uri)
    mlflow_experiment = client.get_experiment_by_name(experiment)
    if mlflow_experiment is None:
        return None
    runs = client.search_runs(
        [mlflow_experiment.experiment_id], f"tags.`miseg.kind` = '{kind}'", order_by=["start_time DESC"], max_results=1
    )
    return runs[0] if runs else None


def history(uri: str, run_id: str, key: str) -> dict[int, float]:
    """A metric's values by step."""
    return {metric.step: metric.value for metric in MlflowClient(uri).get_metric_history(run_id, key)}


def read_experiment(uri: str, run_id: str) -> Experiment:
    """The Experiment that a run trained.

    Raises:
        TrackingError: no such run, or it holds no experiment.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = MlflowClient(uri).download_artifacts(run_id, "experiment.json", folder)
            return from_dict(parse(Path(path).read_bytes()))
    except (MlflowException, OSError) as error:
        problem = "" if is_away(error) else f"run {run_id} at {uri} holds no experiment.json{instead(uri, run_id)}"
        raise missing(uri, problem, error) from error


def difference(uri: str, run_id: str, experiment: Experiment) -> str:
    """Settings in which an experiment differs from a run's, as the command line has them; "" where that is unknown."""
    try:
        then = to_dict(read_experiment(uri, run_id))
    except (TrackingError, ValueError):
        return ""
    pairs = differing(then, to_dict(experiment))
    words = [f"--{path.replace('_', '-')} {after}, then {before}" for path, (before, after) in pairs.items()]
    return f"; they differ in {', '.join(words)}" if words else ""


def read_json(uri: str, run_id: str, name: str) -> Any:
    """The value of a run's JSON artifact `name`, of its top folder; None where the run has none.

    Raises:
        TrackingError: MLflow does not answer, or what it holds is no JSON.
    """
    client = MlflowClient(uri)
    try:
        if not any(file.path == name for file in client.list_artifacts(run_id)):
            return None
        with tempfile.TemporaryDirectory() as folder:
            return parse(Path(client.download_artifacts(run_id, name, folder)).read_bytes(), finite=False)
    except (MlflowException, OSError, ValueError) as error:
        raise missing(uri, f"{name} of run {run_id} at {uri} cannot be read", error) from error


def instead(uri: str, run_id: str) -> str:
    """Hint at the run that a user may mean by this id, where it is no training: ids in reports are of several kinds."""
    try:
        tags = MlflowClient(uri).get_run(run_id).data.tags
    except (MlflowException, OSError):
        return ""
    kind, parent = tags.get("miseg.kind", ""), tags.get("mlflow.parentRunId", "")
    if kind in ("evaluation", "maps") and parent:
        return f" (it is of the kind {kind}: use run {parent}, whose model that was)"
    if kind in ("tuning", "study"):
        return f" (it is of the kind {kind}: use one of its trials)"
    return ""


def named(name: str) -> str:
    """The filter for the run of a name; MLflow takes either quotation mark, but no escapes.

    Raises:
        ValueError: a name with both.
    """
    if "'" in name and '"' in name:
        raise ValueError(f"name = {name}: use no more than one kind of quotation mark")
    mark = '"' if "'" in name else "'"
    return f"tags.`{RUN_KEY}` = {mark}{name}{mark}"
