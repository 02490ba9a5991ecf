"""plan.json, an artifact of a study's run: what the study compares on one data set, and what it is expected to cost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from miseg.file_names import check_plain
from miseg.json_values import parse
from miseg.recipes.lengths import WarmUp
from miseg.service.records import read_record
from miseg.service.tracking import mlflow_runs

FILE = "plan.json"


@dataclass(frozen=True)
class PlannedCell:
    """One method of a table. The names of the attributes are the keys of the file.

    Attributes:
        id: `<data>/<budget>/<key>`, or with a network before the key.
        method: class of the method's settings.
        rows: names of the rows that are confirmed.
        key: the method's key in `CONTENDERS`.
        recipe: name of the recipe.
        trials, steps, confirm_seeds: the budget.
        hours: expected, of a GPU or of the machine.
        throughput: fields of `Throughput`.
        experiment: the recipe as the study runs it, as `to_dict` gives it.
        planned: by path, value and reason of each setting of the method itself that follows from the table's plan.
    """

    id: str
    method: str
    rows: Sequence[str]
    key: str = ""
    recipe: str = ""
    trials: int | None = None
    steps: int | None = None
    confirm_seeds: int | None = None
    hours: float | None = None
    throughput: Mapping[str, Any] = field(default_factory=dict)
    experiment: Mapping[str, Any] = field(default_factory=dict)
    planned: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedTable:
    """Methods that are compared with each other under one budget of labels.

    Attributes:
        data: name, folder or URI of the data set.
        place: as the study was asked for it.
        budget: number of labels, or "all".
        supervision: "dense", "few" or "none".
        baseline: name of the row that the others are measured against.
        baseline_method: its method, as the study was asked for it.
        trials, confirm_seeds, seed, selection: of all cells.
        changes: fields of `Changes`.
        network: of all cells, as the study was asked for it; "": the recipes'.
        warm_up: of all cells, as `WarmUp` has it; a plan of before it was kept has the recipes'.
        plan: of own data, the settings of all cells that were planned from it, as `TrainingPlan.to_dict` gives them.
    """

    data: str
    place: str = ""
    budget: int | str = "all"
    supervision: str = "dense"
    baseline: str = ""
    baseline_method: str = ""
    trials: int = 1
    confirm_seeds: int = 1
    seed: int = 0
    selection: str = "objective"
    changes: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    warm_up: WarmUp = "recipe"
    plan: Mapping[str, Any] = field(default_factory=dict)
    cells: tuple[PlannedCell, ...] = ()


@dataclass(frozen=True)
class PlanFile:
    """The part of a study's plan that is on one data set.

    Attributes:
        study: name of the study.
        created: ISO 8601.
        split: where the confirmed models are measured.
        data_sets: all that the study had when the file was written, in the order in which they were planned.
        cost: hours and price that were expected, as `miseg.service.study.plan.cost` gives them.
    """

    study: str = ""
    created: str = ""
    split: str = ""
    data_sets: Sequence[str] = ()
    tables: tuple[PlannedTable, ...] = ()
    cost: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def from_json(data: Mapping[str, Any]) -> PlanFile:
    """Plan that `PlanFile.to_json` wrote; keys of other versions are left out.

    Raises:
        ValueError: a study whose name is not plain, a table without its data, a cell without id, method or rows, or a
            value of another type; the message names it.
    """
    plan = read_record(PlanFile, json.dumps(_without_nulls(data)))
    if plan.study:
        check_plain(plan.study)  # the names of its tunings begin with it
    return plan


def log(uri: str, run_id: str, plan: PlanFile) -> None:
    """Keep the plan with the study's run; waits for a server that is away."""
    mlflow_runs.log_json(uri, run_id, FILE, plan.to_json())


def read(client: MlflowClient, run_id: str) -> PlanFile | None:
    """The plan that a study's run holds; None where a kill came before it was written, or before its end.

    Raises:
        MlflowException, OSError: MLflow does not answer.
    """
    if FILE not in {artifact.path for artifact in client.list_artifacts(run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        content = Path(client.download_artifacts(run_id, FILE, folder)).read_bytes()
    try:
        return from_json(parse(content))
    except ValueError:
        return None


def data_order(plans: Iterable[PlanFile]) -> Sequence[str]:
    """The study's data sets as they were planned: the longest of the files' lists is the last that was written."""
    return max((plan.data_sets for plan in plans), key=len, default=())


def _without_nulls(data: Any) -> Any:
    """The file, its tables and cells without fields that hold nothing, which have their defaults then."""
    if not isinstance(data, Mapping):
        return data
    held = {name: value for name, value in data.items() if value is not None}
    for name in {"tables", "cells"} & held.keys():
        if isinstance(held[name], list):
            held[name] = [_without_nulls(part) for part in held[name]]
    return held
