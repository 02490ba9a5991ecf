"""A training under Ray Train: recorded whole in MLflow, and the same after its worker was killed."""

import json
import math
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import ray
import torch
from mlflow import MlflowClient
from ray.exceptions import TaskUnschedulableError

from miseg.data.loading.batches import evaluation_batches
from miseg.data.packed.decoded import DecodedImages
from miseg.evaluation import ConfusionMatrix, DenseCRF, ImageMeanIoU, dense_crf
from miseg.evaluation.crf import available
from miseg.evaluation.paired import ImageCounts
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.cluster import preemption, ray_cluster
from miseg.service.cluster.preemption import PreemptedError
from miseg.service.evaluation.evaluate import TrainedModel, evaluate
from miseg.service.evaluation.scores import FurtherMeasures
from miseg.service.journal.journal import Journal
from miseg.service.tracking import mlflow_runs, models
from miseg.service.tracking.pages import images
from miseg.service.tracking.run_store import Workspace
from miseg.service.training import streams as ingest
from miseg.service.training import system_metrics, train, worker
from miseg.service.training.artifacts import PANEL_ROWS
from miseg.service.training.run import FINISHED, TrainingOutcome, TrainingRun

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_here")]


def titled(part: str) -> list[psutil.Process]:
    """Processes with `part` in their title, of this test's own Ray: another Ray may run on the machine."""
    raylet = ray._private.worker._global_node.all_processes["raylet"][0].process.pid
    return [child for child in psutil.Process(raylet).children(recursive=True) if part in title(child)]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return ""


def kill_at(storage: Path, step: int, victims: Callable[[], list[psutil.Process]], killed: list[int]) -> None:
    """SIGKILL what `victims` finds once a journal under `storage` holds `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        journals = [path.read_text() for path in storage.glob("journals/*.jsonl")]
        if any(f'"step": {step},' in text for text in journals) and (found := victims()):
            for victim in found:
                os.kill(victim.pid, signal.SIGKILL)
            killed.append(step)
            return
        time.sleep(0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> tuple[Path, str]:
    """A storage and the MLflow store in it, shared by this module's runs."""
    folder = tmp_path_factory.mktemp("storage")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow_runs.check(uri, str(folder))
    return folder, uri


def fit(place, small, experiment, name, workers=1, decoded_bytes=0, **settings) -> TrainingOutcome:
    folder, uri = place
    resources = replace(ray_cluster.resources(workers, 1), cpus=1, decoded_bytes=decoded_bytes)
    return train.fit(TrainingRun(name, experiment, small.uri, str(folder / name), uri, resources), **settings)


def here(place, small, experiment, name) -> TrainingRun:
    """What this process trains by itself, on as many threads as a worker has."""
    resources = replace(ray_cluster.resources(1, 1), cpus=1, decoded_bytes=0)
    return TrainingRun(name, experiment, small.uri, str(place[0] / name), place[1], resources)


def history(place, outcome: TrainingOutcome, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in MlflowClient(place[1]).get_metric_history(outcome.run_id, key)]


@pytest.fixture(scope="module")
def experiment(tiny) -> Experiment:
    return replace(tiny, steps=40, validate_every=10, batch_size=8)


@pytest.fixture(scope="module")
def whole(place, small, experiment) -> TrainingOutcome:
    """A run of one worker that nothing disturbs."""
    return fit(place, small, experiment, "whole")


@pytest.fixture(scope="module")
def two(place, small, experiment) -> TrainingOutcome:
    """The same by two workers."""
    return fit(place, small, experiment, "two", workers=2)


