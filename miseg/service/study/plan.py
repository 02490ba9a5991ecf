"""A study's plan: its tables with what they are expected to take, as it is printed and as it is kept in MLflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, cast

from miseg.recipes.contenders import CONTENDERS, Supervision
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.recipes.lengths import with_steps
from miseg.recipes.planning.plan import TrainingPlan, settings_from
from miseg.recipes.study import Changes, Selection, StudyCell, StudyTable
from miseg.service.tracking.study_plan import PlanFile, PlannedCell, PlannedTable


@dataclass(frozen=True)
class Throughput:
    """Speed of a training on one device (a GPU, or the CPUs of a trial)."""

    images_per_second: float
    """Of training."""
    validation_seconds: float
    """Of one validation; from earlier runs, with its share of what a run takes besides its steps."""
    source: str
    """Source of the figures."""

    def step_seconds(self, experiment: Experiment) -> float:
        """Of one optimiser step."""
        return experiment.batch_size / self.images_per_second

    def seconds(self, experiment: Experiment) -> float:
        """Of a whole training, validations and all."""
        validations = math.ceil(experiment.steps / experiment.validate_every)
        return experiment.steps * self.step_seconds(experiment) + validations * self.validation_seconds


@dataclass(frozen=True)
class Devices:
    """Devices that the study runs on, and their price."""

    use_gpu: bool
    concurrency: int
    """Trials at a time, each on a GPU of its own or on its share of the CPUs."""
    price_per_hour: float | None = None
    """Of a GPU, or, without one, of the machine; in whatever currency."""

    @property
    def kind(self) -> str:
        """Unit of paid hours: GPU, or machine."""
        return "GPU" if self.use_gpu else "machine"

    def hours(self, seconds: float) -> float:
        """Paid hours of trainings that take so many seconds one after the other."""
        return seconds / 3600 / (1 if self.use_gpu else self.concurrency)


@dataclass(frozen=True)
class StudyPlan:
    """Plan of a study: its tables, with their budgets."""

    study: str
    created: str
    """ISO 8601."""
    tables: tuple[StudyTable, ...]
    throughput: Mapping[str, Throughput] = field(default_factory=dict)
    """By the id of the cell."""

    def of_data(self, data: str) -> StudyPlan:
        """The part on one data set."""
        return replace(self, tables=tuple(table for table in self.tables if table.data == data))

    @property
    def data(self) -> list[str]:
        """Its data sets."""
        return list(dict.fromkeys(table.data for table in self.tables))

    @property
    def cells(self) -> list[tuple[StudyTable, StudyCell, str]]:
        """Every cell with its table and its id."""
        return [(table, cell, table.cell_id(cell)) for table in self.tables for cell in table.cells]

    def tuning_name(self, cell: str) -> str:
        """Name of the tuning of a cell, which is given by its id."""
        return f"{self.study}-{cell.replace('/', '-')}"


def timed(plan: StudyPlan, tables: Sequence[StudyTable], measure: Callable[[Experiment], Throughput]) -> StudyPlan:
    """The plan with these tables, the throughput of cells that had none measured, and steps where seconds are equal.

    A cell that was planned before keeps its steps: another measurement would make another experiment of it.
    """
    throughput = dict(plan.throughput)
    timed_tables = []
    for table in tables:
        cells = []
        for cell in table.cells:
            name = table.cell_id(cell)
            if name not in throughput:
                throughput[name] = measure(cell.base)
                if (seconds := table.changes.gpu_seconds) is not None:
                    steps = max(1, int(seconds / throughput[name].step_seconds(cell.base)))
                    cell = replace(cell, base=with_steps(cell.base, steps, table.warm_up))
            cells.append(cell)
        timed_tables.append(replace(table, cells=tuple(cells)))
    return replace(plan, tables=tuple(timed_tables), throughput=throughput)


def expected(
    plan: StudyPlan, done: Mapping[str, int], confirmed: Mapping[str, int] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Upper bound of what each cell takes from now on: ASHA stops weak trials early.

    A default that is the winner too is confirmed once, for both rows: so of a search of one trial, and of one that is
    done and had no other winner.

    Args:
        plan: with the throughput of every cell.
        done: for the cells that were tuned before, on how many seeds they were confirmed and measured.
        confirmed: for those cells, how many rows they confirmed; of others, two are expected.

    Returns:
        For each cell `cell`, `trials` and `confirmations` to train, their `steps` together, `images_per_second`,
        `source`, and `seconds`, with one evaluation for each confirmation.
    """
    rows = []
    for table, cell, name in plan.cells:
        trials = 0 if name in done else table.trials
        at_most = 1 if table.trials == 1 else len(cell.contender.rows())
        table_rows = confirmed.get(name, at_most) if name in done else at_most
        confirmations = table_rows * (table.confirm_seeds - done.get(name, 0))
        speed, runs = plan.throughput[name], trials + confirmations
        rows.append(
            {
                "cell": name,
                "trials": trials,
                "confirmations": confirmations,
                "steps": runs * cell.base.steps,
                "images_per_second": speed.images_per_second,
                "source": speed.source,
                "seconds": runs * speed.seconds(cell.base) + confirmations * speed.validation_seconds,
            }
        )
    return rows


def cost(rows: Sequence[Mapping[str, Any]], devices: Devices) -> dict[str, Any]:
    """The sums of `expected` in hours of a GPU or machine, and their price where one is given."""
    seconds = sum(row["seconds"] for row in rows)
    hours = devices.hours(seconds)
    return {
        "hours_of": devices.kind,
        "hours": hours,
        "wall_hours": seconds / 3600 / devices.concurrency,
        "price_per_hour": devices.price_per_hour,
        "price": None if devices.price_per_hour is None else hours * devices.price_per_hour,
        "trials": sum(row["trials"] for row in rows),
        "confirmations": sum(row["confirmations"] for row in rows),
        "steps": sum(row["steps"] for row in rows),
    }


