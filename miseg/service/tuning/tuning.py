"""Request for a tuning: the base, the space, the budget and what the winner is confirmed against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from miseg.file_names import below
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints.storage_failures import WhenStorageFails
from miseg.service.cluster import metrics
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.remarks import counted
from miseg.service.tracking.run_store import RunStore
from miseg.service.training.run import Selection

Space = Callable[[Any, Experiment], Experiment]


@dataclass(frozen=True)
class Tuning:
    """A search and its confirmation."""

    name: str
    """Names the tuning in storage and in MLflow; the same name resumes."""
    base: Experiment
    """The point that is tried first, and the settings that the search leaves alone."""
    space: Space
    default_point: Mapping[str, Any]
    rivals: Mapping[str, Experiment]
    """Experiments that are confirmed beside the winner, by the name of their row."""
    tuned: str
    """The name of the winner's row."""
    data: str
    """The packed data set."""
    storage: str
    tracking_uri: str
    resources: Resources
    trials: int
    confirm_seeds: int
    seed: int = 0
    selection: Selection = "labels"
    """Score by which trials are compared: mean IoU, or, of methods without labels, the objective on held-out images."""
    grid: Mapping[str, Sequence[Any]] | None = None
    """Values that each parameter runs through, every point being tried to its last step, in place of a search."""

    when_storage_fails: WhenStorageFails = "continue"
    """See `train.Run`."""
    spread: bool = False
    """Whether a trial's workers are on machines of their own, as far as there are."""
    trust_state: bool = False
    """Whether Tune's state is run though it is not signed with this user's key: see `signing`."""
    parent: str | None = None
    """The MLflow run that the tuning is a part of."""
    plan: str = ""
    """JSON text of the plan that `base` was made by from the data; "": a recipe."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of its command that somebody gave, by field name, as JSON data: what `--resume` has in their place."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags of the tuning and of its trials."""

    @property
    def store(self) -> RunStore:
        """Store of its runs."""
        return RunStore(self.storage, self.tracking_uri)

    @property
    def folder(self) -> str:
        """Folder of Tune's state."""
        return below(self.storage, "tunings")

    def below(self, name: str) -> str:
        """Folder of what goes by a name among Tune's state."""
        return below(self.folder, name)

    @property
    def labels(self) -> dict[str, str]:
        """Of its metrics: see `metrics.TUNING`."""
        study = self.tags.get("miseg.study", "")
        return {"study": study, "tuning": self.name, "data": metrics.data_label(self.base.data)}

    @property
    def points(self) -> int:
        """Trials of the whole search or grid."""
        return self.trials if self.grid is None else math.prod(map(len, self.grid.values()))

    @property
    def fresh_seeds(self) -> str:
        """Number of seeds of the confirmation, in words."""
        return counted(self.confirm_seeds, "fresh seed")
