"""A whole study, then once more with a seed added: nothing is done twice, and each model reads the test split once."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.commands import study as study_command
from miseg.evaluation import ConfusionMatrix, ImageMeanIoU
from miseg.service.study import record
from miseg.service.study.start import Options
from miseg.service.tracking import mlflow_runs

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.usefixtures("ray_here"), pytest.mark.timeout(900)]

STEPS, TRIALS = 5, 2
ROWS = {
    "packed/all/ce": {"CE tuned", "CE as planned"},
    "packed/all/kmeans": {"K-means tuned", "K-means as planned"},
}


class Studied:
    """What a store holds of a study."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)
        places = [place.experiment_id for place in self.client.search_experiments()]
        runs = self.client.search_runs(places)
        self.runs = {run.info.run_id: run for run in runs}

    def of_kind(self, kind: str) -> list[Run]:
        return [run for run in self.runs.values() if run.data.tags.get("miseg.kind") == kind]

    def parent(self, run: Run) -> Run:
        return self.runs[run.data.tags["mlflow.parentRunId"]]

    @property
    def confirmations(self) -> list[Run]:
        return [run for run in self.of_kind("trial") if run.data.tags.get("miseg.confirmed") == "yes"]

    def plan(self) -> dict:
        (run,) = self.of_kind("study")
        return json.loads(Path(self.client.download_artifacts(run.info.run_id, "plan.json")).read_text())

    def check(self, seeds: int) -> None:
        """Every row of every cell was confirmed and tested on as many seeds, as the report expects to find it."""
        (study,) = self.of_kind("study")
        assert (study.info.status, study.data.tags["miseg.study"]) == ("FINISHED", "first")
        tunings = self.of_kind("tuning")
        assert {run.data.tags["miseg.cell"] for run in tunings} == set(ROWS) and len(tunings) == len(ROWS)
        assert all(self.parent(run) is study and run.data.tags["miseg.study"] == "first" for run in tunings)
        found = Counter()
        for run in self.confirmations:
            tags = run.data.tags
            assert tags["miseg.study"] == "first" and self.parent(run).data.tags["miseg.cell"] == tags["miseg.cell"]
            assert run.data.params["steps"] == str(STEPS)
            assert tags["miseg.ended"] == "finished" and run.info.status == "FINISHED"
            # The default may have won: then it is confirmed once, for both rows.
            rows = ROWS[tags["miseg.cell"]] if tags["miseg.row"].endswith(" (= tuned)") else {tags["miseg.row"]}
            found.update((tags["miseg.cell"], row, int(run.data.params["seed"])) for row in rows)
        wanted = [(cell, row, 1 + seed) for cell, rows in ROWS.items() for row in rows for seed in range(seeds)]
        assert found == Counter(wanted)
        evaluations = self.of_kind("evaluation")
        measured = Counter(run.data.tags["mlflow.parentRunId"] for run in evaluations)
        assert measured == Counter(run.info.run_id for run in self.confirmations), "each model is tested once"
        for run in evaluations:
            self.check_evaluation(run)

    def check_evaluation(self, run: Run) -> None:
        parent, metrics = self.parent(run), run.data.metrics
        for key in ("miseg.study", "miseg.cell", "miseg.row"):
            assert run.data.tags[key] == parent.data.tags[key]
        assert run.info.status == "FINISHED"
        prefix = "test" if run.data.tags["miseg.method"] == "CrossEntropy" else "test/train_match"
        assert 0 <= metrics[f"{prefix}/mean_cldice"] == metrics[f"{prefix}/cldice/road"] <= 1
        assert run.data.params["split"] == "test" and run.data.params["seed"] == parent.data.params["seed"]
        path = self.client.download_artifacts(run.info.run_id, "images/test-images.parquet")
        images = pq.read_table(path).to_pylist()
        assert sorted(image["id"] for image in images) == ["test/00000", "test/00001"]
        for column, prefix in {"counts": "test", "counts_train_match": "test/train_match"}.items():
            if column not in images[0]:
                assert run.data.tags["miseg.method"] == "CrossEntropy"
                continue
            whole = ConfusionMatrix(11)
            for image in images:
                whole.counts += torch.tensor(image[column]).view(11, 11)
            assert whole.mean_iou() == pytest.approx(metrics[f"{prefix}/mean_iou"], abs=1e-6)
            assert whole.micro_iou() == pytest.approx(metrics[f"{prefix}/micro_iou"], abs=1e-6)
            assert whole.pixel_accuracy() == pytest.approx(metrics[f"{prefix}/pixel_accuracy"], abs=1e-6)
            assert whole.worst_class_iou() == pytest.approx(metrics[f"{prefix}/worst_class_iou"], abs=1e-6)
            of_images = ImageMeanIoU(11)
            of_images.add(torch.tensor([image[column] for image in images]).view(-1, 11, 11))
            assert of_images.mean() == pytest.approx(metrics[f"{prefix}/image_mean_iou"], abs=1e-6)
            of_road = whole.iou_per_class()[3].item()
            assert of_road == pytest.approx(metrics.get(f"{prefix}/iou/road", float("nan")), abs=1e-6, nan_ok=True)