@pytest.mark.faults
@pytest.mark.smoke
def test_a_killed_worker_costs_no_step_and_changes_no_loss(place, small, experiment, whole):
    """Nor do decoded images that stay on the machine, which `whole` has none of."""
    killed: list[int] = []
    worker = lambda: titled("RayTrainWorker")[:1]  # noqa: E731
    killer = threading.Thread(target=kill_at, args=(place[0] / "killed", 10, worker, killed))
    killer.start()
    resumed = fit(place, small, experiment, "killed", decoded_bytes=2**27, max_failures=2)
    killer.join()
    assert DecodedImages(ray_cluster.decoded_folder(), 2**27).taken() > 20 * 48 * 64 * 4

    assert killed, "the worker was never seen at step 10"
    assert whole.ended == resumed.ended == FINISHED
    assert whole.step == resumed.step == 40
    assert whole.mean_iou == resumed.mean_iou
    assert [step for step, _ in history(place, resumed, "train/loss")] == list(range(40))
    assert history(place, resumed, "train/loss") == history(place, whole, "train/loss")
    assert history(place, resumed, "val/mean_iou") == history(place, whole, "val/mean_iou")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("at", ["training", "validation"])
def test_what_cannot_be_read_while_the_node_drains_is_the_notice(place, small, experiment, whole, monkeypatch, at):
    """Ray refuses decoding tasks there before the training hears of the draining, and says so a moment later."""
    run = here(place, small, experiment, f"refused-{at}")
    drains: list[float] = []
    node = ray.get_runtime_context().get_node_id()

    def draining() -> dict[str, int]:
        return {node: 0} if drains and time.monotonic() > drains[0] + 0.3 else {}

    with monkeypatch.context() as patch:
        patch.setattr(preemption, "DRAIN_POLL_S", 3600)
        patch.setattr(ray._private.state.state, "get_draining_nodes", draining)
        name, after = {"training": ("training_stream", 15), "validation": ("evaluation_stream", 0)}[at]
        stream = getattr(ingest, name)

        def refused(*arguments, **settings):
            for number, batch in enumerate(stream(*arguments, **settings)):
                if number == after:
                    drains.append(time.monotonic())
                    raise TaskUnschedulableError("the node drains")
                yield batch

        patch.setattr(ingest, name, refused)
        with pytest.raises(PreemptedError):
            train.fit_here(run, lambda found: None)
        assert CheckpointStore(run.folder).last().step == {"training": 15, "validation": 10}[at]

    outcome = train.fit_here(run, lambda found: None)
    assert outcome.ended == FINISHED
    assert history(place, outcome, "train/loss") == history(place, whole, "train/loss")
    assert history(place, outcome, "val/mean_iou") == history(place, whole, "val/mean_iou")
    assert "Ray drains node" in MlflowClient(place[1]).get_run(outcome.run_id).data.tags["miseg.preempted"]


def test_of_several_ranks_one_that_cannot_read_sums_nothing():
    """The others are in another sum: it would wait for them for ever, or take theirs for its own."""

    def refused():
        raise TaskUnschedulableError("the node drains")
        yield

    loop = SimpleNamespace(world=2, step=3, flush=lambda: pytest.fail("it summed"))
    notice = SimpleNamespace(comes=lambda seconds: True, reason="Ray drains node")
    training = worker._Training(loop, None, None, None, "labels", notice)
    with pytest.raises(TaskUnschedulableError):
        list(training._read(refused()))


def test_what_cannot_be_read_otherwise_is_an_error(place, small, experiment, monkeypatch):
    def refused(*arguments, **settings):
        raise TaskUnschedulableError("no such node")
        yield

    monkeypatch.setattr(ingest, "training_stream", refused)
    with pytest.raises(TaskUnschedulableError):
        train.fit_here(here(place, small, experiment, "unreadable"), lambda found: None)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_workers_train_as_one_with_the_whole_batch(place, small, experiment, whole, two, accumulate):
    if accumulate > 1:
        # Each worker's share of four images is cut into two parts.
        two = fit(place, small, replace(experiment, accumulate=accumulate), "two in parts", workers=2)
    expected = [value for _, value in history(place, whole, "train/loss")]
    found = [value for _, value in history(place, two, "train/loss")]
    assert len(found) == len(expected) == experiment.steps
    # Adam's first updates have the size of the learning rate however small a gradient is, so that rounding grows with
    # the steps: 1e-5 holds for a dozen, and the rest stays near.
    assert found[:12] == pytest.approx(expected[:12], rel=1e-5)
    assert found == pytest.approx(expected, rel=1e-2)


