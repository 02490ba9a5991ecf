"""Description of a study: methods x data sets x label budgets as tables of cells. Nothing runs here.

All methods of a table have the same budget: as many trials, as many confirmation seeds, and as many optimiser steps a
trial (or as many seconds of the device). The first trial of each is its recipe, the paper's default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from miseg.networks.configs import UNet
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import BASELINES, CONTENDERS, STEMS, Contender, Supervision, default_methods
from miseg.recipes.experiment import LABELLED_PIXELS, Experiment, with_steps
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

    place: str
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
                told = ", ".join(f"{method} {value}" for method, value in values.items())
                mend = "give --steps" if name in ("steps", "validate_every") else "choose other --methods"
                raise ValueError(f"{self.id}: the methods' {name} differ ({told}), which is no fair comparison; {mend}")

    @property
    def name(self) -> str:
        """Name of the data set in cells' ids: of a folder or URI, its last part."""
        return self.place.rstrip("/").rsplit("/", 1)[-1]

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
        """Data, budget and supervision."""
        return f"{self.name}/{self.budget_text}, supervision {self.supervision}"

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
        """`<data>/<budget>/<method>`."""
        return f"{self.name}/{self.budget_text}/{cell.method}"

    def filled(self, methods: Sequence[str]) -> StudyTable:
        """The table with a cell for each of the methods that has a recipe here and is not in it yet."""
        found = (_cell(self, method) for method in methods if method not in self.methods)
        return replace(self, cells=(*self.cells, *(cell for cell in found if cell is not None)))


def _cell(table: StudyTable, method: str) -> StudyCell | None:
    of_folder = "/" in table.place or "\\" in table.place
    stem = "embedded" if of_folder else STEMS.get(table.place, table.place)
    supervision, recipe = CONTENDERS[method].supervision, f"{stem}-{method}"
    if recipe not in RECIPES or supervision != table.supervision:
        return None
    base = RECIPES[recipe](seed=table.seed)
    if of_folder or table.place in STEMS:
        base = replace(base, data=table.place)
    base = table.changes.of(at_its_point(base), supervision)
    return StudyCell(method, recipe, replace(base, label_budget=table.budget))


@dataclass(frozen=True)
class Asked:
    """Request for a study; None leaves a field as it is, or, of a new study, to the defaults."""

    data: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    budgets: tuple[str, ...] | None = None
    """ "all", or numbers: of labelled images, and of few-label methods of labelled pixels of each class."""
    trials: int | None = None
    confirm_seeds: int | None = None
    changes: Changes = field(default_factory=Changes)
    baseline: str | None = None
    seed: int | None = None
    selection: Selection | None = None
    labelled_images: tuple[str, ...] | None = None
    """ "all", or numbers, in place of `budgets` where methods learn from images."""
    labelled_pixels_per_class: tuple[int, ...] | None = None
    """In place of `budgets` where methods are given a few labelled pixels."""

    def label_budgets(self, supervision: Supervision) -> Sequence[str | int] | None:
        """The budgets of a kind of supervision, as they are asked for."""
        own = {"dense": self.labelled_images, "few": self.labelled_pixels_per_class}.get(supervision)
        return self.budgets if own is None else own


def grown(known: Sequence[StudyTable], asked: Asked, defaults: Mapping[str, Any]) -> tuple[StudyTable, ...]:
    """The tables of a study after it is asked for more: `known` with further cells and seeds, and new ones.

    Args:
        known: its tables so far.
        asked: what is added; where it names no data, all tables are meant.
        defaults: of a new table, the fields that nobody asked for.

    Raises:
        ValueError: what has no recipe, or budgets other than those that a table was planned with.
    """
    tables = {table.id: table for table in known}
    places = asked.data or tuple(dict.fromkeys(table.place for table in known)) or ("embedded",)
    for option in ("data", "methods", "budgets", "labelled_images", "labelled_pixels_per_class"):
        values = getattr(asked, option) or ()
        if len(set(values)) < len(values):
            raise ValueError(f"--{option.replace('_', '-')} {' '.join(map(str, values))}: name each once")
    for place in places:
        for wanted in _wanted(place, known, asked, defaults):
            if asked.methods and wanted.supervision not in {CONTENDERS[method].supervision for method in asked.methods}:
                continue
            table = tables.get(wanted.id)
            if table is not None and table.place != place:
                raise ValueError(f"--data {table.place} {place}: both are called {table.name}; rename one of the two")
            methods = asked.methods or (_methods_at(place, known) if table is None else ())
            filled = (wanted if table is None else _agreed(table, asked)).filled(methods)
            if filled.cells:
                tables[wanted.id] = filled
    _check_found(places, asked, tables)
    return tuple(tables.values())


