"""What is counted for Prometheus: under which names, in which units, and that it holds no training up."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from miseg.data.loading.batches import evaluation_batches
from miseg.interface import Batch
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.cluster import metrics
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.journal.journal import journal_folder
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from miseg.service.training import streams as ingest
from miseg.service.training import worker
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import Recorder
from miseg.service.training.records import StepRecord
from miseg.service.training.run import TrainingRun
from miseg.service.tuning import metrics as tuning_metrics

UNITS = ("_seconds", "_bytes", "_ratio")


class Recorded:
    """What would have gone to Ray."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], float] = {}
        self.runs: set[tuple[str, str]] = set()

    def __call__(self, name: str, labels: dict[str, str], value: float) -> None:
        keys = (metrics.COUNTERS | metrics.GAUGES)[name][1]
        own = [labels[key] for key in keys if key not in metrics.RUN and key not in metrics.TUNING]
        key = name, ",".join(own)
        self.runs.add((name, labels.get("run", "")))
        self.values[key] = self.values.get(key, 0.0) + value if name in metrics.COUNTERS else value

    def of(self, name: str) -> dict[str, float]:
        """A metric's values by its own labels."""
        return {own: value for (found, own), value in self.values.items() if found == name}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Stands for Ray."""
    found = Recorded()
    monkeypatch.setattr(metrics, "_connected", lambda: True)
    monkeypatch.setattr(metrics, "_record", found)
    monkeypatch.setattr(metrics, "_gauge_values", {})
    return found


def test_names_and_descriptions_follow_prometheus() -> None:
    for name, (description, keys) in (metrics.COUNTERS | metrics.GAUGES).items():
        assert re.fullmatch(r"miseg_[a-z]+(_[a-z]+)*", name) and description.endswith(".")
        assert not name.endswith("_total"), "Ray adds it"
        assert set(keys) <= {*metrics.RUN, *metrics.TUNING, "part", "kind", "split", "state", "run_id"}
        assert "time" not in description.lower().split() or name.endswith("_seconds")
    for part in ("progress", "accuracy", "iou"):
        assert all(name.endswith(UNITS) for name in metrics.GAUGES if part in name)


def test_without_ray_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_connected", lambda: False)
    monkeypatch.setattr(metrics, "_metric", lambda name: pytest.fail("a metric was made"))
    metrics.add("miseg_training_steps", {"run": "r"})
    metrics.put("miseg_training_loss", {"run": "r"}, 1.0)


def test_what_ray_does_not_take_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("no such metric")

    monkeypatch.setattr(metrics, "_connected", lambda: True)
    monkeypatch.setattr(metrics, "_metric", broken)
    metrics.add("miseg_training_steps", {"run": "r"})
    assert "miseg_training_steps is not exported: no such metric" in caplog.text


def test_a_loss_that_is_not_finite_is_no_point_of_a_curve(recorded: Recorded) -> None:
    for value in (math.nan, math.inf):
        metrics.put("miseg_training_loss", {"run": "r"}, value)
    metrics.add("miseg_training_images", {"run": "r"}, 0)
    assert not recorded.values


def test_a_gauge_is_set_again_until_it_is_forgotten(recorded: Recorded) -> None:
    """Ray exports what was set since its last export alone: a run that stalls would show nothing."""
    for run in ("stalled", "other"):
        metrics.put("miseg_run_progress_ratio", {"run": run, "tuning": "t"}, 0.5)
    metrics.put("miseg_tracking_backlog_bytes", {"run": "stalled", "tuning": "t"}, 7)

    def again() -> set[tuple[str, str]]:
        recorded.values.clear()
        recorded.runs.clear()
        metrics._set_again()
        return recorded.runs

    ratio, backlog = "miseg_run_progress_ratio", "miseg_tracking_backlog_bytes"
    assert again() == {(ratio, "stalled"), (ratio, "other"), (backlog, "stalled")}
    metrics.forget({"run": "stalled"}, "miseg_tracking")
    assert again() == {(ratio, "stalled"), (ratio, "other")}
    metrics.forget({"run": "stalled"})
    assert again() == {(ratio, "other")}


def test_what_has_ended_is_forgotten(trained, recorded: Recorded) -> None:
    _, recorder, _ = trained
    assert {name for name, _ in metrics._gauge_values} >= {"miseg_run_active", "miseg_run_progress_timestamp_seconds"}
    recorder.close()
    # Of this run: a journal of another test may still wait for its server in this process.
    assert not [name for name, known in metrics._gauge_values if ("run", "r") in known]
    tuning = tuning_metrics.TuningMetrics({"tuning": "t", "phase": "search"}, total=1, steps=10)
    tuning.on_trial_start(0, [Trial("RUNNING")], None)
    assert [name for name, known in metrics._gauge_values if ("tuning", "t") in known]
    tuning.on_experiment_end([Trial("TERMINATED", 10)])
    assert not [name for name, known in metrics._gauge_values if ("tuning", "t") in known]


def test_waited_sums_what_was_waited_for_and_hands_all_on() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.05)
            yield number

    waited = metrics.Waited(slow())
    found = []
    for number in waited:
        time.sleep(0.1)
        found.append(number)
    assert found == [0, 1, 2]
    assert 0.15 <= waited.seconds < 0.3


def test_data_sets_are_called_alike_wherever_they_are_named() -> None:
    for name in ("camvid", "s3://bucket/miseg/data/camvid", "/home/me/miseg/data/camvid/"):
        assert metrics.data_label(name) == "camvid"


@pytest.fixture
def trained(small, tiny, uri: str, tmp_path: Path, recorded: Recorded):
    """A recorder and a loop over `small`, with labels as a tuning's trial has them."""
    tags, experiment = {"miseg.study": "s", "miseg.tuning": "t"}, replace(tiny, steps=23, validate_every=10)
    run = TrainingRun("r", experiment, small.uri, str(tmp_path), uri, Resources(1, 0, 1, 1), tags=tags)
    run_id = mlflow_runs.open_experiment_run(RunStore(str(tmp_path), uri), run.experiment, run.name, small.fingerprint)
    settings = {"folder": journal_folder(run.storage), "tracking_uri": uri, "run_id": run_id, "labels": run.labels}
    recorder = Recorder(small, CheckpointStore(run.folder), settings)
    yield run, recorder, Loop(run.experiment, ingest.task_of(small), torch.device("cpu"))
    recorder.close()


