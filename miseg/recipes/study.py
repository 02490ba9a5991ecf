"""Description of a study: methods x data sets x label budgets as tables of cells. Nothing runs here.

All methods of a table have the same budget: as many trials, as many confirmation seeds, and as many optimiser steps a
trial (or as many seconds of the device). The first trial of each is its recipe, the paper's default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from miseg.networks.choice import parsed, with_network
from miseg.networks.configs import UNet
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import BASELINES, CONTENDERS, STEMS, Contender, Supervision
from miseg.recipes.experiment import Experiment, with_steps
from miseg.recipes.spaces import at_its_point

Selection = Literal["objective", "labels"]


@dataclass(frozen=True)
class Changes:
    """Changes that a study makes in the recipes of a table; None leaves what the recipe has."""

    steps: int | None = None
    """Optimiser steps of a whole trial. Default: the recipes'."""
    gpu_seconds: float | None = None
    """Seconds of the GPU (without one, of the CPUs of a trial) for the steps of a whole trial, in place of their
    number: how many steps a method gets for them follows from the throughput of its default setting."""
    size: tuple[int, int] | None = None
    """Height and width in pixels to which images are resized, of methods that learn from dense labels. Default: the
    recipes'."""
    initial_features: int | None = None
    """U-Net features at full resolution, of methods that learn from dense labels. Default: the recipes'."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.gpu_seconds is not None:
            raise ValueError("--steps and --gpu-seconds: equal steps or equal seconds, give one of the two")
        if self.gpu_seconds is not None and not self.gpu_seconds > 0:
            raise ValueError(f"--gpu-seconds {self.gpu_seconds:g}: use a value above 0")

    def of(self, experiment: Experiment, supervision: Supervision) -> Experiment:
        """The experiment with these changes, but for the seconds: see `with_steps`.

        Raises:
            ValueError: a change that does not fit it.
        """
        if self.steps is not None:
            experiment = with_steps(experiment, self.steps)
        if supervision != "dense":
            return experiment
        if self.size is not None:
            augmentation = replace(experiment.augmentation, resize=self.size, crop=None)
            experiment = replace(experiment, augmentation=augmentation)
        if self.initial_features is not None:
            method: Any = experiment.method
            if not isinstance(method.network, UNet):
                raise ValueError(
                    f"--initial-features is for U-Nets; the network of the recipes of {experiment.data} is "
                    f"{type(method.network).__name__}"
                )
            network = replace(method.network, initial_features=self.initial_features)
            experiment = replace(experiment, method=replace(method, network=network))
        return experiment


@dataclass(frozen=True)
class StudyCell:
    """A method on a data set with a label budget: a search, and the confirmation of winner and default."""

    method: str
    """Its key in `CONTENDERS`."""
    recipe: str
    base: Experiment
    """The recipe as the study runs it: the paper's default, and the first trial."""

    @property
    def contender(self) -> Contender:
        """Search space and first point of its method."""
        return CONTENDERS[self.method]