def _wanted(place: str, known: Sequence[StudyTable], asked: Asked, defaults: Mapping[str, Any]) -> list[StudyTable]:
    """A table without cells for each supervision and budget that is asked for at a place."""
    given = {name: getattr(asked, name) for name in ("trials", "confirm_seeds", "baseline", "seed", "selection")}
    settings = dict(defaults) | {name: value for name, value in given.items() if value is not None}
    tables = []
    for supervision in BASELINES:
        there = [table.budget for table in known if (table.place, table.supervision) == (place, supervision)]
        texts = asked.label_budgets(supervision)
        budgets = there if texts is None and there else _budgets(supervision, texts or ())
        tables += [StudyTable(place, supervision, budget, changes=asked.changes, **settings) for budget in budgets]
    return tables


def _budgets(supervision: Supervision, texts: Sequence[str | int]) -> list[int | None]:
    """Of the budgets asked for, those that this kind of supervision has."""
    for text in texts:
        if text != "all" and not (str(text).isdecimal() and int(text) > 0):
            raise ValueError(f"label budget {text}: give all, or numbers of labelled images or pixels, such as 50")
    numbers = [int(text) for text in texts if text != "all"]
    if supervision == "few":
        return [*numbers] or [LABELLED_PIXELS]
    every: list[int | None] = [None] if "all" in texts or not numbers or supervision == "none" else []
    return every if supervision == "none" else [*every, *numbers]


def _methods_at(place: str, known: Sequence[StudyTable]) -> Sequence[str]:
    """Default methods of a further table of a place: those that others of that place compare."""
    there = [method for table in known if table.place == place for method in table.methods]
    return tuple(dict.fromkeys(there)) or default_methods()


def _agreed(table: StudyTable, asked: Asked) -> StudyTable:
    """A known table with the seeds and the baseline that are asked for; ValueError for what it cannot change."""
    fixed = {"trials": asked.trials, "seed": asked.seed, "selection": asked.selection}
    for name, value in fixed.items():
        if value is not None and value != getattr(table, name):
            raise ValueError(
                f"--{name} {value}: {table.id} is tuned with {getattr(table, name)}, and all its methods alike; "
                "choose a new --name"
            )
    for name, value in vars(asked.changes).items():
        if value is not None and value != (planned := getattr(table.changes, name)):
            raise ValueError(
                f"--{name.replace('_', '-')} {value}: {table.id} is planned with "
                f"{'the recipes own' if planned is None else planned}; choose a new --name"
            )
    if asked.confirm_seeds is not None and asked.confirm_seeds < table.confirm_seeds:
        raise ValueError(f"--confirm-seeds {asked.confirm_seeds}: {table.id} has {table.confirm_seeds} already")
    return replace(
        table,
        confirm_seeds=asked.confirm_seeds or table.confirm_seeds,
        baseline=table.baseline if asked.baseline is None else asked.baseline,
    )


def _check_found(places: Sequence[str], asked: Asked, tables: Mapping[str, StudyTable]) -> None:
    found = [table for table in tables.values() if table.place in places]
    if without := set(places) - {table.place for table in found}:
        ends = [f"-{method}" for method in CONTENDERS]
        starts = sorted({recipe.removesuffix(end) for recipe in RECIPES for end in ends if recipe.endswith(end)})
        raise ValueError(
            f"--data {' '.join(sorted(without))}: no recipe of {', '.join(asked.methods or default_methods())} there; "
            f"there are some for {', '.join([*STEMS, *starts])}, and for any folder of packed 8-bit images"
        )
    compared = {method for table in found for method in table.methods}
    if missing := [method for method in asked.methods or () if method not in compared]:
        raise ValueError(f"--methods {' '.join(missing)}: no recipe for {', '.join(places)}")
    if asked.baseline is not None and asked.baseline not in compared:
        raise ValueError(f"--baseline {asked.baseline}: compared are {', '.join(sorted(compared))}")
