"""Trained models under names: `models:/<data>-<method>@best` is the best one of a method on a data set.

One registered model for a method and a data set: its versions answer in the same classes, and what selected them is the
same score. Of other methods an objective without labels says nothing. `best` compares only versions that were measured
alike, see `CONDITIONS`: a score at another size, or of clearer chips, is of other pixels, and one after more steps or
from more labels says nothing for the settings. Objectives on held-out images compare too where they are computed
alike.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from miseg.file_names import last_name
from miseg.json_values import parse
from miseg.metric_names import OBJECTIVE_SINCE, OBJECTIVE_TAG, VALIDATION_MEAN_IOU, VALIDATION_OBJECTIVE
from miseg.recipes.experiment import LABELLED_PIXELS
from miseg.service.tracking.connection import UNREACHABLE, TrackingError

BEST = "best"
"""Alias of a registered model's best version, and the role of the model that is registered of a run."""

METRIC, SCORE, DATA = "miseg.metric", "miseg.score", "miseg.data_fingerprint"
"""Tags of a version: what it was selected by, its value, and the data on which that was measured."""

CLASSES = "miseg.classes"
"""Tag of a version: the names of its classes, a JSON list."""

CONDITIONS = {
    "augmentation.resize": "miseg.size",
    "steps": "miseg.steps",
    "label_budget": "miseg.label_budget",
    "pairs.min_valid": "miseg.min_valid",
}
"""Parameters of a run -> tags of its version: what must be equal, beside metric and data, where scores are compared."""

KEPT = ("miseg.method", "miseg.data", DATA, "miseg.experiment_id", "mlflow.source.git.commit", OBJECTIVE_TAG)
"""Tags that a version has from its run."""


def labels_of(params: Mapping[str, str]) -> str | None:
    """The labels that a run's score is from, by its parameters; None where it does not say."""
    budget = params.get("label_budget")
    if params.get("examples") != "image":
        return budget
    return f"{LABELLED_PIXELS if budget in (None, 'None') else budget} of each image's own"


def clearness_of(params: Mapping[str, str]) -> str | None:
    """The share of a chip's pixels that must be valid for a run's score to be of it; None where every image counts."""
    return params.get("pairs.min_valid") if "encoder.patch" in params else None


def _conditions_of(params: Mapping[str, str]) -> dict[str, str]:
    """Tags of a version by its run's parameters, as far as these say."""
    values = {tag: params.get(name) for name, tag in CONDITIONS.items()}
    values |= {CONDITIONS["label_budget"]: labels_of(params), CONDITIONS["pairs.min_valid"]: clearness_of(params)}
    return {tag: value for tag, value in values.items() if value is not None}


def name_of(method: str, data: str) -> str:
    """The name for the models of a method's configuration on a data set: RegionMutualInformation on camvid is
    camvid-region-mutual-information."""
    data_name = re.sub(r"[^\w.-]", "-", last_name(data))
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", method).lower()
    return f"{data_name}-{words}"


def check_name(name: str) -> None:
    """Raise ValueError where MLflow takes no such name, or an address cannot hold it."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"--register {name!r}: use letters, digits, points, hyphens and underscores")


def register(uri: str, run_id: str, name: str, metric: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
    """Register a run's best model as a version of `name`; the version that is there where it was registered before.

    The alias `best` then stands at the version of the highest score, of those that were measured as the one that it
    stood at: by the same metric on the same data, and as `CONDITIONS` say. Another one never takes it.

    Args:
        uri: the MLflow server or store.
        run_id: the run.
        name: the registered model, which is made where it is not there.
        metric: what selected the model, such as val/mean_iou; val/mean_iou where the run has no such metric.
        tags: further tags of the version.

    Raises:
        TrackingError: the run has no such model, or not yet.
        MlflowException: MLflow does not answer, or takes no such name.
    """
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    model = _model(uri, run_id)
    measured = {metric_of_model.key: metric_of_model.value for metric_of_model in model.metrics or []}
    chosen = metric if metric in measured else VALIDATION_MEAN_IOU
    version_tags = {key: run.data.tags[key] for key in KEPT if key in run.data.tags} | dict(tags or {})
    version_tags |= _conditions_of(run.data.params)
    version_tags |= {METRIC: chosen} | (
        {SCORE: repr(measured[chosen])} if math.isfinite(measured.get(chosen, math.nan)) else {}
    )
    with contextlib.suppress(MlflowException):  # it is there; of another error the next request tells
        client.create_registered_model(
            name, tags=_shared(version_tags), description=_model_description(version_tags, chosen)
        )
    if not _of_run(client, name, run_id):
        client.create_model_version(
            name,
            # Its files: by the model's id a store that is no server looks for it where MLflow's settings point.
            source=model.artifact_location,
            run_id=run_id,
            tags=version_tags,
            description=_version_description(run, version_tags),
            model_id=model.model_id,
        )
    # Asked anew: a second machine may have sent the same, and of an answer that was lost the client asks again.
    version, *duplicates = _of_run(client, name, run_id)
    for duplicate in duplicates:
        client.delete_model_version(name, duplicate.version)
    _move_best(client, name, version)
    return client.get_model_version(name, version.version)


def best(uri: str, name: str) -> ModelVersion | None:
    """The version at which `best` stands; None where there is none."""
    client = MlflowClient(uri)
    version = _best_of(client, name)
    return None if version is None else client.get_model_version(name, version)


def describe_best(uri: str, name: str, run_id: str = "") -> str:
    """A line for the user: which version of `name` is the best and how it was measured, or that it is registered later.

    Where the version of `run_id` was not compared with that one, a second line says why.
    """
    client = MlflowClient(uri)
    try:
        version = best(uri, name)
        own = next(iter(_of_run(client, name, run_id)), None) if run_id else None
        measured = [None if one is None else _measured(client, one) for one in (version, own)]
    except UNREACHABLE:
        version = None
    if version is None:
        return f"models:/{name}@{BEST} is there once MLflow has all that waits for it"
    line = f"models:/{name}@{BEST} is version {version.version}{_scored(version, measured[0])}"
    if own is None or measured[0] == measured[1] or SCORE not in own.tags:
        return line
    return (
        f"{line}\nmodels:/{name}/{own.version}{_scored(own, measured[1])}, was measured otherwise, so the two are not "
        f"compared and {BEST} stays; set the alias {BEST} to version {own.version} in MLflow to have it follow that one"
    )


def _scored(version: ModelVersion, measured: Mapping[str, str | None] | None) -> str:
    """A version's score, and the conditions that it holds under."""
    if SCORE not in version.tags:
        return ""
    values = dict(measured or {})
    size, steps, labels, clear = (values.get(tag) or "unknown" for tag in CONDITIONS.values())
    conditions = [
        f"data {values.get(DATA)}",
        "images of their own size" if size == "None" else f"size {size.strip('[]()').replace(', ', 'x')}",
        f"{steps} steps",
        "all labels, or the method's number" if labels == "None" else f"{labels} labels",
    ]
    if clear != "unknown":
        conditions.append(f"chips of which {float(clear):.0%} or more is valid")
    if OBJECTIVE_TAG in values:
        since = values[OBJECTIVE_TAG]
        conditions += [f"objective as computed since {since}" if since else f"objective of before {OBJECTIVE_SINCE}"]
    return f", {version.tags[METRIC]} {float(version.tags[SCORE]):.4f} ({', '.join(conditions)})"


