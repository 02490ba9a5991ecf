"""Plans of a study's tables on own data: settings that all methods of a table share, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from miseg.recipes.study import StudyTable
from miseg.service.command.options import JobOptions
from miseg.service.command.planning import planned


def with_plans(options: JobOptions, tables: Sequence[StudyTable]) -> tuple[StudyTable, ...]:
    """The tables, each one on own data that has no plan yet with one that holds for all its methods.

    Raises:
        ValueError: as `planned`.
    """
    return tuple(_with_plan(options, table) if table.is_of_own_data else table for table in tables)


def _with_plan(options: JobOptions, table: StudyTable) -> StudyTable:
    if table.plan is not None:
        return table
    experiments = [cell.base for cell in table.cells]
    given = table.changes.given(experiments[0], table.supervision)
    if table.budget is not None:
        given["label_budget"] = table.budget
    # Of crop, batch and schedule all plans are alike: they are made for the method that needs most memory.
    _, plan = planned(options, experiments, given)[0]
    return replace(table, plan=plan.of_data, cells=()).filled(table.methods)


def decoded_gib(tables: Sequence[StudyTable]) -> float | None:
    """GiB of decoded images that a machine keeps for the tables of one data set; None: what the job says."""
    planned_gib = [table.plan.decoded_gib for table in tables if table.plan is not None]
    return max((gib for gib in planned_gib if gib is not None), default=None)


def text(tables: Sequence[StudyTable]) -> str:
    """The plans for the terminal, and what methods without a recipe have in its place; "" where there is neither."""
    lines = []
    for table in tables:
        if table.plan is not None:
            lines.append(f"{table.id}, change a setting with --set SETTING=VALUE; {table.plan.table(options=False)}")
        for cell in table.cells:
            lines += [f"  {cell.method}: {own.path}  {own.text}  {own.reason}" for own in cell.planned]
            if table.plan is None and not cell.recipe.endswith(f"-{cell.method}"):
                lines.append(f"{table.cell_id(cell)} has no recipe: its settings are those of {cell.recipe}")
    return "\n".join(lines)
