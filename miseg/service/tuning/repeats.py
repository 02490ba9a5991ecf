"""Repeats: finished trainings and tunings that a store holds already."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.data.packed.dataset import PackedDataset
from miseg.metric_names import OBJECTIVE_SINCE, VALIDATION_MEAN_IOU
from miseg.optimisation.schedules import peak_learning_rate
from miseg.recipes.experiment import Experiment, to_dict
from miseg.service.remarks import remark
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.provenance import code_of

if TYPE_CHECKING:
    from miseg.service.tuning.tuning import Space, Tuning

SETTINGS = "miseg.settings"
"""Tag of a tuning's run: see `settings_of`."""


def trained(uri: str, experiment: Experiment, data: str) -> Run | None:
    """The last run, of its own or of a tuning, that trained `experiment` on the packed data set `data` to its end."""
    fingerprint = PackedDataset.open(data).fingerprint
    tags = {"miseg.experiment_id": experiment.id, "miseg.data_fingerprint": fingerprint, "miseg.ended": "finished"}
    runs = _finished(uri, mlflow_runs.experiment_name(experiment.data), tags)
    return next((run for run in runs if run.data.tags.get("miseg.kind") in (None, "trial")), None)


def tuned(uri: str, tuning: Tuning) -> Run | None:
    """The last tuning that was finished with the settings of `tuning`, whatever it was called."""
    runs = _finished(uri, mlflow_runs.experiment_name(tuning.base.data), {SETTINGS: settings_of(tuning)})
    return next(iter(runs), None)


def training_message(run: Run) -> str:
    """Message on a training that was done before."""
    tags, score = run.data.tags, run.data.metrics.get(VALIDATION_MEAN_IOU)
    origin = f"trial of the tuning {tags['miseg.tuning']}" if "miseg.tuning" in tags else f"run {tags[queries.RUN_KEY]}"
    result = "" if score is None else f", mean IoU {score:.4f}"
    return (
        f"experiment {tags['miseg.experiment_id']} was trained to its end before: MLflow run {run.info.run_id} "
        f"({origin}{result}, {code_of(tags)}). Nothing is trained now; another --seed is another experiment, and a "
        "--name trains this one once more"
    )


def tuning_message(run: Run) -> str:
    """Message on a tuning that was done before."""
    name = run.data.tags[queries.RUN_KEY]
    return (
        f"the same was tuned before: {name}, MLflow run {run.info.run_id}, {code_of(run.data.tags)}. "
        f"Nothing is tuned now; --resume --name {name} prints its tables, another --seed is another tuning, "
        "and a new --name tunes again"
    )


def as_begun(uri: str, name: str, *experiments: Experiment) -> Experiment:
    """The one of some experiments on the same data that the run called `name` trains; the first where none is.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with mlflow_runs.reachable(uri):
        run = queries.find_run(uri, mlflow_runs.experiment_name(experiments[0].data), name)
    trains = None if run is None else run.data.tags.get("miseg.experiment_id")
    return next((experiment for experiment in experiments if experiment.id == trains), experiments[0])


def lengths_message(then: Experiment, now: Experiment) -> str:
    """Message on a warm-up, or else an interval of validations, that the same options made longer before."""
    warm_up, shorter = then.optimiser, now.optimiser
    if warm_up == shorter:
        return f"it was validated every {then.validate_every:,} steps; now it is every {now.validate_every:,}"
    return (
        f"its warm-up took {warm_up.warmup_steps:,} of {then.steps:,} steps, and its learning rate got to "
        f"{peak_learning_rate(then.steps, warm_up):.2g} of {shorter.learning_rate:g}; now it takes "
        f"{shorter.warmup_steps:,}, and gets to {peak_learning_rate(now.steps, shorter):.2g}"
    )


def check_name(uri: str, tuning: Tuning) -> None:
    """Raise ValueError where the name of a new tuning is that of another run, or of a tuning that was finished.

    One that was not finished is continued: what it had may not have got as far as the storage.
    """
    with mlflow_runs.reachable(uri):
        run = queries.find_run(uri, mlflow_runs.experiment_name(tuning.base.data), tuning.name)
    if run is None:
        return
    kind = run.data.tags.get("miseg.kind", "training")
    if kind != "tuning" or run.info.status == "FINISHED":
        raise ValueError(f"{tuning.name} is the name of a {kind}, run {run.info.run_id}: choose another --name")


def objective_of(tuning: Tuning) -> str:
    """`OBJECTIVE_SINCE` where trials are compared by an objective on held-out images, else ""."""
    return OBJECTIVE_SINCE if tuning.selection == "objective" and tuning.base.supervision == "none" else ""


def check_objective(name: str, *, searches: bool) -> None:
    """Say that a tuning's trials were compared by an objective of before; ValueError where it `searches` for more."""
    sentence = (
        f"{name} has trials that were compared by the objective on held-out images of before {OBJECTIVE_SINCE}, which "
        "depended on the order of the files"
    )
    if searches:
        raise ValueError(f"{sentence}; new ones would not compare: choose another --name without --resume")
    remark(f"warning: {sentence}")


def settings_of(tuning: Tuning, objective: str | None = None) -> str:
    """Twelve hexadecimal digits: a hash of all that a tuning's result depends on, but for the machine.

    Args:
        tuning: whose.
        objective: the manner in which objectives are computed; "": that of before `OBJECTIVE_SINCE`; None: as now.
    """
    fingerprint = PackedDataset.open(tuning.data).fingerprint
    counts = [
        _identified(tuning.base),
        {row: _identified(experiment) for row, experiment in tuning.rivals.items()},
        identity_of(tuning.space),
        dict(tuning.default_point),
        tuning.grid and {name: list(values) for name, values in tuning.grid.items()},
        [tuning.points, tuning.confirm_seeds, tuning.seed, tuning.selection, fingerprint],
    ]
    # Tunings by labels, which no manner concerns, are those of before.
    counts += [manner] if (manner := objective_of(tuning) if objective is None else objective) else []
    return hashlib.sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest()[:12]


def _identified(experiment: Experiment) -> Any:
    """The experiment's fields that count; `non_finite` always has, here, though its default is not in ids."""
    return to_dict(experiment, later_defaults=False) | {"non_finite": experiment.non_finite}


def identity_of(space: Space) -> str:
    """Identity of a space: a registered one has its own, a function its place."""
    own = getattr(space, "identity", None)
    return own if own is not None else f"{space.__module__}.{space.__qualname__}"


def _finished(uri: str, experiment: str, tags: dict[str, str]) -> list[Run]:
    client = MlflowClient(uri)
    with mlflow_runs.reachable(uri):
        mlflow_experiment = client.get_experiment_by_name(experiment)
        if mlflow_experiment is None:
            return []
        conditions = ["attributes.status = 'FINISHED'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())]
        return list(
            client.search_runs(
                [mlflow_experiment.experiment_id], " and ".join(conditions), order_by=["start_time DESC"]
            )
        )
