"""Description of a study: methods x data sets x label budgets as tables of cells. Nothing runs here.

All methods of a table have the same budget: as many trials, as many confirmation seeds, and as many optimiser steps a
trial (or as many seconds of the device). The first trial of each is its recipe, the paper's default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from miseg.data.configs import Augmentation
from miseg.file_names import last_name
from miseg.methods.ranges import changed
from miseg.networks.choice import parsed, with_network
from miseg.networks.configs import UNet
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import BASELINES, CONTENDERS, STEMS, Contender, Supervision
from miseg.recipes.experiment import Experiment
from miseg.recipes.lengths import WarmUp, with_steps
from miseg.recipes.planning.given import with_settings
from miseg.recipes.planning.plan import PlannedSetting, TrainingPlan
from miseg.recipes.planning.rules import fitted
from miseg.recipes.spaces import at_its_point

Selection = Literal["objective", "labels"]

OPTIONS = {
    "steps": "--steps",
    "label_budget": "--budgets",
    "augmentation.resize": "--size",
    "method.network.initial_features": "--initial-features",
}
"""Options of a study by the settings that they change."""


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

    set: tuple[str, ...] | None = None
    """Settings that all methods have in place of the recipes' or of what is planned, each as SETTING=VALUE:
    batch_size=4, augmentation.crop=256,256."""

    def __post_init__(self) -> None:
        for text in self.set or ():
            if (option := OPTIONS.get(text.partition("=")[0].replace("-", "_"))) is not None:
                raise ValueError(f"--set {text}: {option} says it")
        if self.steps is not None and self.gpu_seconds is not None:
            raise ValueError("--steps and --gpu-seconds: equal steps or equal seconds, give one of the two")
        if self.gpu_seconds is not None and not self.gpu_seconds > 0:
            raise ValueError(f"--gpu-seconds {self.gpu_seconds:g}: use a value above 0")

    def of(self, experiment: Experiment, supervision: Supervision, warm_up: WarmUp = "share") -> Experiment:
        """The experiment with these changes, but for the seconds; `warm_up` as of `with_steps`.

        Raises:
            ValueError: a change that does not fit it.
        """
        if self.steps is not None:
            experiment = with_steps(experiment, self.steps, warm_up)
        experiment, given = with_settings(experiment, self.set or ())
        if supervision != "dense":
            return experiment
        if self.size is not None:
            augmentation = experiment.augmentation.at_size(self.size)
            if "augmentation.crop" in given:
                augmentation = replace(augmentation, crop=experiment.augmentation.crop)
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

    def given(self, experiment: Experiment, supervision: Supervision) -> dict[str, Any]:
        """Values of the settings that they change in an experiment, by path: a plan from the data keeps to them."""
        _, given = with_settings(experiment, self.set or ())
        if self.steps is not None:
            given["steps"] = self.steps
        if self.size is not None and supervision == "dense":
            cropped = Augmentation(scale=given.get("augmentation.scale")).at_size(self.size).crop
            given = {"augmentation.crop": cropped} | given | {"augmentation.resize": self.size}
        return given


@dataclass(frozen=True)
class StudyCell:
    """A method on a data set with a label budget: a search, and the confirmation of winner and default."""

    method: str
    """Its key in `CONTENDERS`."""
    recipe: str
    """The recipe's name; the method's own where its settings are planned from the data; another method's on the same
    data where it has none, and takes that one's settings."""
    base: Experiment
    """The recipe as the study runs it: the paper's default, and the first trial."""
    planned: tuple[PlannedSetting, ...] = ()
    """Settings of the method itself that follow from the table's plan."""

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
    warm_up: WarmUp = "share"
    """Length of warm-ups where the changes make fewer steps."""
    plan: TrainingPlan | None = None
    """Settings that all its cells have from the data, without those of the methods; None: the recipes'."""
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
        return last_name(self.dataset)

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
        return CONTENDERS[next((key for key in wanted if key in self.methods), self.methods[0])].rows()[0]

    def cell_id(self, cell: StudyCell) -> str:
        """`<data>/<budget>/<method>`, or of a chosen network `<data>/<budget>/<network>/<method>`."""
        return f"{self._start}/{cell.method}"

    @property
    def _start(self) -> str:
        # Weights may be a path, and an id's parts are divided by slashes.
        network = f"/{self.network.replace('/', '-')}" if self.network else ""
        return f"{self.name}/{self.budget_text}{network}"

    @property
    def is_of_own_data(self) -> bool:
        """Whether its data set has no recipes: its settings are planned from the data.

        A folder's were once those of the embedded scenes; a table that was begun so goes on so.
        """
        return not has_recipes(self.dataset) and all(cell.recipe == cell.method for cell in self.cells)

    def filled(self, methods: Sequence[str], *, named: bool = False) -> StudyTable:
        """The table with a cell for each of the methods that is of its kind and not in it yet.

        Args:
            methods: the methods' keys in `CONTENDERS`.
            named: whether somebody asked for just these: then those without a recipe here have another method's.
        """
        cells = (_cell(self, method, named) for method in methods if method not in self.methods)
        return replace(self, cells=(*self.cells, *(cell for cell in cells if cell is not None)))


