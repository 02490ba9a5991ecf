"""Growth of a study: from the tables that it has and what is asked for to tables with more cells, seeds and budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import BASELINES, CONTENDERS, STEMS, Supervision, default_methods
from miseg.recipes.experiment import LABELLED_PIXELS
from miseg.recipes.study import Changes, Selection, StudyTable


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
    networks: tuple[str, ...] | None = None
    """Networks of methods that learn from dense labels, as `miseg.networks.choice.parsed` reads them."""

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
    datasets = asked.data or tuple(dict.fromkeys(table.dataset for table in known)) or ("embedded",)
    for option in ("data", "methods", "budgets", "labelled_images", "labelled_pixels_per_class", "networks"):
        values = getattr(asked, option) or ()
        if len(set(values)) < len(values):
            raise ValueError(f"--{option.replace('_', '-')} {' '.join(map(str, values))}: name each once")
    for dataset in datasets:
        for wanted in _wanted(dataset, known, asked, defaults):
            if asked.methods and wanted.supervision not in {CONTENDERS[method].supervision for method in asked.methods}:
                continue
            table = tables.get(wanted.id)
            if table is not None and table.dataset != dataset:
                raise ValueError(
                    f"--data {table.dataset} {dataset}: both are called {table.name}; rename one of the two"
                )
            methods = asked.methods or (_methods_on(dataset, known) if table is None else ())
            filled = (wanted if table is None else _agreed(table, asked)).filled(methods, named=bool(asked.methods))
            if filled.cells:
                tables[wanted.id] = filled
    if asked.networks and not any(table.network for table in tables.values()):
        raise ValueError(
            f"--networks {' '.join(asked.networks)}: only methods that learn from dense labels take them, such as ce"
        )
    _check_compared(datasets, asked, tables)
    return tuple(tables.values())


def _wanted(dataset: str, known: Sequence[StudyTable], asked: Asked, defaults: Mapping[str, Any]) -> list[StudyTable]:
    """A table without cells for each supervision and budget that is asked for on a data set."""
    given = {name: getattr(asked, name) for name in ("trials", "confirm_seeds", "baseline", "seed", "selection")}
    settings = dict(defaults) | {name: value for name, value in given.items() if value is not None}
    if known:
        settings["warm_up"] = known[0].warm_up  # what is compared with tables of before is warmed up as they are
    tables = []
    of_data = [table for table in known if table.dataset == dataset]
    for supervision in BASELINES:
        planned = list(dict.fromkeys(table.budget for table in of_data if table.supervision == supervision))
        texts = asked.label_budgets(supervision)
        budgets = planned if texts is None and planned else _budgets(supervision, texts or ())
        networks = dict.fromkeys(table.network for table in of_data if table.supervision == supervision)
        if supervision == "dense" and asked.networks is not None:
            networks = dict.fromkeys(asked.networks)
        tables += [
            StudyTable(dataset, supervision, budget, changes=asked.changes, network=network, **settings)
            for network in networks or ("",)
            for budget in budgets
        ]
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


def _methods_on(dataset: str, known: Sequence[StudyTable]) -> Sequence[str]:
    """Default methods of a further table of a data set: those that its other tables compare."""
    methods = [method for table in known if table.dataset == dataset for method in table.methods]
    return tuple(dict.fromkeys(methods)) or default_methods()


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


def _check_compared(datasets: Sequence[str], asked: Asked, tables: Mapping[str, StudyTable]) -> None:
    compared_tables = [table for table in tables.values() if table.dataset in datasets]
    if without := set(datasets) - {table.dataset for table in compared_tables}:
        ends = [f"-{method}" for method in CONTENDERS]
        starts = sorted({recipe.removesuffix(end) for recipe in RECIPES for end in ends if recipe.endswith(end)})
        raise ValueError(
            f"--data {' '.join(sorted(without))}: no recipe of {', '.join(asked.methods or default_methods())} there; "
            f"there are some for {', '.join([*STEMS, *starts])}, and any other packed data set is planned for"
        )
    compared = {method for table in compared_tables for method in table.methods}
    if missing := [method for method in asked.methods or () if method not in compared]:
        raise ValueError(f"--methods {' '.join(missing)}: no recipe for {', '.join(datasets)}")
    if asked.baseline is not None and asked.baseline not in compared:
        raise ValueError(f"--baseline {asked.baseline}: compared are {', '.join(sorted(compared))}")