def _measured(client: MlflowClient, version: ModelVersion) -> dict[str, str | None]:
    """Metric, data and conditions of a version's score; of an earlier miseg's version, as its run says."""
    values = {tag: version.tags.get(tag) for tag in (METRIC, DATA, *CONDITIONS.values())}
    if version.run_id and None in values.values():
        with contextlib.suppress(MlflowException):  # the run was deleted
            of_run = _conditions_of(client.get_run(version.run_id).data.params)
            values |= {tag: value for tag, value in of_run.items() if values[tag] is None}
    if values[METRIC] == VALIDATION_OBJECTIVE:
        values[OBJECTIVE_TAG] = version.tags.get(OBJECTIVE_TAG)
    return values


def of_run(uri: str, run_id: str) -> list[ModelVersion]:
    """The versions that a run's models were registered as."""
    return list(MlflowClient(uri).search_model_versions(f"run_id = '{run_id}'"))


def _model(uri: str, run_id: str) -> LoggedModel:
    # Only where a model is registered: it brings MLflow's models along.
    from miseg.service.tracking import models

    for model in models.of_role(uri, run_id, BEST):
        if model.status == LoggedModelStatus.READY:
            return model
    raise TrackingError(f"run {run_id} at {uri} holds no model {BEST}, so none is registered")


def _of_run(client: MlflowClient, name: str, run_id: str) -> list[ModelVersion]:
    return [version for version in _versions(client, name) if version.run_id == run_id]


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))


def _best_of(client: MlflowClient, name: str) -> str | None:
    version = client.get_registered_model(name).aliases.get(BEST)
    return None if version is None else str(version)


def _move_best(client: MlflowClient, name: str, registered: ModelVersion) -> None:
    # MLflow has no comparison with what was there: others may register meanwhile. Whoever moved the alias looks once
    # more, so that the last move of all is one that was looked at after every version was there.
    while True:
        versions = _versions(client, name)
        current = _best_of(client, name)
        standing = next((version for version in versions if str(version.version) == current), registered)
        highest = _highest(client, versions, standing)
        if highest is None or str(highest.version) == current:
            return
        client.set_registered_model_alias(name, BEST, str(highest.version))


def _highest(client: MlflowClient, versions: Sequence[ModelVersion], standing: ModelVersion) -> ModelVersion | None:
    """The best version of those that were measured as `standing` was; of equal ones the earliest."""
    if SCORE not in standing.tags:
        return None  # of what somebody else put there nothing is known
    measured = _measured(client, standing)
    rivals = [version for version in versions if SCORE in version.tags and _measured(client, version) == measured]
    return max(rivals, key=lambda version: (float(version.tags[SCORE]), -int(version.version)), default=None)


def _shared(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: tags[key] for key in ("miseg.method", "miseg.data") if key in tags}


def _model_description(tags: Mapping[str, str], metric: str) -> str:
    return (
        f"{tags.get('miseg.method', 'Models')} on {tags.get('miseg.data', 'their data')}. The alias `{BEST}` stands at "
        f"the version of the highest {metric} of those that were measured alike: on one state of the data (tag "
        f"`{DATA}`), at one size, after as many steps, with as many labels, of chips as clear "
        f"({', '.join(CONDITIONS.values())})"
        f"{f', by one manner of computing it ({OBJECTIVE_TAG})' * (metric == VALIDATION_OBJECTIVE)}.\n\n"
        "Takes images [N, H, W, C], of the type in its signature, and answers class probabilities [N, K, H, W]."
    )


def _version_description(run: Run, tags: Mapping[str, str]) -> str:
    params, named = run.data.params, parse(tags.get(CLASSES, "[]"))
    score = f"{tags[METRIC]} {float(tags[SCORE]):.4f}" if SCORE in tags else "not measured"
    classes = f"\n\nClasses: {', '.join(named)}." if named else ""
    return (
        f"{run.info.run_name}: {score}; {params.get('steps', '?')} steps, seed {params.get('seed', '?')}, data "
        f"{tags.get(DATA, 'unknown')}.{classes}"
    )