def test_a_study_that_grows_by_a_seed(small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def study(**options: object) -> str:
        changes = Options().changes.__class__(steps=STEPS, size=(32, 32), initial_features=2)
        first = {"data": (small.uri,), "methods": ("ce", "kmeans"), "trials": TRIALS, "changes": changes}
        given = {"storage": str(tmp_path), "name": "first", "concurrent": 1, "cldice": ("road",)} | (
            {} if "resume" in options else first
        )
        assert study_command.run(Options(**(given | options))) == 0
        return capsys.readouterr().out

    planned = study(confirm_seeds=1, plan=True, price_per_hour=2.0)
    assert "packed/all/ce" in planned and "5 steps measured" in planned and "at 2 an hour of a machine" in planned
    assert not Studied(uri).runs, "a plan starts nothing"

    printed = study(confirm_seeds=1)
    found = Studied(uri)
    found.check(seeds=1)
    assert {tuple(record.thin(run)) for run in found.of_kind("evaluation")} == {("road",)}
    assert (
        re.search(r"CE tuned|CE as planned \(= tuned\)", printed)
        and "on test after the last step, 1 fresh seed" in printed
    )
    plan = found.plan()
    assert [cell["id"] for table in plan["tables"] for cell in table["cells"]] == list(ROWS)
    assert [table["baseline"] for table in plan["tables"]] == ["CE tuned", "K-means tuned"]
    assert {cell["trials"] for table in plan["tables"] for cell in table["cells"]} == {TRIALS}
    searched = [run for run in found.of_kind("trial") if run not in found.confirmations]
    assert Counter(found.parent(run).data.tags["miseg.cell"] for run in searched) == dict.fromkeys(ROWS, TRIALS)

    for again in ({"resume": True}, {"resume": True, "confirm_seeds": 2}):
        printed = study(**again)
        before, found = found, Studied(uri)
        for run_id, run in before.runs.items():
            if run.data.tags["miseg.kind"] in ("trial", "evaluation"):
                assert found.runs[run_id].info.end_time == run.info.end_time, f"{run.info.run_name} ran again"
        if len(again) == 1:
            assert set(found.runs) == set(before.runs)
            assert "tuned and confirmed before" in printed and "0 trials and 0 confirmations" in printed
        else:
            fresh = [run for run_id, run in found.runs.items() if run_id not in before.runs]
            assert {run.data.params["seed"] for run in fresh} == {"2"}
            assert {run.data.tags["miseg.kind"] for run in fresh} == {"trial", "evaluation"}
    found.check(seeds=2)
    assert found.plan()["created"] == plan["created"]
    assert {table["confirm_seeds"] for table in found.plan()["tables"]} == {2}
    plan_again = record.find(uri, None)
    assert plan_again is not None and record.done(uri, plan_again) == dict.fromkeys(ROWS, 2)
    with pytest.raises(ValueError, match="a study called first exists: continue it, or add to it, with --resume"):
        study()
    assert mlflow_runs.experiment_name(small.uri) == "miseg/packed"
