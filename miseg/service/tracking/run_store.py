"""Stores of runs, the workspace of a job, a run's details, and MLflow's experiments: one a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import DatasetInput
from mlflow.exceptions import MlflowException

from miseg.file_names import below, last_name
from miseg.metric_names import VALIDATION_MEAN_IOU

if TYPE_CHECKING:
    from miseg.service.cluster.ray_cluster import Resources


@dataclass(frozen=True)
class RunStore:
    """Storage of runs' files, and the MLflow server of their records.

    Attributes:
        storage: folder or URI of checkpoints, journals, and of the artifacts of a local MLflow store.
        tracking_uri: the MLflow server or store.
    """

    storage: str
    tracking_uri: str


@dataclass(frozen=True)
class Workspace(RunStore):
    """Workspace of a job: where its runs are kept, and its share of the cluster.

    Attributes:
        resources: workers, CPUs and GPUs, and the memory of decoded images.
    """

    resources: Resources


@dataclass(frozen=True)
class RunDetails:
    """Details with which a run is opened, beside its name.

    Attributes:
        display: the run's name for people; "": its name.
        parent: id of the run that it hangs below.
        tags: further tags.
        params: parameters; MLflow does not let them change.
        description: the note on the run's page, in Markdown.
        datasets: what it read, see `miseg.service.tracking.pages.datasets`.
    """

    display: str = ""
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    datasets: Sequence[DatasetInput] = ()


def experiment_name(data: str) -> str:
    """`miseg/<data>`, with the folder name alone where data is a path or URI."""
    return f"miseg/{last_name(data)}"


def ensure_experiment(client: MlflowClient, name: str, store: RunStore) -> str:
    """The id of the experiment of that name, which is made or restored where it is not there."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # A server knows its own artifact root; the bare SQLite store would put artifacts under the working directory.
        root = store.storage if "://" in store.storage else str(Path(store.storage).expanduser().resolve())
        location = below(root, "artifacts", name) if store.tracking_uri.startswith("sqlite") else None
        try:
            return client.create_experiment(name, artifact_location=location, tags=_described(name))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    for key, value in _described(name).items():
        if key not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return experiment.experiment_id


def _described(name: str) -> dict[str, str]:
    """Tags that describe an experiment; without its kind MLflow's page asks every user for it."""
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": VALIDATION_MEAN_IOU,
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        "mlflow.note.content": (
            f"What miseg did on {name.removeprefix('miseg/')}. A run of `miseg.kind` tuning or study has the runs that "
            "belong to it as children, and a view in the menu of views that shows them side by side."
        ),
    }
