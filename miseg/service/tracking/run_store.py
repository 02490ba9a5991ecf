"""Value objects: where runs are kept, the workspace of a job, and the details of a run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    """

    display: str = ""
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
