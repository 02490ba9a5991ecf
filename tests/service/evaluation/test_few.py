"""The table of few labels: every number of points, draw, comparison and kind of date, against a count by hand."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from miseg.commands import evaluate
from miseg.data.configs import Pairs
from miseg.data.labels.annotations import sample_points
from miseg.data.loading.examples import draw_examples
from miseg.data.loading.pairs import open_chip
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.interface import Task
from miseg.methods.configs import CrossEntropy, MutualInformationSimilarity
from miseg.networks.configs import PatchEncoder, UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.cluster import ray_cluster
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.command import fitting
from miseg.service.evaluation import few_labels
from miseg.service.evaluation.evaluate import TrainedModel
from miseg.service.tracking.run_store import Workspace
from miseg.service.training import streams, train
from miseg.service.training.loop import Loop
from miseg.service.training.run import FINISHED, TrainingRun
from tests.support.places import DATES, Places

TASK = Task(2, 2, ("one", "two"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return PackedDataset.open(pack(Places(), tmp_path_factory.mktemp("few") / "packed", ["train"]).path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    method = MutualInformationSimilarity(PatchEncoder(5, (3, 3), 2), hidden=4)
    loop = Loop(Experiment(method=method, data="places", pairs=Pairs(min_valid=0.5)), TASK)
    return checkpoint.save(tmp_path_factory.mktemp("few") / "checkpoint", loop, {}, {})


def accuracy_by_pixels(dataset: PackedDataset, points: int, draw: int, dates: list[str]) -> float:
    """Nearest labelled pixel by L1 between bands, one pixel at a time, on clear chips."""
    examples = []
    for item in draw_examples(dataset, "train", points, draw, DATES[1]):
        for row, column in zip(*np.nonzero(item["labels"][0] != 255), strict=True):
            examples.append((int(item["labels"][0, row, column]), item["images"][0, :, row, column]))
    examples.sort(key=lambda example: example[0])
    right = total = 0
    for index, (_, _, date) in enumerate(dataset.index("train")):
        chip = open_chip(dataset, dataset.read("train", index))
        if date not in dates or chip.valid.mean() < 0.5:
            continue
        for row, column in zip(*np.nonzero(chip.labels != 255), strict=True):
            distances = [np.abs(value - chip.values[row, column]).sum() for _, value in examples]
            right += examples[int(np.argmin(distances))][0] == chip.labels[row, column]
            total += 1
    return right / total


def test_the_table_is_what_is_counted_by_hand(dataset, folder):
    settings = few_labels.Draws((1, 3), draws=2, dates=(DATES[1],))
    files = checkpoint_files.files_of(folder)
    found = few_labels._measure(files, dataset.uri, "train", settings, threads=1)
    assert len(found) == 2 * 2 * 5 * 2
    assert set(found["comparison"]) == {"representation", "patches", "pixels", "global", "local"}
    pixels = found[found["comparison"] == "pixels"]
    for row in pixels.itertuples():
        dates = [DATES[1]] if row.dates == few_labels.SAME else [DATES[0], DATES[2]]
        assert row.pixel_accuracy == pytest.approx(accuracy_by_pixels(dataset, row.points, row.draw, dates))
    assert found["mean_iou"].between(0, 1).all()


def test_an_unknown_comparison_and_a_clouded_split_are_named(dataset, folder):
    files = checkpoint_files.files_of(folder)
    with pytest.raises(ValueError, match="compare = distance: this model has representation, patches, pixels, global"):
        few_labels._measure(
            files, dataset.uri, "train", few_labels.Draws((1,), comparisons=("distance", "local")), threads=1
        )
    with pytest.raises(ValueError, match=r"no labelled pixel in split 'train' at 2001-01-01; its dates are 2019-04-01"):
        few_labels._measure(files, dataset.uri, "train", few_labels.Draws((1,), dates=("2001-01-01",)), threads=1)
    one = few_labels._measure(
        files, dataset.uri, "train", few_labels.Draws((1,), draws=1, comparisons=("pixels",)), threads=1
    )
    assert set(one["comparison"]) == {"pixels"}
    assert few_labels.Draws((1,)).digest != few_labels.Draws((1,), comparisons=("pixels",)).digest


def test_each_image_is_mapped_from_its_own_labels(dataset, folder):
    settings = few_labels.Draws((1, 3), draws=2, comparisons=("pixels", "local"), examples="image")
    found = few_labels._measure(checkpoint_files.files_of(folder), dataset.uri, "train", settings, threads=1)
    assert len(found) == 2 * 2 * 2 and set(found["dates"]) == {few_labels.OWN} and set(found["labelled"]) == {""}
    for row in found[found["comparison"] == "pixels"].itertuples():
        right = total = 0
        for index in range(dataset.size("train")):
            chip = open_chip(dataset, dataset.read("train", index))
            if chip.valid.mean() < 0.5:
                continue
            points = sample_points(chip.labels, row.points, row.draw)
            values = chip.values[points.rows, points.columns]
            for place in zip(*np.nonzero(chip.labels != 255), strict=True):
                nearest = int(np.abs(values - chip.values[place]).sum(1).argmin())
                right, total = right + int(points.labels[nearest] == chip.labels[place]), total + 1
        assert row.pixel_accuracy == pytest.approx(right / total)


def test_an_experiment_s_scores_are_from_each_image_s_own_labels(dataset):
    method = MutualInformationSimilarity(PatchEncoder(5, (3, 3), 2), hidden=4)
    experiment = Experiment(method=method, data="places", label_budget=2, examples="image", seed=3)
    loop = Loop(experiment, TASK)
    convert, given = streams.Converter(dataset, experiment), []
    shown = [convert(columns) for columns in streams.evaluation_plan(dataset, "train", experiment)()]
    unlabelled = replace(shown[0], labels_NHW=torch.full_like(shown[0].labels_NHW, 255))
    for image in streams.given_examples(loop.method, dataset, "train", experiment, [unlabelled, *shown]):
        assert loop.method.support is not None and image.labels_NHW is not None
        points = sample_points(image.labels_NHW[0].numpy().astype(np.uint8), 2, 3)
        rows, columns = np.asarray(points.rows), np.asarray(points.columns)
        middles = loop.method.support.patches_LBPP[:, :, 2, 2]
        expected = image.images_NCHW[0][:, rows, columns].T
        # Within a class, examples come in the order of the image's rows.
        order = np.lexsort((columns, rows, np.asarray(points.labels)))
        assert (
            torch.equal(middles, expected[order.tolist()])
            and loop.method.support.labels_L.tolist() == points.labels.tolist()
        )
        given.append(image.ids)
    assert given == [image.ids for image in shown], "an image without a label is left out"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_the_command_maps_each_image_from_its_own_labels(dataset, folder, tmp_path, capsys):
    given = evaluate.Evaluate(storage=str(tmp_path), checkpoint=str(folder), data=dataset.uri, split="train")
    asked = replace(given, points=(1, 3), draws=2, compare=("pixels",), examples="image")
    assert evaluate.run(asked) == 0
    printed = capsys.readouterr().out
    assert printed.count("each image's own") == 2
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments, "tags.`miseg.kind` = 'evaluation'")
    assert run.info.status == "FINISHED" and run.info.run_id in printed
    logged = pd.read_csv(client.download_artifacts(run.info.run_id, "few-labels-draws.csv", str(tmp_path)))
    settings = few_labels.Draws((1, 3), draws=2, comparisons=("pixels",), examples="image")
    expected = few_labels._measure(checkpoint_files.files_of(folder), dataset.uri, "train", settings, threads=1)
    names = ["points", "draw", "comparison", "dates", "pixel_accuracy", "mean_iou"]
    pd.testing.assert_frame_equal(logged[names], expected[names])
    with pytest.raises(ValueError, match="leave the dates out, or take --examples date"):
        evaluate.run(replace(asked, dates=(DATES[1],)))


def test_draws_go_through_the_dates():
    clear = [f"date {n}" for n in range(26)]
    assert [few_labels.Draws(draws=4).date(draw, clear) for draw in range(4)] == [
        "date 0",
        "date 6",
        "date 13",
        "date 19",
    ]
    given = few_labels.Draws(draws=5, dates=("a", "b"))
    assert [given.date(draw, clear) for draw in range(5)] == ["a", "a", "a", "b", "b"]
    assert few_labels.Draws(draws=2).date(1, [None]) is None
    assert given.digest != few_labels.Draws(draws=5, examples="image").digest
    with pytest.raises(ValueError, match="dates = a: each image is mapped from labels of its own"):
        few_labels.Draws(dates=("a",), examples="image")


def test_what_was_measured_before_keeps_its_digest():
    assert (
        few_labels.Draws((1, 5), draws=3).digest
        == hashlib.sha256(b"Draws(points=(1, 5), draws=3, dates=(), comparisons=())").hexdigest()[:12]
    )


def test_a_summary_has_mean_and_range_over_draws():
    scores = pd.DataFrame(
        {
            "points": [1, 1, 5],
            "draw": [0, 1, 0],
            "comparison": "local",
            "dates": few_labels.SAME,
            "pixel_accuracy": [0.2, 0.6, 0.9],
            "mean_iou": [0.1, 0.3, 0.8],
        }
    )
    table = few_labels.summary(scores)
    assert table["points"].tolist() == [1, 5]
    first = table.iloc[0]
    assert first["pixel_accuracy mean"] == pytest.approx(0.4)
    assert (first["mean_iou min"], first["mean_iou max"]) == (0.1, 0.3)


def test_what_makes_no_table_is_named(dataset, tmp_path):
    with pytest.raises(ValueError, match="use 1 or more of each"):
        few_labels.Draws((0,))
    folder = checkpoint.save(tmp_path / "checkpoint", Loop(Experiment(method=CrossEntropy(UNet(2))), TASK), {}, {})
    with pytest.raises(ValueError, match="CrossEntropy takes no labelled pixels: leave --points out"):
        few_labels.measure(
            TrainedModel(folder),
            dataset.uri,
            "train",
            few_labels.Draws(),
            Workspace(str(tmp_path), "", Resources(1, 0, 1, 1)),
        )


class Unlabelled(Places):
    """The same places, of which nobody knows a class."""

    info = replace(Places.info, classes=(), colours=())

    def samples(self, split):
        return (replace(sample, mask=None) for sample in super().samples(split))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_training_where_nobody_knows_a_class(tmp_path, uri):
    data = pack(Unlabelled(), tmp_path / "packed", ["train"]).path
    method = MutualInformationSimilarity(PatchEncoder(5, (3, 3), 2), hidden=4)
    experiment = Experiment(
        method=method, data=str(data), pairs=Pairs(min_valid=0.5), steps=4, batch_size=8, validate_every=2
    )
    fitting.check_fits(experiment, PackedDataset.open(data), ("train", "val"))
    run = TrainingRun("unlabelled", experiment, str(data), str(tmp_path), uri, ray_cluster.resources(1, 1))
    found = train.fit(run)
    assert (found.ended, found.step, found.score) == (FINISHED, 4, 0)
    assert math.isnan(found.mean_iou) and math.isnan(found.best_mean_iou), "nobody knows how good it is"
    assert train.fit(run).reused
    kept = CheckpointStore(run.folder)
    assert [found.step for found in kept.all()] == [4]
    assert kept.best() == kept.last()
    with kept.latest() as folder:
        assert checkpoint.open_method(folder, torch.device("cpu"))[2].num_classes == 0
        with pytest.raises(ValueError, match="has no labels to measure with"):
            few_labels.measure(
                TrainedModel(folder),
                str(data),
                "train",
                few_labels.Draws(),
                Workspace(str(tmp_path), uri, run.resources),
            )
    with pytest.raises(ValueError, match="has no labels, and CrossEntropy learns from them"):
        fitting.check_fits(Experiment(data=str(data)), PackedDataset.open(data), ("train",))
