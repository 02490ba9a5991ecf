"""Request and outcome of a training: no torch and no Ray, so that a driver can read it at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from miseg.data.storage import file_system
from miseg.file_names import below
from miseg.metric_names import OBJECTIVE_SINCE, OBJECTIVE_TAG
from miseg.recipes.experiment import Experiment, to_dict
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.storage_failures import WhenStorageFails
from miseg.service.cluster import metrics
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.terminal.messages import own_text
from miseg.service.tracking.run_store import RunStore

if TYPE_CHECKING:
    from mlflow.entities import Run

FINISHED = "finished"
"""Why a run ended that got to its last step: its tag `miseg.ended`."""

Selection = Literal["labels", "objective"]
"""Score of checkpoints and trials: mean IoU, or the objective of a method without labels on held-out images."""

PLACEMENT_GROUP = "placement_group"


@dataclass(frozen=True)
class TrainingRun:
    """Request for a training: its experiment, its resources, and where it is recorded."""

    name: str
    """Names the run in storage and in MLflow; the same name resumes."""
    experiment: Experiment
    data: str
    """The packed data set."""
    storage: str
    tracking_uri: str
    resources: Resources
    display: str = ""
    parent: str | None = None
    tags: Mapping[str, str] | None = None
    keep_all: bool = False
    """Whether the checkpoint of every validation stays in `folder`, and not only the best and the last."""
    when_storage_fails: WhenStorageFails = "continue"
    """Effect on the training of a checkpoint that cannot be written: see `StorageFailures`."""
    selection: Selection = "objective"
    """For methods that learn without labels; others are selected by mean IoU."""
    spread: bool = False
    """Whether its workers are on machines of their own, as far as there are, and not on as few as hold them."""

    @property
    def store(self) -> RunStore:
        """Store of the run."""
        return RunStore(self.storage, self.tracking_uri)

    @property
    def folder(self) -> str:
        """The run's folder in storage."""
        return below(self.storage, "runs", self.name)

    @property
    def train_storage(self) -> dict[str, Any]:
        """The place of Ray Train's own files, with a file system whose requests end, as `RunConfig` takes it."""
        folder = below(self.storage, "runs")
        if "://" not in folder:
            return {"storage_path": folder}
        system, path = file_system(folder)
        return {"storage_path": path, "storage_filesystem": system}

    @property
    def config(self) -> dict[str, Any]:
        """Settings that its workers are given, with a generation and where they log."""
        return {
            "experiment": to_dict(self.experiment),
            "data": self.data,
            "folder": self.folder,
            "keep_all": self.keep_all,
            "when_storage_fails": self.when_storage_fails,
            "threads": self.resources.threads,
            "decoded_bytes": self.resources.decoded_bytes,
            "selection": self.selection,
        }

    @property
    def train_name(self) -> str:
        """The run's name for Ray Train, whose controllers die of letters that are not ASCII."""
        if self.name.isascii():
            return self.name
        letters = self.name.encode("ascii", "replace").decode().replace("?", "_")
        return f"{letters}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    @property
    def labels(self) -> dict[str, str]:
        """Of its metrics: see `metrics.RUN`."""
        return metrics.run_labels(self.name, self.experiment, self.tags or {})


@dataclass(frozen=True)
class TrainingOutcome:
    """Outcome of a training."""

    run_id: str
    step: int
    mean_iou: float
    """Mean IoU on the validation split after the last step; nan where training did not get that far."""
    best_mean_iou: float
    ended: str
    score: float = math.nan
    """Score after the last step: see `Selection`."""
    reused: bool = False
    """Whether the run had ended before and nothing was trained now."""


def unread(error: OSError) -> str:
    """The reason for which a run is not closed as finished, and what to do: storage does not list its checkpoints."""
    reason = own_text(error)[:200]
    return f"storage does not say which checkpoints there are ({reason}); start the run again under its name"


def check_goes_on(run: TrainingRun, earlier: Run | None, fingerprint: str) -> None:
    """Make sure that a training can go on from the checkpoints in its folder.

    Args:
        run: the training.
        earlier: its run in MLflow; None where there is none.
        fingerprint: of its packed data.

    Raises:
        ValueError: its checkpoints are of another experiment, or of other data, or were compared otherwise.
        OSError: the storage does not answer.
    """
    if earlier is not None:
        check_objective(run, earlier)
    _check_checkpoints(run, fingerprint)


def check_objective(run: TrainingRun, earlier: Run) -> None:
    """Raise ValueError where checkpoints of a training that goes on were compared by an objective of before."""
    compared = run.selection == "objective" and run.experiment.supervision == "none"
    if compared and earlier.data.metrics and earlier.data.tags.get(OBJECTIVE_TAG) != OBJECTIVE_SINCE:
        raise ValueError(
            f"{run.name}, run {earlier.info.run_id}, was begun when the objective on held-out images depended on the "
            f"order of the files (before {OBJECTIVE_SINCE}), so its checkpoints do not compare with new ones: choose "
            "another name"
        )


def _check_checkpoints(run: TrainingRun, fingerprint: str) -> None:
    """Raise ValueError where the run's folder holds checkpoints of another experiment, or of other data.

    Such as of a run that was deleted in MLflow, whose name is used again. Workers, too, refuse them, once they started.
    """
    for saved in CheckpointStore(run.folder).all():
        for kind, its_own, now in (
            ("experiment", saved.experiment_id, run.experiment.id),
            ("data with the fingerprint", saved.fingerprint, fingerprint),
        ):
            if its_own not in ("", now):
                raise ValueError(
                    f"{saved.path} is a checkpoint of {kind} {its_own}, and {run.name} is of {now}: choose another "
                    f"name, or move {run.folder} away"
                )