def text(
    plan: StudyPlan,
    done: Mapping[str, int],
    devices: Devices,
    confirmed: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """The plan for the terminal: a line for each cell, and the sums."""
    rows = expected(plan, done, confirmed)
    header = ("cell", "labels", "trials", "confirmations", "steps each", "images/s", "from", f"{devices.kind}-hours")
    lines = [header]
    for (table, cell, _), row in zip(plan.cells, rows, strict=True):
        hours = devices.hours(row["seconds"])
        counts = (f"{row['trials']}", f"{row['confirmations']}", f"{cell.base.steps}")
        lines.append(
            (row["cell"], table.labels, *counts, f"{row['images_per_second']:.3g}", row["source"], f"{hours:.3g}")
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows_text = ["  ".join(map(_padded, header, line, widths)).rstrip() for line in lines]
    total = cost(rows, devices)
    summary = (
        f"{total['trials']} trials and {total['confirmations']} confirmations of {total['steps']} steps together: "
        f"{total['hours']:.3g} {devices.kind}-hours at most, {total['wall_hours']:.3g} hours by the clock with "
        f"{devices.concurrency} at a time"
    )
    if total["price"] is not None:
        summary += f", {total['price']:.2f} at {devices.price_per_hour:g} an hour of a {devices.kind}"
    return "\n".join([*rows_text, f"{summary}; the seconds in which each training starts and ends come on top"])


def _padded(column: str, value: str, width: int) -> str:
    return value.ljust(width) if column in ("cell", "labels", "from") else value.rjust(width)


def to_file(plan: StudyPlan, data: str, devices: Devices, split: str) -> PlanFile:
    """The plan on one data set as it is kept in MLflow: all that `from_file` needs, and what a report reads.

    Args:
        plan: the whole study's.
        data: one of its data sets.
        devices: what it runs on.
        split: where the confirmed models are measured in the end.
    """
    data_sets, plan = plan.data, plan.of_data(data)
    whole = expected(plan, {})
    seconds = {row["cell"]: row["seconds"] for row in whole}
    tables = tuple(_planned_table(plan, table, seconds, devices) for table in plan.tables)
    return PlanFile(plan.study, plan.created, split, data_sets, tables, cost(whole, devices))


def _planned_table(plan: StudyPlan, table: StudyTable, seconds: Mapping[str, float], devices: Devices) -> PlannedTable:
    cells = [
        PlannedCell(
            id=(name := table.cell_id(cell)),
            method=type(cell.base.method).__name__,
            key=cell.method,
            recipe=cell.recipe,
            rows=list(cell.contender.rows(table.is_of_own_data, cell.base.method)),
            trials=table.trials,
            steps=cell.base.steps,
            confirm_seeds=table.confirm_seeds,
            hours=devices.hours(seconds[name]),
            throughput=asdict(plan.throughput[name]),
            experiment=to_dict(cell.base),
            planned={s.path: {"value": s.value, "reason": s.reason} for s in cell.planned},
        )
        for cell in table.cells
    ]
    return PlannedTable(
        data=table.data,
        place=table.dataset,
        budget="all" if table.budget is None else table.budget,
        supervision=table.supervision,
        baseline=table.baseline_row,
        baseline_method=table.baseline,
        trials=table.trials,
        confirm_seeds=table.confirm_seeds,
        seed=table.seed,
        selection=table.selection,
        changes=asdict(table.changes),
        network=table.network,
        warm_up=table.warm_up,
        plan={} if table.plan is None else table.plan.to_dict(),
        cells=tuple(cells),
    )


def from_file(file: PlanFile) -> StudyPlan:
    """The plan that `to_file` wrote.

    Raises:
        ValueError: a method that this version does not know, a table that is not fair, or a damaged plan.
    """
    try:
        return _from_file(file)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"the plan of study {file.study} is damaged ({error!r}): begin another study") from None


def _from_file(file: PlanFile) -> StudyPlan:
    tables: list[StudyTable] = []
    throughput = {}
    for planned in file.tables:
        changes = dict(planned.changes)
        for name in ("size", "set"):
            if changes.get(name) is not None:
                changes[name] = tuple(changes[name])
        plan = None
        if planned.plan:
            settings = settings_from(planned.plan["settings"])
            plan = TrainingPlan(planned.plan["data"], planned.plan["machine"], settings)
        cells = []
        for cell in planned.cells:
            if cell.key not in CONTENDERS:
                raise ValueError(f"study {file.study} compares {cell.key}, which this version does not know")
            own = settings_from(cell.planned)
            cells.append(StudyCell(cell.key, cell.recipe, from_dict(dict(cell.experiment)), own))
            throughput[cell.id] = Throughput(**cell.throughput)
        tables.append(
            StudyTable(
                dataset=planned.place,
                supervision=cast(Supervision, planned.supervision),
                budget=None if isinstance(planned.budget, str) else planned.budget,
                trials=planned.trials,
                confirm_seeds=planned.confirm_seeds,
                changes=Changes(**changes),
                baseline=planned.baseline_method,
                seed=planned.seed,
                selection=cast(Selection, planned.selection),
                network=planned.network,
                warm_up=planned.warm_up,
                plan=plan,
                cells=tuple(cells),
            )
        )
    return StudyPlan(file.study, file.created, tuple(tables), throughput)
