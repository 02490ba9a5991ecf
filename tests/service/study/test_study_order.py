"""What a study does in which order, and what it does not do again, with trainings and evaluations that cost nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from miseg.data.packed.dataset import PackedDataset
from miseg.recipes.study import Changes
from miseg.recipes.study_growth import Asked, grown
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.command.start import Job
from miseg.service.evaluation.evaluate import THIN, EvaluationReport, TrainedModel
from miseg.service.evaluation.scores import FurtherMeasures
from miseg.service.study import plan as plans
from miseg.service.study import record
from miseg.service.study import study as studies
from miseg.service.study.plan import Devices, StudyPlan, Throughput
from miseg.service.study.study import Study
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails, RunStore
from miseg.service.training.run import FINISHED
from miseg.service.tuning import repeats
from miseg.service.tuning.tune import TuningReport
from miseg.service.tuning.tuning import Tuning

DEFAULTS = {"trials": 2, "confirm_seeds": 1}


class Fake:
    """Stands in for tuning and evaluation: keeps what they would keep in MLflow, and a list of what was called."""

    def __init__(self, uri: str, storage: Path) -> None:
        self.uri, self.storage = uri, str(storage)
        self.calls: list[str] = []
        self.trouble: dict[str, BaseException] = {}
        self.ended: list[str] = []
        """What confirmations end with, the next tuning's first; then all finish."""

    def tune(self, tuning: Tuning) -> TuningReport:
        cell = tuning.tags["miseg.cell"]
        self.calls.append(f"tune {cell} {tuning.confirm_seeds}")
        if cell in self.trouble:
            raise self.trouble.pop(cell)
        place = mlflow_runs.experiment_name(tuning.base.data)
        tags = {"miseg.kind": "tuning", repeats.SETTINGS: repeats.settings_of(tuning)} | dict(tuning.tags)
        params = {"confirm_seeds": str(tuning.confirm_seeds)}
        parent = mlflow_runs.open_run(
            RunStore(self.storage, self.uri),
            place,
            tuning.name,
            RunDetails(parent=tuning.parent, tags=tags, params=params),
        )
        for row in (tuning.tuned, *tuning.rivals):
            for seed in range(1, 1 + tuning.confirm_seeds):
                run_id = mlflow_runs.open_experiment_run(
                    RunStore(self.storage, self.uri),
                    replace(tuning.base, seed=seed),
                    f"{tuning.name} {row} {seed}",
                    "f",
                    RunDetails(
                        parent=parent,
                        tags=dict(tuning.tags) | {"miseg.kind": "trial", "miseg.row": row, "miseg.confirmed": "yes"},
                    ),
                )
                mlflow_runs.end_run(self.uri, run_id, "FINISHED", "finished")
        mlflow_runs.end_run(self.uri, parent, "FINISHED", "finished")
        ended = self.ended.pop(0) if self.ended else FINISHED
        found = pd.DataFrame([{"row": tuning.tuned, "seed": 1, "mean_iou": 0.5, "ended": ended}])
        return TuningReport(parent, found, found)

    def evaluate(
        self, model: TrainedModel, data: str, split: str, job: Job, measures: FurtherMeasures, tags: dict[str, str]
    ) -> EvaluationReport:
        of_thin = f" with {', '.join(measures.thin)}" if measures.thin else ""
        self.calls.append(f"measure {tags['miseg.cell']} on {split}{of_thin}")
        if tags["miseg.row"] in self.trouble:
            raise self.trouble.pop(tags["miseg.row"])
        parent = model.run_id
        trained = MlflowClient(self.uri).get_run(parent)
        run_id = mlflow_runs.open_run(
            RunStore(self.storage, self.uri),
            f"miseg/{trained.data.tags['miseg.data'].rsplit('/', 1)[-1]}",
            f"evaluate {parent} {split}",
            RunDetails(
                parent=parent,
                tags={"miseg.kind": "evaluation"} | tags,
                params={"split": split, "seed": trained.data.params["seed"]},
            ),
        )
        named = {THIN: json.dumps(measures.thin)} if measures.thin else {}
        mlflow_runs.log_metrics(self.uri, run_id, {f"{split}/mean_iou": 0.25}, tags=named)
        mlflow_runs.end_run(self.uri, run_id, "FINISHED", "finished")
        return EvaluationReport(run_id, {f"{split}/mean_iou": 0.25}, [])

    def called(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def fake(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake(uri, tmp_path)
    monkeypatch.setattr(studies.tune, "run", fake.tune)
    monkeypatch.setattr(studies, "evaluate", fake.evaluate)
    monkeypatch.setattr(studies.models, "download", lambda uri, run_id, role, folder: Path(folder) / role)
    return fake


def study_of(fake: Fake, packed: list[PackedDataset], known: StudyPlan | None = None, **asked: object) -> Study:
    known = known or StudyPlan("first", "2026-11-28T12:00:00+00:00", ())
    tables = grown(known.tables, Asked(**asked), DEFAULTS)  # type: ignore[arg-type]
    plan = plans.timed(known, tables, lambda experiment: Throughput(10.0, 1.0, "said"))
    resources = Resources(2, 0, 1, 1)
    jobs = {
        found.uri: Job(fake.storage, fake.uri, resources, found.uri, "") for found in packed if found.uri in plan.data
    }
    return Study(plan, jobs, Devices(False, 1))


@pytest.mark.slow
def test_all_is_tuned_before_anything_is_tested_and_nothing_is_done_twice(fake, small, mixed_sizes, capsys) -> None:
    data = [small]
    first = study_of(fake, data, data=(small.uri,), methods=("ce", "kmeans"))
    assert studies.run(first) == []
    assert fake.called() == [
        "tune packed/all/ce 1",
        "tune packed/all/kmeans 1",
        *["measure packed/all/ce on test"] * 2,
        *["measure packed/all/kmeans on test"] * 2,
    ]
    said = capsys.readouterr().out
    assert "Mean IoU on test after the last step, 1 fresh seed" in said and "the report is not kept" not in said
    client, [(_, run_id)] = MlflowClient(fake.uri), studies.runs(first)
    run = client.get_run(run_id).data
    expected = {"data": small.uri, "split": "test", "all-dense/trials": "2"}
    assert expected.items() <= run.params.items()
    assert {"all-dense/ce/steps", "all-none/kmeans/steps"} <= run.params.keys()
    assert {value for name, value in run.metrics.items() if name.startswith("test/mean_iou/all-dense/")} == {0.25}
    assert run.tags["miseg.split"] == "test" and "packed/all, supervision dense: 1" in run.tags["miseg.confirm_seeds"]
    assert "packed/all, supervision dense: CE tuned" in run.tags["miseg.baselines"]
    artifacts = {item.path for item in client.list_artifacts(run_id)}
    assert {"plan.json", "report", "all-dense-mean_iou.csv", "all-dense-mean_iou.json"} <= artifacts
    report = Path(client.download_artifacts(run_id, "report/report.html")).read_text()
    assert "Study first" in report and "CE tuned" in report

    known = record.find(fake.uri, "first")
    assert known == first.plan
    assert studies.run(study_of(fake, data, known)) == [] and fake.called() == []

    more = study_of(fake, data, known, confirm_seeds=2)
    assert studies.run(more) == []
    calls = fake.called()
    assert calls[:2] == ["tune packed/all/ce 2", "tune packed/all/kmeans 2"]
    assert calls[2:] == [*["measure packed/all/ce on test"] * 2, *["measure packed/all/kmeans on test"] * 2]

    known = record.find(fake.uri, None)
    assert studies.run(study_of(fake, data, known, methods=("bce",))) == []
    assert fake.called() == ["tune packed/all/bce 2", *["measure packed/all/bce on test"] * 4]
    known = record.find(fake.uri, None)
    assert known is not None and set(record.done(fake.uri, known).values()) == {2}


@pytest.mark.slow
def test_thin_classes_that_are_asked_for_later_are_measured_of_every_model(fake, small, capsys) -> None:
    study = study_of(fake, [small], data=(small.uri,), methods=("ce",))
    assert studies.run(study) == []
    assert fake.called() == ["tune packed/all/ce 1", *["measure packed/all/ce on test"] * 2]
    assert studies.run(replace(study, thin=("road", "no class of these data"))) == []
    assert fake.called() == ["measure packed/all/ce on test with road"] * 2
    assert capsys.readouterr().out.count("measured before without clDice of road, so once more") == 2
    assert studies.run(replace(study, thin=("road",))) == [] and fake.called() == []
    # Classes that were named before stay, also of models that come later.
    more = study_of(fake, [small], record.find(fake.uri, "first"), methods=("bce",))
    assert studies.run(more) == []
    assert fake.called() == ["tune packed/all/bce 1", *["measure packed/all/bce on test with road"] * 2]
    assert studies.run(replace(more, thin=("pole",))) == []
    assert sorted(fake.called()) == sorted(
        f"measure packed/all/{method} on test with pole, road" for method in ("ce", "ce", "bce", "bce")
    )
    evaluations = record.evaluations(fake.uri, more.plan)
    assert len(evaluations) == 4 and {tuple(record.thin(run)) for run in evaluations.values()} == {("pole", "road")}
    assert record.rows_confirmed(fake.uri, more.plan) == {"packed/all/ce": 2, "packed/all/bce": 2}


@pytest.mark.slow
def test_a_winner_that_another_overtook_is_in_no_table(fake, small) -> None:
    """It was measured, and then a trial that had failed was repeated and won: `name_rows` tags both so."""
    study = study_of(fake, [small], data=(small.uri,), methods=("ce",), confirm_seeds=2)
    assert studies.run(study) == []
    confirmed = record._runs(fake.uri, "tags.`miseg.confirmed` = 'yes'")
    client = MlflowClient(fake.uri)
    (overtaken,) = (
        run for run in confirmed if run.data.tags["miseg.row"] == "CE tuned" and run.data.params["seed"] == "2"
    )
    client.set_tag(overtaken.info.run_id, "miseg.confirmed", "no")
    for run in confirmed:
        if run.data.tags["miseg.row"] != "CE tuned":
            client.set_tag(run.info.run_id, "miseg.row", "another name (= tuned)")
    ((_, scores),) = record.results(fake.uri, study.plan, "test", study.plan.tables[0].dataset)
    assert scores["row"].value_counts().to_dict() == {"another name (= tuned)": 2, "CE tuned": 1}


@pytest.mark.slow
def test_a_study_that_was_interrupted_goes_on_where_it_was(fake, small) -> None:
    study = study_of(fake, [small], data=(small.uri,), methods=("ce", "bce", "rmi"))
    fake.trouble["packed/all/bce"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        studies.run(study)
    assert fake.called() == ["tune packed/all/ce 1", "tune packed/all/bce 1"], "nothing was tested"
    (run,) = record._runs(fake.uri, "tags.`miseg.kind` = 'study'")
    assert (run.info.status, run.data.tags["miseg.ended"]) == ("KILLED", "interrupted; --resume continues")
    fake.trouble["RMI tuned"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        studies.run(study_of(fake, [small], record.find(fake.uri, None)))
    calls = fake.called()
    assert calls[:2] == ["tune packed/all/bce 1", "tune packed/all/rmi 1"]
    again = study_of(fake, [small], record.find(fake.uri, None))
    assert studies.run(again) == []
    measured = [call for call in [*calls, *fake.called()] if call.startswith("measure")]
    # The one that was interrupted is measured again, and no other.
    assert len(measured) == 6 + 1 and len(record.evaluations(fake.uri, again.plan)) == 6
    (run,) = record._runs(fake.uri, "tags.`miseg.kind` = 'study'")
    assert (run.info.status, run.data.metrics["cells_done"]) == ("FINISHED", 3)


def test_a_cell_that_fails_is_told_and_the_others_go_on(fake, small, capsys) -> None:
    study = study_of(fake, [small], data=(small.uri,), methods=("ce", "bce"))
    fake.trouble |= {"packed/all/ce": RuntimeError("the GPU fell off the bus\nat line 1"), "BCE tuned": OSError("gone")}
    assert studies.run(study) == ["packed/all/ce", "packed/all/bce"]
    assert fake.called() == ["tune packed/all/ce 1", "tune packed/all/bce 1", *["measure packed/all/bce on test"] * 2]
    printed = capsys.readouterr().out
    assert printed.count("packed/all/ce failed: the GPU fell off the bus") == 2 and printed.count("at line 1") == 1
    (run,) = record._runs(fake.uri, "tags.`miseg.kind` = 'study'")
    assert run.info.status == "FAILED"
    assert run.data.tags["miseg.ended"] == "failed: packed/all/ce, packed/all/bce; --resume tries again"
    assert studies.run(study) == []
    assert sorted(fake.called()) == [
        *["measure packed/all/bce on test"], *["measure packed/all/ce on test"] * 2, "tune packed/all/ce 1",
    ]  # fmt: skip


def test_a_cell_whose_confirmation_failed_is_not_done(fake, small, capsys) -> None:
    study = study_of(fake, [small], data=(small.uri,), methods=("ce",))
    fake.ended.append("the loss is nan at step 3")
    assert studies.run(study) == ["packed/all/ce"]
    assert "packed/all/ce failed: CE tuned seed 1: the loss is nan at step 3" in capsys.readouterr().out
    fake.called()
    assert studies.run(study) == []
    assert "tune packed/all/ce 1" in fake.called()


def test_data_without_a_test_split_is_measured_where_it_was_validated_and_said_so(fake, mixed_sizes, capsys) -> None:
    study = study_of(fake, [mixed_sizes], data=(mixed_sizes.uri,), methods=("ce",))
    assert mixed_sizes.splits == ("train", "val") and studies.run(study) == []
    assert fake.called() == ["tune packed/all/ce 1", *["measure packed/all/ce on val"] * 2]
    assert "has no test split: these are the images that trials were compared on" in capsys.readouterr().out


def test_cells_tuned_with_other_settings_and_names_that_are_taken_are_refused(fake, small, tmp_path) -> None:
    asked = {"data": (small.uri,), "methods": ("ce",)}
    study = study_of(fake, [small], **asked)
    studies.run(study)
    longer = study_of(fake, [small], **asked, changes=Changes(steps=7))
    with pytest.raises(
        ValueError, match=r"packed/all/ce: first-packed-all-ce, run \w+, was begun with other settings than these"
    ):
        studies.run(longer)
    mlflow_runs.open_run(RunStore(str(tmp_path), fake.uri), mlflow_runs.experiment_name(small.uri), "study-second")
    other = replace(study, plan=replace(study.plan, study="second"))
    with pytest.raises(ValueError, match=r"study-second is the name of another run, \w+: choose another --name"):
        studies.run(other)


def test_a_plan_that_was_cut_off_is_told(fake, small, capsys) -> None:
    study = study_of(fake, [small], data=(small.uri,), methods=("ce",))
    store = RunStore(fake.storage, fake.uri)
    two = replace(
        study.plan, tables=(*study.plan.tables, *grown((), Asked(data=("camvid",), methods=("ce",)), DEFAULTS))
    )
    two = plans.timed(two, two.tables, lambda experiment: Throughput(10.0, 1.0, "said"))
    run_id = record.open_run(store, two, small.uri, study.devices, "test", small)
    inputs = MlflowClient(fake.uri).get_run(run_id).inputs.dataset_inputs
    splits = {item.dataset.name.rpartition("/")[2]: item.tags[0].value for item in inputs}
    assert splits == {"train": "train", "val": "validation", "test": "test"}
    found = record.find(fake.uri, "first")
    assert found is not None and found.data == [small.uri]
    assert "study first ended before its plan on camvid was kept: add it again with --data" in capsys.readouterr().out
    record.open_run(store, two, "camvid", study.devices, "val")
    assert record.find(fake.uri, "first") == two and not capsys.readouterr().out
    assert record.find(fake.uri, "another") is None
