"""A process killed as it registers a model, keeps a study's plan or writes a report; the next one ends alike."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.interface import Task
from miseg.methods.configs import CrossEntropy
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment
from miseg.recipes.study_growth import Asked, grown
from miseg.service.checkpoints import checkpoint
from miseg.service.reports import content as report_content
from miseg.service.reports import page as report_page
from miseg.service.reports import runs as report_runs
from miseg.service.study import plan as plans
from miseg.service.study import record, start
from miseg.service.study.plan import Devices, StudyPlan, Throughput
from miseg.service.study.start import Options
from miseg.service.tracking import mlflow_runs, models, registry
from miseg.service.tracking.run_store import RunStore
from miseg.service.training.loop import Loop
from tests.support.killed import Kill, killed_everywhere
from tests.support.report_store import Study

pytestmark = [pytest.mark.faults, pytest.mark.slow]

EXPERIMENT = Experiment(CrossEntropy(UNet(2, "group")), data="streets")
IoU = "val/mean_iou"
WRITES = (
    "create_experiment", "create_run", "create_registered_model", "create_model_version", "delete_model_version",
    "delete_run", "log_artifact", "log_batch", "set_registered_model_alias", "set_tag", "set_terminated",
    "set_experiment_tag", "update_run",
)  # fmt: skip
"""Methods of MLflow's client that change what the server has."""


def watch_writes(patch: pytest.MonkeyPatch, kill: Kill) -> None:
    kill.watch(patch, MlflowClient, *WRITES)


def trained(uri: str, folder: Path, name: str, score: float) -> str:
    run_id = mlflow_runs.open_experiment_run(RunStore(str(folder), uri), EXPERIMENT, name, "f00d")
    mlflow_runs.log_metrics(uri, run_id, {IoU: score})
    loop = Loop(EXPERIMENT, Task(num_classes=3))
    saved = checkpoint.save(folder / f"checkpoint-{name}", loop, {"step": 0}, {"mean": [0.5] * 3, "std": [0.2] * 3})
    models.log_model(uri, run_id, "best", saved)
    return run_id


def test_a_model_is_registered_once_and_best_stands_at_the_better_one(uri, tmp_path) -> None:
    runs = [trained(uri, tmp_path, f"run {number}", score) for number, score in enumerate((0.4, 0.5))]

    def register(number: int) -> None:
        for run_id in runs:
            registry.register(uri, run_id, f"model{number}", IoU)

    kills = killed_everywhere(watch_writes, register)
    assert kills >= 8
    client = MlflowClient(uri)
    for number in range(kills):
        register(number)
        versions = client.search_model_versions(f"name = 'model{number}'")
        assert {version.run_id for version in versions} == set(runs) and len(versions) == 2
        best = client.get_model_version_by_alias(f"model{number}", registry.BEST)
        whole = client.get_model_version_by_alias("model-1", registry.BEST)
        assert (best.run_id, best.tags, best.source) == (whole.run_id, whole.tags, whole.source)
        assert best.run_id == runs[1]


def test_a_study_whose_planning_was_cut_off_goes_on_with_its_plan(uri, tmp_path, capsys) -> None:
    def plan_of(number: int) -> StudyPlan:
        tables = grown((), Asked(data=("embedded",), methods=("ce", "rmi")), {"trials": 2, "confirm_seeds": 1})
        known = StudyPlan(f"study{number}", "2026-11-28T12:00:00+00:00", ())
        return plans.timed(known, tables, lambda experiment: Throughput(10.0, 1.0, "said"))

    store = RunStore(str(tmp_path), uri)

    def keep(number: int) -> str:
        return record.open_run(store, plan_of(number), "embedded", Devices(False, 1), "test")

    kills = killed_everywhere(watch_writes, keep)
    assert kills >= 6
    for number in range(kills):
        kept = record.find(uri, f"study{number}")
        options = Options(storage=str(tmp_path), name=f"study{number}", resume=True)
        if kept is not None and not kept.tables:
            # Nobody knows what was asked for: the default study is not what goes on.
            with pytest.raises(ValueError, match=r"ended before its plan was kept: say again what it compares, --data"):
                start._known(options)
        elif kept is not None:
            assert start._known(options) == kept == plan_of(number)
        run_id = keep(number)
        assert keep(number) == run_id and record.find(uri, f"study{number}") == plan_of(number)
    capsys.readouterr()


def test_a_report_is_the_one_before_or_the_new_one(template, tmp_path) -> None:
    def report(name: str, level: float, seeds: tuple[int, ...], trials: int) -> report_content.Content:
        (tmp_path / name).mkdir()
        shutil.copyfile(template, tmp_path / name / "mlflow.db")
        study = Study(f"sqlite:///{tmp_path}/{name}/mlflow.db", tmp_path / name)
        for row, method, of_row in (
            ("BCE tuned", "BinaryCrossEntropy", 0.3),
            ("RMI tuned", "RegionMutualInformation", level),
        ):
            cell = study.cell(row[:3].lower(), method, [row], f"camvid-{row[:3]}", len(seeds), trials=trials)
            study.row(cell, row, method, of_row, list(seeds), pictures=False)
        study.finish([])
        return report_content.content(report_runs.read(study.uri))

    before, after = report("before", 0.5, (1, 2), 4), report("after", 0.6, (1,), 0)
    report_page.write(before, tmp_path / "before" / "report")

    def folder(number: int) -> Path:
        return tmp_path / "killed" / str(number)

    def rewrite(number: int) -> None:
        shutil.copytree(tmp_path / "before" / "report", folder(number))
        report_page.write(after, folder(number))

    def watch(patch: pytest.MonkeyPatch, kill: Kill) -> None:
        kill.watch(patch, os, "replace")
        kill.watch(patch, Path, "unlink")

    kills = killed_everywhere(watch, rewrite)
    assert kills >= 8
    for number in range(kills):
        text = (folder(number) / report_page.MARKDOWN).read_text()
        figures = [word.split(")")[0] for word in text.split("](") if word.startswith(report_page.FIGURES)]
        missing = [figure for figure in figures if not (folder(number) / figure).exists()]
        assert not missing, f"kill {number}: the Markdown shows figures that are gone"
        report_page.write(after, folder(number))
        names = {path.relative_to(folder(number)) for path in folder(number).rglob("*")}
        assert names == {path.relative_to(folder(-1)) for path in folder(-1).rglob("*")}