@dataclass(frozen=True)
class StudyTable:
    """Cells that are compared with each other, under one budget.

    Raises:
        ValueError: budgets that are not equal, or a count below 1.
    """

    dataset: str
    """A data set's name, the start of recipes' names ("camvid-v3plus"), or the folder or URI of a packed data set."""
    supervision: Supervision
    budget: int | None
    """Labelled images (dense) or labelled pixels of each class (few); None: all labels, or none at all."""
    trials: int
    confirm_seeds: int
    changes: Changes = field(default_factory=Changes)
    baseline: str = ""
    """The method that the others are measured against; "": by `BASELINES`."""
    seed: int = 0
    """Seeds the searches and their trials; confirmations have the seeds that follow."""
    selection: Selection = "objective"
    """Score by which trials of methods without labels are compared: their objective on held-out images, or mean IoU."""
    network: str = ""
    """Network of all its methods, as `miseg.networks.choice.parsed` reads it; "": the recipes'."""
    cells: tuple[StudyCell, ...] = ()

    def __post_init__(self) -> None:
        for option in ("trials", "confirm_seeds"):
            if getattr(self, option) < 1:
                raise ValueError(f"--{option.replace('_', '-')} {getattr(self, option)}: use 1 or more")
        methods = [cell.method for cell in self.cells]
        if len(set(methods)) < len(methods):
            raise ValueError(f"{self.id}: name each method once ({' '.join(methods)})")
        alike = ["data", "label_budget", "batch_size", "seed"]
        if self.changes.gpu_seconds is None:
            alike += ["steps", "validate_every"]
        for name in alike:
            values = {cell.method: getattr(cell.base, name) for cell in self.cells}
            if len(set(values.values())) > 1:
                listed = ", ".join(f"{method} {value}" for method, value in values.items())
                mend = "give --steps" if name in ("steps", "validate_every") else "choose other --methods"
                raise ValueError(
                    f"{self.id}: the methods' {name} differ ({listed}), which is no fair comparison; {mend}"
                )

    @property
    def name(self) -> str:
        """Name of the data set in cells' ids: of a folder or URI, its last part."""
        return self.dataset.rstrip("/").rsplit("/", 1)[-1]

    @property
    def budget_text(self) -> str:
        """The label budget as it is written."""
        return "all" if self.budget is None else str(self.budget)

    @property
    def labels(self) -> str:
        """The budget with its unit: "10 images", "50 pixels a class"; "all" images of the data, or "none"."""
        if self.supervision == "none":
            return "none"
        unit = " pixels a class" if self.supervision == "few" else " images"
        return self.budget_text + (unit if self.budget is not None else "")

    @property
    def id(self) -> str:
        """Data, network where it is not the recipes', budget and supervision."""
        return f"{self._start}, supervision {self.supervision}"

    @property
    def data(self) -> str:
        """The data set of all its cells."""
        return self.cells[0].base.data

    @property
    def methods(self) -> list[str]:
        """Its cells' methods."""
        return [cell.method for cell in self.cells]

    @property
    def baseline_row(self) -> str:
        """The tuned row of the baseline."""
        wanted = (self.baseline, *BASELINES[self.supervision])
        return CONTENDERS[next((key for key in wanted if key in self.methods), self.methods[0])].rows[0]

    def cell_id(self, cell: StudyCell) -> str:
        """`<data>/<budget>/<method>`, or of a chosen network `<data>/<budget>/<network>/<method>`."""
        return f"{self._start}/{cell.method}"

    @property
    def _start(self) -> str:
        # Weights may be a path, and an id's parts are divided by slashes.
        network = f"/{self.network.replace('/', '-')}" if self.network else ""
        return f"{self.name}/{self.budget_text}{network}"

    def filled(self, methods: Sequence[str]) -> StudyTable:
        """The table with a cell for each of the methods that has a recipe here and is not in it yet."""
        cells = (_cell(self, method) for method in methods if method not in self.methods)
        return replace(self, cells=(*self.cells, *(cell for cell in cells if cell is not None)))


def _cell(table: StudyTable, method: str) -> StudyCell | None:
    of_folder = "/" in table.dataset or "\\" in table.dataset
    stem = "embedded" if of_folder else STEMS.get(table.dataset, table.dataset)
    supervision, recipe = CONTENDERS[method].supervision, f"{stem}-{method}"
    if recipe not in RECIPES or supervision != table.supervision:
        return None
    base = RECIPES[recipe](seed=table.seed)
    if of_folder or table.dataset in STEMS:
        base = replace(base, data=table.dataset)
    if table.network:
        base = replace(base, method=with_network(base.method, parsed(table.network)))
    base = table.changes.of(at_its_point(base), supervision)
    return StudyCell(method, recipe, replace(base, label_budget=table.budget))