def _batches(small, experiment) -> list[Batch]:
    columns = evaluation_batches(small, "train", experiment.augmentation, batch_size=experiment.batch_size)
    return [ingest.Converter(small, experiment)(batch) for batch in columns]


def test_a_training_counts_its_steps_images_and_time(small, trained, recorded: Recorded) -> None:
    run, recorder, loop = trained
    assert run.labels == {
        "study": "s", "tuning": "t", "run": "r", "method": "RegionMutualInformation", "data": "packed"
    }  # fmt: skip
    validated, resumed = [], []

    def validate() -> None:
        time.sleep(0.05)
        validated.append(loop.step)
        scores = {"val/mean_iou": 0.25, "val/pixel_accuracy": 0.5, "val/iou/road": 0.1}
        recorder.validation(loop, {"step": loop.step, "mean_iou": 0.25, "score": 0.25}, scores)

    def slow() -> Iterator[Batch]:
        for batch in itertools.islice(itertools.cycle(_batches(small, run.experiment)), 23):
            time.sleep(0.01)
            yield batch
            resumed.append(time.perf_counter())

    assert recorded.of("miseg_run_active") == {recorder.journal.run_id: 1}
    started = time.perf_counter()
    worker.train_on(loop, slow(), recorder, validate)
    wall = time.perf_counter() - started
    recorder.finish()
    assert validated == [10, 20, 23]
    assert recorded.of("miseg_training_steps") == {"": 23}
    assert recorded.of("miseg_training_images") == {"": 23 * run.experiment.batch_size}
    assert recorded.of("miseg_run_progress_ratio") == {"": 1.0}
    parts = recorded.of("miseg_training_seconds")
    assert set(parts) == {"data", "compute", "record", "validation"}
    assert parts["data"] >= 0.23 and parts["validation"] >= 0.15
    # Of the wall time only the stream's own end is in no part, which may wait for its threads.
    assert 0.95 * (resumed[-1] - started) < sum(parts.values()) <= wall
    assert recorded.of("miseg_validation_mean_iou_ratio") == {"val": 0.25}
    assert recorded.of("miseg_validation_pixel_accuracy_ratio") == {"val": 0.5}
    assert math.isfinite(recorded.of("miseg_training_loss")[""])
    assert recorded.of("miseg_learning_rate")[""] > 0
    assert recorded.of("miseg_checkpoints") == {"": 3} and recorded.of("miseg_checkpoint_seconds")[""] > 0
    assert abs(recorded.of("miseg_run_progress_timestamp_seconds")[""] - time.time()) < 30
    assert recorded.of("miseg_gpu_memory_bytes") == {} or torch.cuda.is_available()
    recorder.close()
    assert recorded.of("miseg_run_active") == {recorder.journal.run_id: 0}
    assert recorded.of("miseg_tracking_backlog_bytes") == {"": 0}
    assert recorded.of("miseg_tracking_waiting_timestamp_seconds") == {"": 0}