def has_recipes(dataset: str) -> bool:
    """Whether a study has recipes for a data set: one that miseg knows, or a start of recipes' names."""
    return any(f"{STEMS.get(dataset, dataset)}-{key}" in RECIPES for key in CONTENDERS)


def _is_folder(dataset: str) -> bool:
    return "/" in dataset or "\\" in dataset


def _cell(table: StudyTable, method: str, named: bool) -> StudyCell | None:
    supervision = CONTENDERS[method].supervision
    if supervision != table.supervision:
        return None
    if table.is_of_own_data:
        recipe, base = method, Experiment(CONTENDERS[method].settings(), data=table.dataset, seed=table.seed)
    else:
        of_folder = _is_folder(table.dataset)
        stem = "embedded" if of_folder else STEMS.get(table.dataset, table.dataset)
        recipe = f"{stem}-{method}"
        if recipe in RECIPES:
            base = RECIPES[recipe](seed=table.seed)
        elif named and (other := _with_settings_of_another(stem, method, table.seed)) is not None:
            recipe, base = other
        else:
            return None
        if of_folder or table.dataset in STEMS:
            base = replace(base, data=table.dataset)
    if table.network:
        base = replace(base, method=with_network(base.method, parsed(table.network)))
    base = replace(table.changes.of(base, supervision, table.warm_up), label_budget=table.budget)
    planned: tuple[PlannedSetting, ...] = ()
    if table.plan is not None:
        base = table.plan.applied(base)
        planned = tuple(fitted(base.method, base.augmentation.crop, table.changes.given(base, supervision)))
        base = changed(base, {setting.path: setting.value for setting in planned})
    return StudyCell(method, recipe, at_its_point(base), planned)


def _with_settings_of_another(stem: str, method: str, seed: int) -> tuple[str, Experiment] | None:
    """The first recipe on the same data of a method with the same labels, with this method in the other's place.

    Its network is the other's, and what depends on the size of crops follows from the other's crop.
    """
    contender = CONTENDERS[method]
    if "network" not in {item.name for item in fields(contender.settings)}:
        return None
    for key, other in CONTENDERS.items():
        recipe = f"{stem}-{key}"
        if other.supervision != contender.supervision or recipe not in RECIPES:
            continue
        base = RECIPES[recipe](seed=seed)
        network = getattr(base.method, "network", None)
        if network is not None:
            settings: Any = contender.settings
            base = replace(base, method=settings(network=network))
            own = fitted(base.method, base.augmentation.crop, {})
            return recipe, changed(base, {setting.path: setting.value for setting in own})
    return None
