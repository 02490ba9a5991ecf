"""Runs that were recorded without a server, brought to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Experiment, Param, Run, RunTag

from miseg.service.tracking import mlflow_runs, models, registry, views
from miseg.service.tracking.queries import all_pages
from miseg.service.tracking.run_store import RunStore, ensure_experiment

SYNCED = "miseg.synced"
"""Tag of an offline run: the run at the server that has all of it."""

ORIGIN = "miseg.offline_run"
"""Tag of a run at the server: the offline run that it is a copy of."""

ENTRIES = 1000
"""Metrics that MLflow takes at a time; of parameters and tags it takes 100."""


class Synced(NamedTuple):
    """Result of sending the offline runs."""

    sent: list[str]
    """Names of those that the server has now and had not."""
    sent_before: int
    """Runs that it had before."""
    running: list[str]
    """Names of those that are not closed, or whose parent is not: they are sent once they are."""


def recorded(offline: str) -> bool:
    """Whether there is such a store."""
    return bool(offline) and Path(offline.removeprefix("sqlite:///")).exists()


def sync(offline: str, target: RunStore) -> Synced:
    """Copy every closed run of the MLflow store at the URI `offline` to `target`, parents before their children.

    Metrics keep their steps and times, so that an interrupted copy is completed by the next and nothing is there twice.

    Raises:
        TrackingError: the server does not answer; what was sent before stays sent.
    """
    mlflow_runs.check(target.tracking_uri, target.storage)
    source = MlflowClient(offline)
    synced = Synced([], 0, [])
    copies: dict[str, str] = {}
    sent_before, waiting = 0, set()
    for experiment, run in _runs(source):
        if SYNCED in run.data.tags:
            copies[run.info.run_id] = run.data.tags[SYNCED]
            sent_before += 1
        elif run.info.status == "RUNNING" or run.data.tags.get("mlflow.parentRunId") in waiting:
            waiting.add(run.info.run_id)
            synced.running.append(run.info.run_name)
        else:
            with mlflow_runs.reachable(target.tracking_uri):
                copies[run.info.run_id] = _copy(offline, target, experiment, run, copies)
            source.set_tag(run.info.run_id, SYNCED, copies[run.info.run_id])
            synced.sent.append(run.info.run_name)
    return synced._replace(sent_before=sent_before)


def _runs(source: MlflowClient) -> Iterator[tuple[Experiment, Run]]:
    """All runs, the earliest first: a parent was there before its children."""
    runs = [
        (experiment, run)
        for experiment in all_pages(source.search_experiments)
        for run in all_pages(source.search_runs, experiment_ids=[experiment.experiment_id])
    ]
    yield from sorted(runs, key=lambda pair: pair[1].info.start_time)


def _copy(offline: str, store: RunStore, experiment: Experiment, run: Run, copies: dict[str, str]) -> str:
    uri = store.tracking_uri
    source, target = MlflowClient(offline), MlflowClient(uri)
    experiment_id = ensure_experiment(target, experiment.name, store)
    run_id, tags = run.info.run_id, dict(run.data.tags) | {ORIGIN: run.info.run_id}
    if parent := tags.get("mlflow.parentRunId"):
        tags["mlflow.parentRunId"] = copies.get(parent, parent)
    begun = target.search_runs([experiment_id], f"tags.`{ORIGIN}` = '{run_id}'", max_results=1)
    if begun:
        copy = begun[0].info.run_id
    else:
        # Alone with what names it, so that a copy which is cut off here is found again.
        origin_tags = {
            key: value for key, value in tags.items() if key in (ORIGIN, "mlflow.user", "mlflow.parentRunId")
        }
        created = target.create_run(
            experiment_id, start_time=run.info.start_time, tags=origin_tags, run_name=run.info.run_name
        )
        copy = created.info.run_id
    has = target.get_run(copy).data.params
    params = [Param(key, value) for key, value in run.data.params.items() if key not in has]
    for start in range(0, len(params), 100):
        target.log_batch(copy, params=params[start : start + 100])
    described = [RunTag(key, value) for key, value in tags.items()]
    for start in range(0, len(described), 100):
        target.log_batch(copy, tags=described[start : start + 100])
    if run.inputs is not None and run.inputs.dataset_inputs:
        target.log_inputs(copy, run.inputs.dataset_inputs)
    for key in run.data.metrics:
        values = source.get_metric_history(run_id, key)
        for start in range(0, len(values), ENTRIES):
            target.log_batch(copy, metrics=values[start : start + ENTRIES])
    with tempfile.TemporaryDirectory() as folder:
        for artifact in source.list_artifacts(run_id):
            path = Path(source.download_artifacts(run_id, artifact.path, folder))
            if path.is_dir():
                target.log_artifacts(copy, str(path), artifact.path)
            else:
                target.log_artifact(copy, str(path))
    roles = {models.role_of(model) for model in models.of_run(uri, copy)}
    for role in {models.role_of(model) for model in models.of_run(offline, run_id)} - roles:
        with tempfile.TemporaryDirectory() as folder:
            models.log_model(uri, copy, role, models.download(offline, run_id, role, folder))
    for version in registry.of_run(offline, run_id):
        registry.register(uri, copy, version.name, version.tags.get(registry.METRIC, ""), version.tags)
    views.save(uri, copy)
    target.set_terminated(copy, run.info.status, run.info.end_time)
    return copy