def test_faults_are_counted_by_kind(trained, recorded: Recorded) -> None:
    _, recorder, loop = trained
    recorder.step(StepRecord(3, {"train/skipped": 1.0}, skipped="the loss is nan"))
    recorder.step(StepRecord(4, {"train/loss": 1.0}, empty="no pixel counts"))
    recorder.preempted(loop, "SIGTERM")
    recorder._failures.failed(5, OSError("No space left on device"))
    assert recorded.of("miseg_faults") == {"skipped_step": 1, "empty_step": 1, "preemption": 1, "storage": 1}
    assert recorder.journal.run_id in next(iter(recorded.of("miseg_run_active")))


def test_a_server_that_is_away_shows_in_the_backlog(tmp_path: Path, recorded: Recorded) -> None:
    from miseg.service.journal.journal import Journal

    journal = Journal(tmp_path, "http://127.0.0.1:9", "0" * 32, labels={"run": "r"})
    before = time.time()
    journal.metrics(1, {"train/loss": 1.0})
    deadline = time.monotonic() + 60
    while not recorded.of("miseg_tracking_failures") and time.monotonic() < deadline:
        time.sleep(0.05)
    journal.close(tries=1)
    assert recorded.of("miseg_tracking_failures")[""] >= 1
    assert recorded.of("miseg_tracking_backlog_bytes")[""] == journal.path.stat().st_size
    assert before - 1 <= recorded.of("miseg_tracking_waiting_timestamp_seconds")[""] <= before + 5


class Trial:
    """As Tune has them."""

    def __init__(self, status: str, step: int = 0) -> None:
        self.status, self.last_result = status, {"step": step}


def test_a_tuning_counts_its_trials_by_state(recorded: Recorded) -> None:
    counted = tuning_metrics.TuningMetrics({"tuning": "t", "phase": "search"}, total=8, steps=10)
    trials = [Trial("PENDING"), Trial("RUNNING", 2), Trial("TERMINATED", 10), Trial("TERMINATED", 4), Trial("ERROR", 3)]
    counted.on_trial_result(0, trials, trials[1], {"step": 2, "mean_iou": 0.3})
    counted.on_trial_result(1, trials, trials[1], {"step": 4, "mean_iou": 0.2})
    assert recorded.of("miseg_tuning_trials") == dict.fromkeys(tuning_metrics.STATES, 1)
    assert recorded.of("miseg_tuning_planned_trials") == {"": 8}
    assert recorded.of("miseg_tuning_best_mean_iou_ratio") == {"": 0.3}
    assert recorded.of("miseg_tuning_active") == {"": 1}
    counted.on_trial_recover(2, trials, trials[4])
    counted.on_trial_error(3, trials, trials[4])
    assert recorded.of("miseg_faults") == {"trial_retry": 1, "trial_failure": 1}
    counted.on_experiment_end(trials)
    assert recorded.of("miseg_tuning_active") == {"": 0}


@pytest.mark.ray
@pytest.mark.slow
def test_what_ten_steps_tell_ray_takes_no_measurable_part_of_them(ray_here) -> None:
    """Of the processor's time, of this thread alone; a step of the smallest recipe takes a hundred milliseconds."""
    told = metrics.RunMetrics({"run": "r", "tuning": "t", "method": "m", "data": "d"}, "0" * 32)
    last = {"train/loss": 1.0, "train/learning_rate": 1e-3}
    took = []
    for _ in range(50):
        started = time.thread_time()
        for _ in range(10):
            told.flushed(0.5, 10, 80, last)
            told.spent(data=0.1, compute=0.2, record=0.01, validation=0.0)
        took.append((time.thread_time() - started) / 10)
    told.close()
    print(f"{1e6 * sorted(took)[25]:.0f} us of the processor's time in ten steps")
    assert sorted(took)[25] < 1e-3


def test_labels_that_ray_gets_are_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray encodes them so, and a controller, or what counts, dies of another letter."""
    told: list[dict[str, str]] = []

    class Metric:
        def inc(self, value: float, tags: dict[str, str]) -> None:
            told.append(tags)

        set = inc

    monkeypatch.setattr(metrics, "_metric", lambda name: (Metric(), ("run", "data")))
    for name in ("miseg_training_steps", "miseg_run_progress_ratio"):
        metrics._record(name, {"run": "Straße", "data": "plain"}, 1.0)
    assert told == [{"run": "Stra\\xdfe", "data": "plain"}] * 2


def test_ray_train_gets_an_ascii_name_and_each_run_its_own(tiny, tmp_path: Path) -> None:
    def train_name(name: str) -> str:
        share = Resources(1.0, 0.0, 1, 1)
        return TrainingRun(name, tiny, "data", str(tmp_path), "sqlite://", share).train_name

    assert train_name("first-try") == "first-try"
    names = [train_name(name) for name in ("Straße", "Strañe", "火", "水")]
    assert all(name.isascii() and "/" not in name for name in names) and len(set(names)) == 4
