"""A study's plan: what it costs, equal steps or equal seconds, and JSON that gives it back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.recipes.planning.plan import PlannedSetting, TrainingPlan
from miseg.recipes.study import Changes, StudyTable
from miseg.recipes.study_growth import Asked, grown
from miseg.service.study import plan as plans
from miseg.service.study import planning
from miseg.service.study.plan import Devices, StudyPlan, Throughput
from miseg.service.tracking import study_plan

RATES = {"CrossEntropy": 80.0, "BinaryCrossEntropy": 40.0, "MutualLearning": 20.0}
METHODS = ("ce", "bce", "mutual")


def fast(experiment: Experiment) -> Throughput:
    return Throughput(RATES[type(experiment.method).__name__], 0.5, "said")


def tables(methods: tuple[str, ...] = METHODS, **changes: float) -> tuple[StudyTable, ...]:
    asked = Asked(data=("embedded",), methods=methods, changes=Changes(**changes))  # type: ignore[arg-type]
    return grown((), asked, {"trials": 4, "confirm_seeds": 2})


def planned(**changes: float) -> StudyPlan:
    return plans.timed(StudyPlan("first", "2026-11-28T12:00:00+00:00", ()), tables(**changes), fast)


def test_equal_steps_are_equal_whatever_they_take() -> None:
    found = planned(steps=40)
    assert {cell.base.steps for _, cell, _ in found.cells} == {40}
    # Batches of 8 at 80, 40 and 20 images a second: 0.1, 0.2 and 0.4 s a step; five validations.
    seconds = [found.throughput[name].seconds(cell.base) for _, cell, name in found.cells]
    assert seconds == pytest.approx([40 * 0.1 + 2.5, 40 * 0.2 + 2.5, 40 * 0.4 + 2.5])


def test_equal_seconds_are_equal_whatever_the_steps() -> None:
    found = planned(gpu_seconds=12.0)
    assert [cell.base.steps for _, cell, _ in found.cells] == [120, 60, 30]
    for _, cell, name in found.cells:
        assert cell.base.steps * found.throughput[name].step_seconds(cell.base) == pytest.approx(12.0)
        assert cell.base.validate_every == cell.base.steps // 5
    assert [cell.base.steps for _, cell, _ in planned(gpu_seconds=0.001).cells] == [1, 1, 1]


def test_cells_that_were_planned_are_not_measured_again() -> None:
    found = planned(gpu_seconds=12.0)
    measured = []

    def slower(experiment: Experiment) -> Throughput:
        measured.append(type(experiment.method).__name__)
        return Throughput(10.0, 0.5, "slower")

    more = grown(found.tables, Asked(methods=("ce", "rmi"), confirm_seeds=3), {"trials": 9, "confirm_seeds": 9})
    again = plans.timed(found, more, slower)
    assert measured == ["RegionMutualInformation"]
    assert [cell.base.steps for _, cell, _ in again.cells] == [120, 60, 30, 15]
    assert again.cells[0][1] == found.cells[0][1]


def test_hours_and_price() -> None:
    found = planned(steps=40)
    rows = plans.expected(found, {})
    # Four trials, and two rows of two seeds that are measured once more each.
    assert rows[0]["seconds"] == pytest.approx(8 * 6.5 + 4 * 0.5) and rows[0]["steps"] == 8 * 40
    seconds = 8 * (6.5 + 10.5 + 18.5) + 3 * 4 * 0.5
    gpu = plans.cost(rows, Devices(True, 4, 3.6))
    assert gpu["hours"] == pytest.approx(seconds / 3600) and gpu["price"] == pytest.approx(3.6 * seconds / 3600)
    assert gpu["wall_hours"] == pytest.approx(seconds / 3600 / 4)
    # Trials share the machine's processors, and the machine is paid for.
    cpu = plans.cost(rows, Devices(False, 2, 3.6))
    assert cpu["hours"] == cpu["wall_hours"] == pytest.approx(seconds / 3600 / 2)
    assert plans.cost(rows, Devices(True, 1))["price"] is None
    assert (gpu["trials"], gpu["confirmations"], gpu["steps"]) == (12, 12, 24 * 40)


def test_what_is_done_costs_nothing_more() -> None:
    found = planned(steps=40)
    done = {"embedded/all/ce": 2, "embedded/all/bce": 1}
    ce, bce, mutual = plans.expected(found, done)
    assert (ce["trials"], ce["confirmations"], ce["seconds"]) == (0, 0, 0)
    assert (bce["trials"], bce["confirmations"]) == (0, 2) and (mutual["trials"], mutual["confirmations"]) == (4, 4)
    text = plans.text(found, done, Devices(True, 2, 2.0))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["cell", *(name for _, _, name in found.cells)]
    assert lines[1].split()[1:5] == ["all", "0", "0", "40"] and lines[3].split()[2:7] == ["4", "4", "40", "20", "said"]
    assert "4 trials and 6 confirmations of 400 steps together" in lines[4]
    assert "GPU-hours at most" in lines[4] and "at 2 an hour of a GPU" in lines[4]


def test_a_default_that_is_the_winner_too_is_confirmed_once() -> None:
    found = planned(steps=40)
    ce, bce, mutual = plans.expected(found, {"embedded/all/ce": 1, "embedded/all/bce": 1}, {"embedded/all/ce": 1})
    assert (ce["confirmations"], bce["confirmations"], mutual["confirmations"]) == (1, 2, 4)
    assert ce["seconds"] == pytest.approx(6.5 + 0.5)
    # Nothing but the default is tried, so nothing else can win.
    alone = replace(found, tables=(replace(found.tables[0], trials=1),))
    assert [(row["trials"], row["confirmations"]) for row in plans.expected(alone, {})] == [(1, 2)] * 3
    assert "3 trials and 6 confirmations" in plans.text(alone, {}, Devices(True, 1))


def test_json_gives_the_plan_back_and_has_what_a_report_reads() -> None:
    found = planned(gpu_seconds=12.0)
    more = replace(found, tables=(replace(found.tables[0], baseline="bce"),))
    written = plans.to_file(more, "embedded", Devices(True, 2, 2.0), "test").to_json()
    data = json.loads(json.dumps(written))
    assert plans.from_file(study_plan.from_json(data)) == more
    assert (data["study"], data["created"], data["split"]) == ("first", "2026-11-28T12:00:00+00:00", "test")
    assert data["cost"]["price"] == pytest.approx(2 * data["cost"]["hours"]) and data["cost"]["hours_of"] == "GPU"
    (table,) = data["tables"]
    wanted = {"data": "embedded", "budget": "all", "supervision": "dense", "baseline": "BCE tuned"}
    assert {key: table[key] for key in wanted} == wanted
    cell = table["cells"][2]
    assert cell["id"] == "embedded/all/mutual" and cell["method"] == "MutualLearning"
    assert cell["recipe"] == "embedded-mutual" and cell["rows"] == [
        "mutual learning tuned",
        "mutual learning as published",
    ]
    assert (cell["trials"], cell["steps"], cell["confirm_seeds"]) == (4, 30, 2)
    assert sum(other["hours"] for other in table["cells"]) == pytest.approx(data["cost"]["hours"])
    data["tables"][0]["cells"][0]["key"] = "from-the-future"
    with pytest.raises(ValueError, match="study first compares from-the-future, which this version does not know"):
        plans.from_file(study_plan.from_json(data))


def test_budgets_and_sizes_come_back_from_json() -> None:
    changes = Changes(steps=5, size=(60, 80), initial_features=2)
    asked = Asked(data=("camvid", "sentinel2-flanders"), budgets=("10",), changes=changes)
    found = StudyPlan("first", "now", grown((), asked, {"trials": 1, "confirm_seeds": 1}))
    found = plans.timed(found, found.tables, lambda experiment: Throughput(1.0, 1.0, "said"))
    devices = Devices(False, 1)
    parts = [
        plans.from_file(
            study_plan.from_json(json.loads(json.dumps(plans.to_file(found, data, devices, "val").to_json())))
        )
        for data in found.data
    ]
    assert [part.tables for part in parts] == [found.of_data(data).tables for data in ("camvid", "sentinel2-flanders")]
    assert parts[1].tables[0].budget == 10 and parts[0].tables[0].changes == changes


def test_a_study_of_before_grows_with_the_warm_ups_that_it_had() -> None:
    asked = Asked(data=("camvid",), methods=("ce",), changes=Changes(steps=10))
    study = plans.timed(
        StudyPlan("first", "now", of_now := grown((), asked, {"trials": 1, "confirm_seeds": 1})), of_now, fast
    )
    assert study.tables[0].cells[0].base.optimiser.warmup_steps < 10
    written = json.loads(json.dumps(plans.to_file(study, "camvid", Devices(False, 1), "val").to_json()))
    assert plans.from_file(study_plan.from_json(written)) == study
    del written["tables"][0]["warm_up"]
    (before,) = plans.from_file(study_plan.from_json(written)).tables
    more = Asked(data=("camvid", "embedded"), methods=("bce",), changes=asked.changes)
    tables_after = grown((before,), more, {"trials": 1, "confirm_seeds": 1})
    added = {table.cell_id(cell): cell.base for table in tables_after for cell in table.cells}
    assert added["camvid/all/bce"].optimiser.warmup_steps == RECIPES["camvid-bce"]().optimiser.warmup_steps
    assert added["embedded/all/bce"].optimiser.warmup_steps == RECIPES["embedded-bce"]().optimiser.warmup_steps


def test_a_plan_from_own_data_comes_back_from_json() -> None:
    settings = (
        PlannedSetting("augmentation.crop", (64, 96), "the median image"),
        PlannedSetting("batch_size", 6, "what the memory holds"),
    )
    planned_from_data = TrainingPlan("20 images", "2 GiB", settings)
    asked = Asked(data=("pets",), methods=("ce", "rmi"), changes=Changes(steps=5, set=("optimiser.power=0.5",)))
    (table,) = grown((), asked, {"trials": 1, "confirm_seeds": 1})
    table = replace(table, plan=planned_from_data, cells=()).filled(table.methods)
    found = plans.timed(StudyPlan("own", "now", ()), (table,), lambda experiment: Throughput(1.0, 1.0, "said"))
    written = json.loads(json.dumps(plans.to_file(found, "pets", Devices(False, 1), "val").to_json()))
    assert plans.from_file(study_plan.from_json(written)) == found
    # Nobody published settings for these data.
    assert [cell["rows"][1] for cell in written["tables"][0]["cells"]] == ["CE as planned", "RMI as planned"]
    assert found.tables[0].cells[1].planned and found.tables[0].cells[1].base.optimiser.power == 0.5
    text = planning.text(found.tables)
    assert "augmentation.crop  64,96  the median image" in text and "rmi: method.downsampling_factor" in text
