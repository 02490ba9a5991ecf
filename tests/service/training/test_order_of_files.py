"""A job gives the same in whatever order a data set's files are listed: its data, training, scores and models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from miseg.data.checks import encode_png
from miseg.data.configs import Augmentation, Pairs
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.samples import Sample, Source
from miseg.data.sources.camvid import clip_of
from miseg.data.sources.groups import group_of
from miseg.data.sources.registry import Embedded
from miseg.methods import METHODS
from miseg.methods.configs import CrossEntropy, InfoSeg
from miseg.metric_names import OBJECTIVE_SINCE, OBJECTIVE_TAG
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.evaluation.evaluate import TrainedModel, evaluate
from miseg.service.tracking import models, queries
from miseg.service.tracking.run_store import Workspace
from miseg.service.training import streams, train
from miseg.service.training.loop import Loop
from miseg.service.training.run import TrainingRun, check_objective
from miseg.service.training.scoring import Scoring
from miseg.service.training.scoring import evaluate as evaluate_batches
from tests.support.tiny_methods import tiny_config


class Listed:
    """A source whose files come in another order."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.seed, self.info = source, seed, source.info

    def available(self) -> tuple[str, ...]:
        return self.source.available()

    def samples(self, split: str) -> Iterator[Any]:
        samples = list(self.source.samples(split))
        return iter([samples[number] for number in np.random.default_rng(self.seed).permutation(len(samples))])


class Chips:
    """Chips of three dates of two places, which methods of pairs learn from."""

    info = replace(Embedded({"train": 1, "val": 1, "test": 0}).info, name="chips")

    def available(self) -> tuple[str, ...]:
        return ("train", "val")

    def samples(self, split: str) -> Iterator[Sample]:
        generator = np.random.default_rng(0)
        for place in ("east/r0-c0", "west/r0-c0"):
            for date in ("2019-05-16", "2019-07-20", "2019-08-24"):
                pixels = generator.integers(1, 256, (20, 24, 3), dtype=np.uint8)
                labels = encode_png(generator.integers(0, 3, (20, 24), dtype=np.uint8))
                yield Sample(f"{split}/{place}/{date}", split, pixels, labels, place, date)


@pytest.fixture(scope="module")
def listings(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[PackedDataset]]:
    """Data sets that hold the same in two orders: of images, and of chips for the methods that learn from pairs."""
    folder = tmp_path_factory.mktemp("listings")
    scenes = Embedded({"train": 7, "val": 5, "test": 0}, height=32, width=48)
    return {
        of_pairs: [
            PackedDataset.open(pack(Listed(source, seed), folder / f"{of_pairs}-{seed}", ("train", "val")).path)
            for seed in (1, 2)
        ]
        for of_pairs, source in ((False, scenes), (True, Chips()))
    }


def experiment_of(config_type: type) -> Experiment:
    return Experiment(
        tiny_config(config_type, 4),
        data="nowhere",
        optimiser=Optimiser(learning_rate=1e-3, warmup_steps=0),
        augmentation=Augmentation(crop=(32, 32), flip=0.5),
        pairs=Pairs(min_valid=0.0),
        steps=4,
        batch_size=4,
        label_budget=4,
        validate_every=2,
    )


def job(experiment: Experiment, dataset: PackedDataset) -> tuple[list[float], dict[str, torch.Tensor], Any, float]:
    """Losses, weights, pixels of each image by class, and objective of a training of four steps and its evaluation."""
    convert, loop = streams.Converter(dataset, experiment), Loop(experiment, streams.task_of(dataset))
    for columns in streams.training_plan(dataset, experiment)(start_step=0, stop_step=4):
        loop.train_step(convert(columns))
    losses = [record.values["train/loss"] for record in loop.flush()]
    rows = [convert(columns) for columns in streams.evaluation_plan(dataset, "val", experiment)()]
    of_train = [convert(columns) for columns in streams.evaluation_plan(dataset, "train", experiment)()]
    if loop.method.supervision == "few":
        loop.method.fit_support(streams.examples(dataset, "val", experiment))
    elif loop.method.supervision == "none":
        torch.manual_seed(0)
        loop.method.fit_support(row.without_labels() for row in of_train)
    counted: Any = []
    found = evaluate_batches(loop.method, loop.task, rows, loop.device, scoring=Scoring(0, image_counts=counted))
    weights = {name: value.clone() for name, value in loop.method.state_dict().items()}
    return losses, weights, {name: matrix.counts for name, matrix in counted}, found.objective or 0.0


