"""Runs in MLflow: how they are named, what they carry, how they end.

Experiment `miseg/<data>`; a tuning is a parent run, each trial a child. Parameters carry the papers' names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from miseg.locks import locked
from miseg.metric_names import OBJECTIVE_SINCE, OBJECTIVE_TAG
from miseg.recipes.experiment import Experiment, to_dict
from miseg.service.cluster.uris import check_tracking, database, keys_masked
from miseg.service.tracking.connection import UNREACHABLE, TrackingError, patiently, reachable, unreachable
from miseg.service.tracking.description import code_tags, parameters
from miseg.service.tracking.pages import tables
from miseg.service.tracking.queries import RUN_KEY, runs_named
from miseg.service.tracking.run_store import RunDetails, RunStore, ensure_experiment, experiment_name
from miseg.service.tracking.sqlite_store import check_place, check_store

LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")

MAKING = 120.0
"""Seconds that another process may take to make a local store."""

FAILURE_PATIENCE = 60.0
"""Seconds that a failure waits for MLflow before it is told."""

LONGEST_TAG = 8000
"""Characters that MLflow takes in a tag of a run."""


def take_login() -> None:
    """Take the user and the password out of $MLFLOW_TRACKING_URI, and into the two variables that MLflow has for them.

    A URI is printed, logged and kept with what a run is made of; these are not. Where they are set they stay.

    Raises:
        ValueError: the URI of a database with a password in it, or keys behind a question mark.
    """
    text = os.environ.get("MLFLOW_TRACKING_URI", "")
    uri = urlsplit(text)
    if keys_masked(text) is not None and keys_masked(urlunsplit(uri._replace(query="", fragment=""))) is None:
        raise ValueError(
            f"MLFLOW_TRACKING_URI = {keys_masked(text)}: keys in it would be printed and kept with the runs; leave "
            "them out, and set MLFLOW_TRACKING_TOKEN, or user and password, in their place"
        )
    login, _, host = uri.netloc.rpartition("@")
    if not login:
        return
    if not uri.scheme.startswith("http"):
        raise ValueError(
            f"MLFLOW_TRACKING_URI = {uri.scheme}://…@{host}: a login would be printed and kept with the runs; give "
            "the http address of an `mlflow server` over the database"
        )
    for name, value in zip(LOGIN, login.split(":", 1), strict=False):
        os.environ.setdefault(name, unquote(value))
    os.environ["MLFLOW_TRACKING_URI"] = urlunsplit(uri._replace(netloc=host))


def tracking_uri(storage: str, offline: bool = False) -> str:
    """$MLFLOW_TRACKING_URI, or the SQLite store under `storage`; `offline` the store of what is sent later.

    Raises:
        ValueError: offline, and the storage is no folder; a folder in which MLflow cannot have a database; or as
            `check_tracking` and `take_login`.
    """
    take_login()
    if offline:
        if "://" in storage:
            raise ValueError(f"--offline: runs are recorded in a folder until they are sent, not in {storage}")
    elif uri := os.environ.get("MLFLOW_TRACKING_URI"):
        check_tracking(uri)
        return uri
    path = database(storage, offline)
    if "://" not in storage:
        check_place(path)
    return f"sqlite:///{path}"


def check(uri: str, storage: str) -> None:
    """Make sure that MLflow answers; a new SQLite store is made here, once, before processes share it.

    Raises:
        TrackingError: it does not.
    """
    with contextlib.ExitStack() as stack:
        if uri.startswith("sqlite:///"):
            path = Path(uri.removeprefix("sqlite:///"))
            path.parent.mkdir(parents=True, exist_ok=True)
            # Two that make its tables at the same moment spoil it for each other.
            try:
                stack.enter_context(locked(path.with_name(f".{path.name}.lock"), MAKING))
            except BlockingIOError as error:
                raise TrackingError(f"{path} is being made by another process for over {MAKING:.0f} s") from error
            except OSError:  # of what can only be read nothing is made
                pass
            check_store(path)
        try:
            MlflowClient(uri).search_experiments(max_results=1)
        except UNREACHABLE as error:
            raise unreachable(uri, error) from error


def open_run(store: RunStore, experiment: str, name: str, details: RunDetails | None = None) -> str:
    """The id of the run whose `miseg.run` tag is `name`: the one that exists, set running again, or a new one.

    Args:
        store: where runs are kept.
        experiment: the name of MLflow's experiment.
        name: of the run; the same name resumes.
        details: what a new run carries.

    Raises:
        TrackingError: the server does not answer.
    """
    details = details or RunDetails()
    client = MlflowClient(store.tracking_uri)
    with reachable(store.tracking_uri):
        experiment_id = ensure_experiment(client, experiment, store)
        if runs := runs_named(client, experiment_id, name):
            client.update_run(runs[0].info.run_id, status="RUNNING")
        else:
            tags = {RUN_KEY: name, "mlflow.user": os.environ.get("USER", "miseg")} | code_tags() | dict(details.tags)
            if details.parent:
                tags["mlflow.parentRunId"] = details.parent
            if details.description:
                tags["mlflow.note.content"] = details.description
            client.create_run(experiment_id, tags=tags, run_name=details.display or name)
            runs = runs_named(client, experiment_id, name)
            for duplicate in runs[1:]:
                # The client asks again where an answer was lost on its way, and the server then makes a second run.
                if not duplicate.data.params and not duplicate.data.metrics:
                    client.delete_run(duplicate.info.run_id)
        run_id, has = runs[0].info.run_id, runs[0].data.params
        # A kill while the run was opened may have left it without parameters; MLflow does not let them change.
        missing = [Param(key, value) for key, value in details.params.items() if key not in has]
        for start in range(0, len(missing), 100):
            client.log_batch(run_id, params=missing[start : start + 100])
        if details.datasets:  # one that it has stays the one
            client.log_inputs(run_id, list(details.datasets))
        return run_id


def objective_tags(experiment: Experiment) -> dict[str, str]:
    """The tag that says how an experiment's objective on held-out images is computed; none where it has none."""
    return {OBJECTIVE_TAG: OBJECTIVE_SINCE} if experiment.supervision == "none" else {}