@pytest.mark.smoke
def test_a_run_in_mlflow_is_whole(place, small, experiment, whole):
    client = MlflowClient(place[1])
    run = client.get_run(whole.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["miseg.experiment_id"] == experiment.id
    assert run.data.tags["miseg.data_fingerprint"] == small.fingerprint
    assert run.data.tags["miseg.ended"] == FINISHED
    assert run.data.params["lambda"] == "0.5"
    for key in ("val/mean_iou", "val/micro_iou", "val/pixel_accuracy", "val/iou/road"):
        assert [step for step, _ in history(place, whole, key)] == [10, 20, 30, 40]
    assert run.data.metrics["images_per_second"] > 0
    folders = {item.path for item in client.list_artifacts(whole.run_id)}
    assert folders == {"experiment.json", "images", "tables"}
    names = [Path(item.path).name for item in client.list_artifacts(whole.run_id, "images")]
    for kind in ("panels", "confusion"):
        own = [name for name in names if name.startswith(images.stem_of(f"val/{kind}"))]
        assert sorted(map(images.step_of, own)) == [10, 10, 20, 20, 30, 30, 40, 40]  # each with a small one
    assert {item.path for item in client.list_artifacts(whole.run_id, "tables")} == {"tables/iou-val.json"}
    loss = history(place, whole, "val/loss")
    assert [step for step, _ in loss] == [10, 20, 30, 40] and all(math.isfinite(value) for _, value in loss)
    read = {(entry.dataset.name, entry.dataset.digest, entry.tags[0].value) for entry in run.inputs.dataset_inputs}
    stem = Path(small.uri).name
    assert read == {(f"{stem}/train", small.fingerprint, "train"), (f"{stem}/val", small.fingerprint, "validation")}
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{whole.run_id}'")
    assert sorted(model.name for model in models) == [f"best of {run.info.run_name}", f"last of {run.info.run_name}"]


def test_the_machine_is_recorded_beside_the_run(place):
    run = MlflowClient(place[1]).create_run("0")
    log = Journal(place[0] / "journals", place[1], run.info.run_id)
    monitor = system_metrics.start(log, every=0.2)
    deadline = time.monotonic() + 20
    while not (logged := MlflowClient(place[1]).get_run(run.info.run_id).data.metrics) and time.monotonic() < deadline:
        time.sleep(0.2)
    monitor.finish()
    assert log.close()
    assert logged["system/cpu_utilization_percentage"] >= 0
    assert "system/system_memory_usage_percentage" in logged


def test_evaluation_finds_what_training_reported(place, small, whole):
    folder, uri = place
    with tempfile.TemporaryDirectory() as beside:
        checkpoint = models.download(uri, whole.run_id, "last", beside)
        resources = replace(ray_cluster.resources(1, 1), cpus=1)
        workspace = Workspace(str(folder), uri, resources)
        thin = small.info.classes[2]
        measures = FurtherMeasures(thin=(thin,))
        report = evaluate(TrainedModel(checkpoint, whole.run_id), small.uri, "val", workspace, measures)
    run_id, scores = report.run_id, report.scores
    assert len(report.panels) == PANEL_ROWS
    assert scores["val/mean_iou"] == pytest.approx(whole.mean_iou, abs=1e-9)
    run = MlflowClient(uri).get_run(run_id)
    assert run.data.tags["mlflow.parentRunId"] == whole.run_id
    assert run.data.metrics["val/mean_iou"] == scores["val/mean_iou"]
    assert 0 < scores["val/boundary_iou"] < 1 and scores["val/inference_seconds"] > 0
    trained = MlflowClient(uri).get_run(whole.run_id).data.metrics
    for name in ("image_mean_iou", "worst_class_iou", "worst_quarter_iou", "expected_calibration_error"):
        assert scores[f"val/{name}"] == pytest.approx(trained[f"val/{name}"], abs=1e-9)
    assert 0 <= scores["val/mean_cldice"] <= 1 and scores["val/mean_cldice"] == scores[f"val/cldice/{thin}"]
    written = json.loads(Path(MlflowClient(uri).download_artifacts(run_id, "tables/scores-val.json")).read_text())
    assert written["scores"] == scores and written["data_fingerprint"] == small.fingerprint
    bins = pd.read_csv(MlflowClient(uri).download_artifacts(run_id, "tables/calibration-val.csv")).dropna()
    gaps = bins.pixels * (bins.mean_confidence - bins.share_right).abs()
    assert gaps.sum() / bins.pixels.sum() == pytest.approx(scores["val/expected_calibration_error"])
    images = pq.read_table(MlflowClient(uri).download_artifacts(run_id, "images/val-images.parquet"))
    own = ImageCounts.of(images["id"].to_pylist(), images["counts"].to_pylist()).image_iou()
    assert own.mean() == pytest.approx(scores["val/image_mean_iou"])


@pytest.mark.skipif(not available(), reason="the extra crf is not installed")
def test_the_crf_over_the_data_set_equals_the_crf_image_by_image(place, small, whole):
    folder, uri = place
    settings = [DenseCRF(1), DenseCRF(3)]
    with tempfile.TemporaryDirectory() as beside:
        place_of = models.download(uri, whole.run_id, "last", beside)
        resources = replace(ray_cluster.resources(1, 1), cpus=1)
        workspace = Workspace(str(folder), uri, resources)
        report = evaluate(TrainedModel(place_of), small.uri, "val", workspace, FurtherMeasures(tuple(settings)))
        method, experiment, task = checkpoint.open_method(place_of)
    convert = ingest.Converter(small, experiment)
    for setting in settings:
        matrix, images = ConfusionMatrix(task.num_classes, task.ignore_index), ImageMeanIoU(task.num_classes)
        for columns in evaluation_batches(small, "val", experiment.augmentation, batch_size=1):
            batch = convert(columns)
            with torch.no_grad():
                probabilities = method.predict(batch.images_NCHW)[0]
            refined = dense_crf(columns["images"][0], probabilities, setting.iterations)
            matrix.update(refined.argmax(0)[None], batch.labels_NHW)
            images.update(refined.argmax(0)[None], batch.labels_NHW)
        prefix = f"val/crf_{setting.iterations}"
        assert report.scores[f"{prefix}/mean_iou"] == pytest.approx(matrix.mean_iou(), abs=0.01)
        assert report.scores[f"{prefix}/image_mean_iou"] == pytest.approx(images.mean(), abs=0.01)
        assert 0 < report.scores[f"{prefix}/expected_calibration_error"] < 1
        assert report.scores[f"{prefix}/seconds_per_image"] > 0
    logged = MlflowClient(uri).get_run(report.run_id).data.metrics
    assert logged["val/crf_3/mean_iou"] == report.scores["val/crf_3/mean_iou"]


def test_a_loss_that_is_not_finite_ends_the_run_and_names_step_images_and_rate(place, small, tiny):
    wild = replace(tiny, optimiser=replace(tiny.optimiser, name="sgd", learning_rate=1e30, warmup_steps=0))
    outcome = fit(place, small, wild, "wild")
    run = MlflowClient(place[1]).get_run(outcome.run_id)
    assert run.info.status == "FAILED"
    assert math.isnan(outcome.mean_iou)
    assert re.search(r"the loss is \S+ at step \d+ \(learning rate .*, images train/", run.data.tags["miseg.ended"])


@pytest.mark.timeout(120)
def test_a_validation_is_told_once_its_checkpoint_is_whole(small, tiny, uri, tmp_path, monkeypatch):
    """Tune ends the process of a trial that it stops within seconds, however long the checkpoint takes."""
    add = CheckpointStore.add

    def slowly(*arguments):
        time.sleep(0.5)
        return add(*arguments)

    monkeypatch.setattr(CheckpointStore, "add", slowly)
    run = TrainingRun("run", tiny, small.uri, str(tmp_path), uri, replace(ray_cluster.resources(1, 1), cpus=1))
    told = []

    def report(found):
        last = CheckpointStore(run.folder).last()
        told.append((found["step"], last is not None and last.step))

    train.fit_here(run, report)
    assert told == [(step, step) for step in (6, 12, 18, 24)]