@pytest.mark.parametrize("config_type", METHODS, ids=lambda kind: kind.__name__)
def test_a_training_and_its_scores(config_type: type, listings: dict[bool, list[PackedDataset]]) -> None:
    experiment = experiment_of(config_type)
    first, second = listings[experiment.learns_from_pairs]
    assert [first.read("train", n).id for n in range(4)] != [second.read("train", n).id for n in range(4)]
    (losses, weights, of_images, objective), other = (job(experiment, dataset) for dataset in (first, second))
    assert losses == other[0], "a step sees the same images, in the same places of its batch"
    for name, value in weights.items():
        torch.testing.assert_close(other[1][name], value, rtol=1e-4, atol=1e-5)
    assert of_images.keys() == other[2].keys() and len(of_images) == second.size("val")
    # A pixel on the edge between two classes may fall either way by rounding.
    assert all((of_images[name] - other[2][name]).abs().sum() <= 4 for name in of_images)
    assert other[3] == pytest.approx(objective, rel=2e-5, abs=1e-6)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("config_type", [CrossEntropy, InfoSeg], ids=lambda kind: kind.__name__)
def test_whole_jobs_under_ray(
    config_type: type, listings: dict[bool, list[PackedDataset]], ray_here: None, uri: str, tmp_path: Path
) -> None:
    """`miseg train` and `miseg evaluate`: what MLflow has of two listings is the same to the last validation."""
    metrics = []
    for number, dataset in enumerate(listings[False]):
        experiment = replace(experiment_of(config_type), data=dataset.uri)
        run = TrainingRun(f"run-{number}", experiment, dataset.uri, str(tmp_path), uri, Resources(1, 0, 1, 1))
        outcome = train.fit(run)
        recorded = queries.find_run(uri, train.mlflow_runs.experiment_name(experiment.data), run.name)
        assert recorded is not None
        has_objective = config_type is InfoSeg
        assert (recorded.data.tags.get(OBJECTIVE_TAG) == OBJECTIVE_SINCE) == has_objective
        workspace = Workspace(str(tmp_path), uri, Resources(1, 0, 1, 1))
        folder = models.download(uri, outcome.run_id, "last", str(tmp_path / f"model-{number}"))
        report = evaluate(TrainedModel(folder, outcome.run_id), dataset.uri, "val", workspace)
        trained = {key: value for key, value in recorded.data.metrics.items() if key.startswith(("train/", "val/"))}
        metrics.append(trained | {f"evaluated/{key}": value for key, value in report.scores.items()})
    timeless = [{key: value for key, value in of.items() if "second" not in key} for of in metrics]
    assert timeless[0] == pytest.approx(timeless[1], rel=1e-3, abs=1e-4, nan_ok=True)
    assert any(key.startswith("val/") for key in timeless[0])


def test_camvids_frames_are_of_their_clips(tmp_path: Path) -> None:
    ids = ("train/0001TP_006690", "train/0006R0_f00930", "val/0016E5_07959", "test/Seq05VD_f00030", "train/frame")
    assert [clip_of(name) for name in ids] == ["0001TP", "0006R0", "0016E5", "Seq05VD", ""]
    camvid: Any = SimpleNamespace(info=SimpleNamespace(name="camvid", groups={}, dates={}))
    group = group_of(camvid, "train")
    assert group is not None and group("train/0006R0_f00930") == "0006R0"


def test_groups_of_own_data_are_those_that_were_packed() -> None:
    own: Any = SimpleNamespace(info=SimpleNamespace(name="own", groups={"train/a": "patient 1"}, dates={}))
    group = group_of(own, "train")
    assert group is not None and [group(name) for name in ("train/a", "train/b")] == ["patient 1", ""]
    without: Any = SimpleNamespace(info=SimpleNamespace(name="own", groups={}, dates={}))
    assert group_of(without, "train") is None


def test_a_training_that_was_stopped_under_another_objective_does_not_go_on(tmp_path: Path) -> None:
    run = TrainingRun("dusk", experiment_of(InfoSeg), "nowhere", str(tmp_path), "", Resources(1, 0, 1, 1))

    def earlier(metrics: dict[str, float], tags: dict[str, str]) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="f00d"), data=SimpleNamespace(metrics=metrics, tags=tags))

    before, now = (
        earlier({"val/objective": -1.2}, {}),
        earlier({"val/objective": -1.2}, {OBJECTIVE_TAG: OBJECTIVE_SINCE}),
    )
    with pytest.raises(ValueError, match=f"dusk, run f00d, was begun when .* .before {OBJECTIVE_SINCE}"):
        check_objective(run, before)
    for other, recorded in (
        (run, now),
        (run, earlier({}, {})),  # nothing was compared yet
        (replace(run, selection="labels"), before),
        (replace(run, experiment=experiment_of(CrossEntropy)), before),
    ):
        check_objective(other, recorded)
