"""How fast a method trains: by a few steps here, or as earlier runs of the same work were."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.data.packed.packing import pack
from miseg.data.series.description import SeriesDescription
from miseg.data.series.source import open_series_source
from miseg.interface import Batch
from miseg.methods.configs import BinaryCrossEntropy, PixelKMeans
from miseg.networks.configs import UNet
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.study import throughput
from miseg.service.study.plan import Throughput
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.description import parameters
from miseg.service.tracking.run_store import RunStore
from miseg.service.training.loop import Loop
from tests.support.scene_layouts import raster, reflectances


def test_a_few_steps_are_measured(small, tiny, monkeypatch) -> None:
    taken = []
    train_step = Loop.train_step

    def slow(loop: Loop, batch: Batch) -> None:
        train_step(loop, batch)
        taken.append(batch.ids)
        time.sleep(0.1)

    monkeypatch.setattr(Loop, "train_step", slow)
    found = throughput.measure(replace(tiny, steps=1), small.uri, 1)
    assert len(taken) == throughput.WARM_UP + throughput.TIMED and len(set(taken)) == throughput.BATCHES
    assert tiny.batch_size / 2 < found.images_per_second <= tiny.batch_size / 0.1
    assert found.validation_seconds > 0 and found.source == "5 steps measured"


def test_clusters_are_measured_with_their_pass_over_the_training_images(small, tiny) -> None:
    found = throughput.measure(replace(tiny, method=PixelKMeans(), steps=1), small.uri, 1)
    assert found.images_per_second > 0 and found.validation_seconds > 0


def test_a_method_of_few_labels_is_measured_on_a_series_without_labels(tmp_path) -> None:
    """Its trainings map no image there, since there is nothing to score."""
    for day in ("2019-07-20", "2019-07-25"):
        raster(tmp_path / "scenes" / f"{day}.tif", reflectances(int(day[-2:])))
    source = open_series_source(SeriesDescription("plain", ("scenes",), ("1", "2")), tmp_path)
    data = pack(source, tmp_path / "plain", ["train"]).path
    experiment = replace(RECIPES["flanders-similarity"](), steps=1, batch_size=32)
    found = throughput.measure(experiment, str(data), 1)
    assert found.images_per_second > 0 and found.validation_seconds == 0


def record(uri: str, small, experiment: Experiment, name: str, rates: list[float], **metrics: float) -> None:
    run_id = mlflow_runs.open_experiment_run(
        RunStore(str(Path(uri.removeprefix("sqlite:///")).parent), uri), experiment, name, "f"
    )
    for step, rate in enumerate(rates):
        mlflow_runs.log_metrics(uri, run_id, {"images_per_second": rate} | metrics, step)
    mlflow_runs.log_metrics(uri, run_id, {}, tags={"miseg.ended": "finished"})
    started = MlflowClient(uri).get_run(run_id).info.start_time
    # 24 steps of 4 images at 8 a second take 12 s, and there are 4 validations.
    MlflowClient(uri).set_terminated(run_id, "FINISHED", started + 20_000)


@pytest.mark.slow
def test_earlier_runs_of_the_same_work_tell(small, tiny, uri) -> None:
    assert throughput.recorded(uri, tiny, use_gpu=False) is None
    record(uri, small, replace(tiny, method=BinaryCrossEntropy(UNet(2, "group"))), "other-method", [99.0])
    record(uri, small, replace(tiny, method=replace(tiny.method, network=UNet(4, "group"))), "larger", [99.0])
    record(uri, small, replace(tiny, batch_size=2), "other-batch", [99.0])
    record(uri, small, tiny, "on-a-gpu", [99.0], **{"system/gpu_0_utilization_percentage": 5.0})
    assert throughput.recorded(uri, tiny, use_gpu=False) is None
    rate = replace(tiny.optimiser, learning_rate=0.1)
    record(uri, small, tiny, "same", [6.0, 8.0, 10.0])
    record(uri, small, replace(tiny, seed=3, optimiser=rate, label_budget=4), "as-fast", [8.0])
    found = throughput.recorded(uri, tiny, use_gpu=False)
    assert found is not None and found.source == "2 earlier runs"
    assert found.images_per_second == 8.0 and found.validation_seconds == pytest.approx((20 - 12) / 4)
    assert found.seconds(tiny) == pytest.approx(20.0)


def test_a_run_from_before_a_setting_was_there_trained_with_its_default(small, tiny, uri, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(mlflow_runs, "parameters", partial(parameters, later_defaults=False))
        record(uri, small, tiny, "before", [8.0])
    place = MlflowClient(uri).get_experiment_by_name(mlflow_runs.experiment_name(tiny.data))
    (run,) = MlflowClient(uri).search_runs([place.experiment_id])
    assert "accumulate" not in run.data.params
    assert throughput.recorded(uri, tiny, use_gpu=False) is not None
    assert throughput.recorded(uri, replace(tiny, accumulate=2), use_gpu=False) is None


def test_a_line_says_how_long_a_training_will_take(small, tiny, uri, monkeypatch) -> None:
    experiment = replace(tiny, steps=600, validate_every=60)
    resources = Resources(cpus=1, gpus=0, workers=1, concurrency=1)

    def measured(asked: Experiment, data: str, given: Resources) -> Throughput:
        assert (asked, data, given) == (experiment, small.uri, resources)
        return Throughput(4.0, 30.0, "5 steps measured")

    monkeypatch.setattr(throughput, "measured", measured)
    expectation = partial(throughput.expectation, uri, data=small.uri, resources=resources)
    # 600 steps of 4 images at 4 a second, and ten validations.
    assert expectation(experiment=experiment) == (
        "expected: about 15 minutes for 600 steps (by 5 steps measured); --steps takes fewer"
    )
    assert expectation(experiment=replace(experiment, steps=20)) == "20 steps: too few to be timed before"
    record(uri, small, tiny, "earlier", [1.0])
    assert "about 40 minutes for 600 steps (by 1 earlier run)" in expectation(experiment=experiment)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(60, "about a minute"), (100, "about 2 minutes"), (6000, "about 100 minutes"), (9000, "about 2 hours")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert throughput.in_words(seconds) == words