def open_experiment_run(
    store: RunStore,
    experiment: Experiment,
    name: str,
    fingerprint: str,
    details: RunDetails | None = None,
) -> str:
    """The run of one training, with its description, parameters and tags; `fingerprint` is that of the packed data."""
    kind = type(experiment.method).__name__
    tags = {
        "miseg.experiment_id": experiment.id,
        "miseg.method": kind,
        "miseg.data": experiment.data,
        "miseg.data_fingerprint": fingerprint,
        **objective_tags(experiment),
    }
    details = details or RunDetails()
    whole = replace(
        details,
        tags=tags | dict(details.tags),
        params=parameters(experiment),
        description=f"{kind} on {experiment.data}, {experiment.steps} steps, seed {experiment.seed}",
    )
    run_id = open_run(store, experiment_name(experiment.data), name, whole)
    log_json(store.tracking_uri, run_id, "experiment.json", to_dict(experiment))
    return run_id


def open_model_run(store: RunStore, experiment: Experiment, name: str, kind: str, details: RunDetails) -> str:
    """The run of what is done with a trained model, beside its training's parameters.

    Args:
        store: where runs are kept.
        experiment: what was trained.
        name: as `open_run`.
        kind: "evaluation" or "maps", the tag `miseg.kind`.
        details: further tags, such as those of the data that it was used on, and further parameters; its parent is the
            run that trained the model.
    """
    tags = {
        "miseg.kind": kind,
        "miseg.experiment_id": experiment.id,
        "miseg.method": type(experiment.method).__name__,
        **objective_tags(experiment),
    }
    whole = replace(details, tags=tags | dict(details.tags), params=parameters(experiment) | dict(details.params))
    return open_run(store, experiment_name(experiment.data), name, whole)


def log_json(uri: str, run_id: str, name: str, value: Any, patience: float | None = None) -> None:
    """Keep `value` as the JSON artifact `name` of a run; waits for a server that is away, as all that logs does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_text(json.dumps(value, indent=1))
        log_file(uri, run_id, path, str(Path(name).parent) if "/" in name else None, patience)


def log_metrics(
    uri: str,
    run_id: str,
    values: Mapping[str, float],
    step: int = 0,
    tags: Mapping[str, str] | None = None,
    patience: float | None = None,
) -> None:
    """Log values, and tags with them, on a run; what a training logs step by step goes through a Journal."""
    now = time.time_ns() // 1_000_000
    metrics = [Metric(re.sub(r"[^\w\-. /]", "", key), value, now, step) for key, value in values.items()]
    described = [RunTag(k, v) for k, v in (tags or {}).items()]

    def log() -> None:
        MlflowClient(uri).log_batch(run_id, metrics=metrics, tags=described)

    patiently(uri, f"logging to run {run_id}", log, patience)


def log_table(uri: str, run_id: str, name: str, table: pd.DataFrame) -> None:
    """Keep `table` as the CSV artifact `name` of a run, and beside it as a table that MLflow shows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        table.to_csv(path, index=False)
        log_file(uri, run_id, path)
        log_file(uri, run_id, shown := tables.write(Path(folder), path.stem, table))
    patiently(uri, f"logging {name} to run {run_id}", partial(tables.mark, MlflowClient(uri), run_id, shown.name))


def log_file(uri: str, run_id: str, path: Path, folder: str | None = None, patience: float | None = None) -> None:
    """Keep a file among a run's artifacts."""

    def log() -> None:
        MlflowClient(uri).log_artifact(run_id, str(path), folder)

    patiently(uri, f"logging {path.name} to run {run_id}", log, patience)


def end_run(
    uri: str,
    run_id: str,
    status: str,
    reason: str,
    tags: Mapping[str, str] | None = None,
    patience: float | None = None,
) -> None:
    """Close a run as FINISHED, FAILED or KILLED and say why in the tag `miseg.ended`."""
    ended_ms = time.time_ns() // 1_000_000
    described = [RunTag(key, value) for key, value in ({"miseg.ended": reason[:4000]} | dict(tags or {})).items()]

    def end() -> None:
        client = MlflowClient(uri)
        client.log_batch(run_id, tags=described)
        client.set_terminated(run_id, status, ended_ms)

    patiently(uri, f"closing run {run_id}", end, patience)


def fail_run(uri: str, run_id: str, error: BaseException) -> None:
    """Close a run as FAILED with the error's text; where MLflow stays away the error is told all the same."""
    try:
        end_run(uri, run_id, "FAILED", str(error) or type(error).__name__, patience=FAILURE_PATIENCE)
    except TrackingError as away:
        print(f"run {run_id} stays open: {away}", flush=True)


def interrupt_run(uri: str, run_id: str, mend: str, reason: str = "interrupted") -> None:
    """Close a run as KILLED and say how it continues; where MLflow does not answer at once it stays open."""
    try:
        end_run(uri, run_id, "KILLED", f"{reason}; {mend}", patience=0)
    except TrackingError as away:
        print(f"run {run_id} stays open: {away}", flush=True)
