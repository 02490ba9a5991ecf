"""Runs compared: one picture and one table in MLflow, and what the columns are called."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient, entities
from PIL import Image

from miseg.commands import evaluate
from miseg.data.loading.batches import evaluation_batches
from miseg.evaluation import DenseCRF
from miseg.methods.configs import (
    BinaryCrossEntropy,
    CrossEntropy,
    MutualInformationSimilarity,
    RegionMutualInformation,
)
from miseg.metric_names import TITLES
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint
from miseg.service.cluster import ray_cluster
from miseg.service.evaluation.compare import MEASURES, check_alike, conditions, table_of, titles_of
from miseg.service.evaluation.scores import FurtherMeasures, write_scores
from miseg.service.study.start import _check_thin
from miseg.service.tracking import mlflow_runs, models
from miseg.service.training import streams as ingest
from miseg.service.training import train
from miseg.service.training.run import TrainingRun

TOP, GAP, CELL_HW, ENLARGED = 36, 10, (48, 64), 3


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_two_trained_runs_side_by_side(small, tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow_runs.check(uri, str(tmp_path))
    resources = replace(ray_cluster.resources(1, 1), cpus=1)
    runs = {
        name: train.fit(TrainingRun(name, experiment, small.uri, str(tmp_path), uri, resources)).run_id
        for name, experiment in {
            "region mutual information": replace(tiny, validate_every=24),
            "cross entropy": replace(tiny, validate_every=24, method=CrossEntropy(UNet(2, "group"))),
        }.items()
    }

    def compare(*run_ids: str) -> str:
        assert evaluate.run(evaluate.Evaluate(storage=str(tmp_path), run=run_ids, role="last")) == 0
        return capsys.readouterr().out

    printed = compare(*runs.values())

    client = MlflowClient(uri)
    experiments = [found.experiment_id for found in client.search_experiments()]

    def of_kind(kind: str) -> list[entities.Run]:
        return client.search_runs(experiments, f"tags.`miseg.kind` = '{kind}'", order_by=["attributes.start_time"])

    (found,) = of_kind("comparison")
    evaluations = of_kind("evaluation")
    assert found.info.status == "FINISHED" and found.info.run_id in printed
    assert [run.data.tags["mlflow.parentRunId"] for run in evaluations] == list(runs.values())
    assert found.data.tags["miseg.evaluations"].split() == [run.info.run_id for run in evaluations]
    assert found.data.tags["miseg.data_fingerprint"] == small.fingerprint and found.data.params["split"] == "val"

    picture = Image.open(client.download_artifacts(found.info.run_id, "comparison/comparison-val.png", str(tmp_path)))
    height, width = CELL_HW[0] * ENLARGED, CELL_HW[1] * ENLARGED
    column = (picture.width - GAP) // 4
    assert picture.width == 4 * column + GAP and column >= width + GAP
    palette = np.array(small.info.colours)
    seen = []
    for place, run_id in enumerate(runs.values()):
        (tmp_path / run_id).mkdir()
        method, experiment, _ = checkpoint.open_method(models.download(uri, run_id, "last", tmp_path / run_id))
        for line, columns in enumerate(evaluation_batches(small, "val", experiment.augmentation, batch_size=1)):
            if line == 4:
                break
            with torch.no_grad():
                scores_NKHW = method.predict(ingest.Converter(small, experiment)(columns).images_NCHW)
            left, top = GAP + (2 + place) * column, TOP + line * (height + GAP)
            cell = np.asarray(picture)[top : top + height : ENLARGED, left : left + width : ENLARGED]
            assert (cell == palette[scores_NKHW.argmax(1)[0].numpy()]).all(-1).mean() > 0.99
            seen.append(cell)
    assert len(seen) == 8 and not np.array_equal(seen[:4], seen[4:])

    path = client.download_artifacts(found.info.run_id, "tables/comparison-val.csv", str(tmp_path))
    with Path(path).open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["class", *runs]
    titles = {TITLES[name]: name for name in MEASURES}
    assert [row[0] for row in rows] == [*small.info.classes, *titles]
    assert list(titles) == [
        "mean IoU", "micro IoU", "pixel accuracy", "image mean IoU", "worst class IoU", "worst quarter IoU",
        "boundary IoU", "calibration error", "inference seconds",
    ]  # fmt: skip
    for name, *values in rows:
        key = f"val/{titles.get(name, f'iou/{name}')}"
        for value, run in zip(values, evaluations, strict=True):
            assert float(value) == pytest.approx(run.data.metrics.get(key, math.nan), abs=1e-6, nan_ok=True)
    # Ray may have had something to say before.
    all_lines = printed.splitlines()
    start = next(place for place, line in enumerate(all_lines) if line.strip().startswith(next(iter(runs))))
    lines = all_lines[start : start + 1 + len(rows)]
    assert [title.strip() for title in lines[0].split("  ") if title] == list(runs) and len(set(map(len, lines))) == 1
    assert lines[1 + len(small.info.classes)].split() == [
        "mean",
        "IoU",
        *(f"{float(v):.4f}" for v in rows[-len(titles)][1:]),
    ]

    compare(*runs.values())
    assert [run.info.run_id for run in of_kind("comparison")] == [found.info.run_id]
    assert len(of_kind("evaluation")) == 2


# What the columns are called


RMI = Experiment(RegionMutualInformation())


@pytest.mark.parametrize(
    ("experiments", "titles"),
    [
        ((RMI, Experiment(CrossEntropy())), ["region mutual information", "cross entropy"]),
        (
            (RMI, Experiment(BinaryCrossEntropy()), replace(RMI, seed=3)),
            ["region mutual information, seed 0", "binary cross entropy", "region mutual information, seed 3"],
        ),
        (
            (RMI, replace(RMI, method=RegionMutualInformation(weight=0.3))),
            ["region mutual information, lambda 0.5", "region mutual information, lambda 0.3"],
        ),
        ((RMI, RMI), ["region mutual information, 00000000", "region mutual information, 11111111"]),
        (
            (RMI, replace(RMI, seed=1, steps=5, batch_size=4)),
            ["region mutual information, 00000000", "region mutual information, 11111111"],
        ),
    ],
    ids=["methods", "seeds", "weights", "equal", "too different"],
)
def test_titles_tell_the_runs_apart(experiments: tuple[Experiment, ...], titles: list[str]) -> None:
    assert titles_of({str(number) * 32: experiment for number, experiment in enumerate(experiments)}) == titles


def test_a_crf_is_a_column_after_its_method() -> None:
    scores = {
        "a": {"val/mean_iou": 0.1, "val/iou/sky": 0.2, "val/crf_5/mean_iou": 0.3, "val/crf_5/seconds_per_image": 4.0},
        "b": {"val/mean_iou": 0.5, "val/crf_5/iou/sky": 0.6},
    }
    columns, table = table_of(scores, ["sky"], "val", FurtherMeasures((DenseCRF(5),)))
    assert columns == ["a", "a, CRF 5", "b", "b, CRF 5"]
    rows = dict(table)
    assert rows["sky"] == pytest.approx([0.2, math.nan, math.nan, 0.6], nan_ok=True)
    assert rows["mean IoU"] == pytest.approx([0.1, 0.3, 0.5, math.nan], nan_ok=True)
    assert rows["CRF seconds"] == pytest.approx([math.nan, 4.0, math.nan, math.nan], nan_ok=True)


def test_thin_classes_are_rows_below_the_others() -> None:
    scores = {"a": {"val/mean_iou": 0.1, "val/cldice/pole": 0.7, "val/mean_cldice": 0.7}}
    _, table = table_of(scores, ["sky", "pole"], "val", FurtherMeasures(thin=("pole",)))
    assert table[-2:] == [("clDice of pole", [0.7]), ("mean clDice", [0.7])]
    _, without = table_of(scores, ["sky", "pole"], "val")
    assert not any("clDice" in name for name, _ in without)


def test_a_thin_class_that_the_data_does_not_have_is_refused_with_those_it_has(small) -> None:
    FurtherMeasures(thin=tuple(small.info.classes[:1])).check(small.info.classes, small.uri)
    with pytest.raises(ValueError, match=f"--cldice poel: .* has the classes {small.info.classes[0]}, "):
        FurtherMeasures(thin=("poel",)).check(small.info.classes, small.uri)
    with pytest.raises(ValueError, match="name each class once"):
        FurtherMeasures(thin=(small.info.classes[0],) * 2).check(small.info.classes, small.uri)


def test_a_study_refuses_a_thin_class_that_none_of_its_data_has(small) -> None:
    jobs: Any = {"one": SimpleNamespace(data=small.uri)}
    _check_thin((), jobs)
    _check_thin(tuple(small.info.classes[:2]), jobs)
    with pytest.raises(ValueError, match="--cldice poel: one has the classes"):
        _check_thin(("poel",), jobs)


def test_scores_are_written_with_null_for_nan(tmp_path: Path) -> None:
    table, record = write_scores(tmp_path, "val", {"val/mean_iou": 0.25, "val/mean_cldice": math.nan}, {"step": 3})
    assert json.loads(record.read_text()) == {"step": 3, "scores": {"val/mean_iou": 0.25, "val/mean_cldice": None}}
    assert table.read_text().splitlines() == ["score,value", "val/mean_iou,0.25", "val/mean_cldice,"]


def test_experiments_of_one_size_and_data_are_alike() -> None:
    few = Experiment(MutualInformationSimilarity(), RMI.data)
    check_alike({"a": few, "b": replace(few, seed=1), "c": replace(RMI, examples="image")})
    with pytest.raises(ValueError, match=r"different origin \(examples: .*\): compare them by --points"):
        check_alike({"a": few, "b": replace(few, examples="image")})
    check_alike({"a": RMI, "b": replace(RMI, seed=1)})
    with pytest.raises(ValueError, match="run a: embedded, run b: camvid"):
        check_alike({"a": RMI, "b": replace(RMI, data="camvid")})


def test_runs_that_are_measured_on_other_chips_are_not_compared(small, tiny) -> None:
    """Chips less valid than `pairs.min_valid` are left out where a method that learns from pairs is measured."""
    few = Experiment(MutualInformationSimilarity(), RMI.data)
    clearer = replace(few, pairs=replace(few.pairs, min_valid=0.97))
    with pytest.raises(ValueError, match=r"different shares \(pairs.min_valid: run a: 0.5, run b: 0.97\)"):
        check_alike({"a": few, "b": clearer})
    check_alike({"a": clearer, "b": RMI})  # RMI learns from images: its pairs say nothing
    said = conditions({"a": clearer, "b": RMI}, small, "val")
    assert " Of these, 1 of 2 leave out what is less than 97% valid." in said
    assert "leave out" not in conditions({"a": tiny, "b": tiny}, small, "val")


def test_what_is_compared_says_what_it_has_in_common_and_in_what_the_trainings_differ(small, tiny) -> None:
    same = conditions({"a": tiny, "b": replace(tiny, seed=1)}, small, "val")
    assert same.startswith(
        f"All are measured on the same 7 images of val (data {small.fingerprint}), at their own size."
    )
    assert same.endswith("one budget of steps, batch and labels.")
    resized = replace(tiny, augmentation=replace(tiny.augmentation, resize=(32, 48)))
    other = conditions({"a": resized, "b": replace(resized, steps=48, label_budget=5)}, small, "val")
    assert "at 32x48." in other
    assert other.endswith("different budgets, in the order of the columns: steps 24, 48; label_budget None, 5.")
