"""Storage that fails: a disk that is full or read-only, an object store that refuses, hangs up and cuts short."""

from __future__ import annotations

import errno
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from mlflow import MlflowClient

from miseg.data.packed.dataset import PackedDataset
from miseg.data.storage import file_system, listed
from miseg.file_names import below
from miseg.service.checkpoints import checkpoint, fencing, storage_failures
from miseg.service.checkpoints.checkpoint_files import MANIFEST, CheckpointError, verify
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.storage_failures import StorageFailures
from miseg.service.cluster import ray_cluster
from miseg.service.command import start
from miseg.service.journal import copies
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from miseg.service.training import train
from miseg.service.training.background import BackgroundWriter, WriterBusyError
from miseg.service.training.loop import Loop
from miseg.service.training.run import FINISHED, TrainingOutcome, TrainingRun
from tests.support.checkpoints import filled, weight, writer
from tests.support.servers.faulty_s3 import BUCKET, FaultyS3, faulty_s3

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

MEGABYTES = 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of a few MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if mounted(["-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]) != 0:
        pytest.skip("only root, where it may mount, can make a file system of a few MB")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mounted(arguments: list[str]) -> int:
    if shutil.which("mount") is None:
        return 1
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode


def fill(disk: Path, left: int = 0) -> None:
    """Take the disk's room but for `left` bytes; what is written meanwhile, such as pictures, may take of it too."""
    try:
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - left))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def free(disk: Path) -> None:
    (disk / "ballast").unlink()


def write_real(loop: Loop, step: int) -> Callable[[Path], object]:
    loop.step = step
    return lambda folder: checkpoint.save(folder, loop, {"step": loop.step, "score": 0.5})


@pytest.mark.parametrize("room", [0, 4096, 0.3, 0.7, 0.99])
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before_and_nothing_of_itself(disk, tiny, small, room):
    """Where the room ends differs: at the folder, within the weights, within the optimiser's state, at the manifest."""
    from miseg.service.training import streams as ingest

    loop = Loop(tiny, ingest.task_of(small))
    store = CheckpointStore(str(disk / "run"))
    before = shutil.disk_usage(disk).used
    store.add(10, write_real(loop, 10))
    size = shutil.disk_usage(disk).used - before
    fill(disk, int(room * size) if room < 1 else room)
    with pytest.raises(OSError, match=r"No space left|could not be written"):
        store.add(20, write_real(loop, 20))
    assert [path.name for path in (disk / "run").iterdir()] == ["step-000000010"]
    with store.latest() as folder:
        checkpoint.load(folder, loop)
    free(disk)
    store.add(30, write_real(loop, 30))
    assert [path.name for path in (disk / "run").iterdir()] == ["step-000000030"]


def test_a_folder_that_becomes_read_only_leaves_what_is_there(disk):
    store = filled(CheckpointStore(str(disk / "run")), step10=0.4)
    assert mounted(["-o", "remount,ro", str(disk)]) == 0
    with pytest.raises(OSError, match="Read-only file system"):
        store.add(20, writer(20, 0.5))
    with store.latest() as folder:
        assert weight(folder) == 10
    with pytest.raises(
        ValueError, match=rf"storage {disk} cannot be written \(Read-only file system\): make it writable"
    ):
        start.check_writable(str(disk))
    assert mounted(["-o", "remount,rw", str(disk)]) == 0
    start.check_writable(str(disk))
    filled(store, step20=0.5)
    assert store.last().step == 20


# Trainings


@pytest.fixture(scope="module")
def s3() -> Iterator[FaultyS3]:
    """Before Ray starts: its workers use it too."""
    with faulty_s3(0.0) as server:
        yield server


@pytest.fixture(scope="module")
def ray_with_s3(s3) -> Iterator[None]:
    ray_cluster.connect("local")
    yield
    ray.shutdown()


def run_of(small_uri: str, tiny, uri: str, storage: str, **settings) -> TrainingRun:
    resources = replace(ray_cluster.resources(1, 1), cpus=1)
    return TrainingRun("run", tiny, small_uri, storage, uri, resources, **settings)


def logged(uri: str, outcome: TrainingOutcome) -> tuple[list[int], dict[str, str]]:
    client = MlflowClient(uri)
    steps = [metric.step for metric in client.get_metric_history(outcome.run_id, "train/loss")]
    return sorted(steps), client.get_run(outcome.run_id).data.tags


class Events:
    """What happens at validations: `report` of a training, which waits until storage came to rest."""

    def __init__(self, store: CheckpointStore, said: Callable[[], str], **at: Callable[[], None]) -> None:
        self.store, self.said, self.text = store, said, ""
        self.at = {int(name.removeprefix("step")): action for name, action in at.items()}

    def __call__(self, found: dict) -> None:
        action = self.at.get(found["step"])
        if action is None:
            return
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self.text += self.said()
            last = self.store.last()
            if (last is not None and last.step == found["step"]) or f"step {found['step']} could not be" in self.text:
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"the checkpoint of step {found['step']} neither came nor failed")
        action()


@pytest.mark.ray
@pytest.mark.slow
def test_a_full_disk_stops_no_training_and_the_next_checkpoint_is_written(
    disk, small, tiny, uri, ray_with_s3, capsys, tmp_path
):
    """The journal is on the full disk too."""
    run = run_of(small.uri, tiny, uri, str(disk))
    store = CheckpointStore(run.folder)
    events = Events(store, lambda: capsys.readouterr().out, step6=lambda: fill(disk), step12=lambda: free(disk))
    outcome = train.fit_here(run, events)
    said = events.text + capsys.readouterr().out
    assert outcome.ended == FINISHED and outcome.step == 24 and not math.isnan(outcome.mean_iou)
    assert "warning: the checkpoint of step 12 could not be written" in said
    assert "step 18 was written: storage takes them again" in said
    steps, tags = logged(uri, outcome)
    assert steps == list(range(24))
    assert tags[storage_failures.TAG].startswith("1, the last of them: the checkpoint of step 12 could not be written")


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_whose_last_checkpoint_is_missing_says_so_and_goes_on_from_the_one_before(
    disk, small, tiny, uri, ray_with_s3, capsys, tmp_path
):
    # MLflow keeps its files elsewhere, as a server does: on the full disk it could not say either that a run ended.
    mlflow_runs.ensure_experiment(
        MlflowClient(uri), mlflow_runs.experiment_name(small.uri), RunStore(str(tmp_path), uri)
    )
    run = run_of(small.uri, tiny, uri, str(disk), when_storage_fails="stop")
    store = CheckpointStore(run.folder)
    said = lambda: capsys.readouterr().out  # noqa: E731
    stopped = train.fit_here(run, Events(store, said, step6=lambda: fill(disk)))
    assert "the checkpoint of step 12 could not be written" in stopped.ended and "again under its name" in stopped.ended
    assert stopped.step == 6 and math.isnan(stopped.mean_iou)
    steps, tags = logged(uri, stopped)
    assert tags["miseg.ended"] == stopped.ended and max(steps) < 18, "it stopped at the next validation"

    missing = train.fit_here(replace(run, when_storage_fails="continue"), lambda found: None)
    assert "the checkpoint of step 24 could not be written" in missing.ended
    assert missing.step == 6 and math.isnan(missing.mean_iou)
    assert MlflowClient(uri).get_run(missing.run_id).info.status == "FAILED"

    free(disk)
    mended = train.fit_here(run, lambda found: None)
    assert mended.ended == FINISHED and mended.step == 24
    assert logged(uri, mended)[0] == list(range(24)), "each step once"


@pytest.mark.ray
@pytest.mark.slow
def test_a_training_on_an_object_store_that_fails_now_and_then(s3, ray_with_s3, small, tiny, uri):
    s3.share = 0.1
    try:
        storage = f"s3://{BUCKET}/storage"
        start.check_writable(storage)
        data = f"{storage}/data/small"
        start.upload(Path(small.uri), data)
        assert PackedDataset.open(data).fingerprint == small.fingerprint
        run = run_of(data, tiny, uri, storage)

        def end(found: dict) -> None:
            if found["step"] == 12:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            train.fit_here(run, end)
        outcome = train.fit_here(run, lambda found: None)
    finally:
        s3.share = 0.0
    assert sum(s3.faults.values()) > 10 and len(s3.faults) >= 3
    assert outcome.ended == FINISHED and outcome.step == 24
    assert logged(uri, outcome)[0] == list(range(24))
    kept = CheckpointStore(run.folder).all()
    assert kept[-1].step == 24 and len(kept) <= 2
    for found in kept:
        with found.as_directory() as folder:
            assert verify(folder)["step"] == found.step


# The store on an object store


def test_a_damaged_object_is_named_and_the_one_before_it_is_used(s3, caplog):
    store = filled(CheckpointStore(f"s3://{BUCKET}/damaged"), step10=0.4, step20=0.1)
    path = f"{store.path(20)}/weights.safetensors"
    with store.system.open_input_file(path) as file:
        content = bytearray(file.read())
    content[-1] ^= 1
    with store.system.open_output_stream(path) as file:
        file.write(content)
    with store.latest() as folder:
        assert weight(folder) == 10
    assert store.path(20) in caplog.text and "weights.safetensors was altered" in caplog.text


def test_an_upload_that_was_cut_off_is_no_checkpoint_and_goes_with_the_next(s3):
    store = filled(CheckpointStore(f"s3://{BUCKET}/half"), step10=0.4, step20=0.1)
    store.system.delete_file(f"{store.path(20)}/{MANIFEST}")
    assert store.last().step == 10
    filled(store, step30=0.2)
    assert [kept.step for kept in store.all()] == [10, 30]


@pytest.mark.slow
def test_storage_that_does_not_answer_is_no_reason_to_go_back_nor_to_remove_anything(s3, monkeypatch):
    monkeypatch.setattr("miseg.data.storage.PATIENCE", 0.5)
    store = filled(CheckpointStore(f"s3://{BUCKET}/away"), step10=0.4, step20=0.1)

    def refused(path: str) -> bytes:
        if path.startswith(store.path(10)):
            raise OSError("AWS Error SLOW_DOWN during GetObject operation")
        with store.system.open_input_stream(path) as file:
            return file.read()

    with monkeypatch.context() as away:
        away.setattr(store, "_content", refused)
        with pytest.raises(OSError, match="SLOW_DOWN"), store.latest():
            pass
        store.add(30, writer(30, 0.2))
    assert [kept.step for kept in store.all()] == [10, 20, 30], "none was removed while one could not be read"
    filled(store, step40=0.1)
    assert [kept.step for kept in store.all()] == [10, 40]


def test_a_bucket_that_is_not_there_is_told_at_the_start(s3, monkeypatch):
    monkeypatch.setattr(start, "START_PATIENCE", 0.5)
    with pytest.raises(ValueError, match=r"storage s3://nowhere/x cannot be written .*--storage or \$MISEG_STORAGE"):
        start.check_writable("s3://nowhere/x")


# Time


def test_storage_that_hangs_does_not_hold_a_training_up_for_ever():
    import threading

    hangs = threading.Event()
    aside = BackgroundWriter(patience=0.2)
    aside.do(hangs.wait)
    with pytest.raises(WriterBusyError, match="busy"):
        aside.do(lambda: None)
    hangs.set()
    aside.wait()
    aside.close()


def test_a_checkpoint_given_up_is_missing_though_an_earlier_one_is_still_written():
    tags: dict[str, str] = {}
    failures = StorageFailures("continue", tags.update)
    with failures.at(10):
        failures.failed(20, WriterBusyError("busy"))
    with pytest.raises(storage_failures.StorageError, match="step 20"):
        failures.check()
    with failures.at(30):
        pass
    failures.check()
    assert tags[storage_failures.TAG].startswith("1, the last of them: the checkpoint of step 20")


def test_a_file_that_is_cut_short_is_found(tmp_path):
    """As a disk that was full behind a cache leaves it."""
    store = filled(CheckpointStore(str(tmp_path)), step10=0.4, step20=0.1)
    path = Path(store.path(20)) / "training.pt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"training\.pt was altered"):
        verify(store.path(20))
    with store.latest() as folder:
        assert weight(folder) == 10


@pytest.mark.ray
@pytest.mark.slow
def test_a_training_whose_storage_is_away_at_its_end_is_closed_as_failed_and_finished_under_its_name(
    small, tiny, uri, ray_with_s3, tmp_path, monkeypatch
):
    run = run_of(small.uri, tiny, uri, str(tmp_path / "storage"))

    def refused(self: CheckpointStore) -> None:
        raise OSError("nobody answers")

    with monkeypatch.context() as away:
        away.setattr(CheckpointStore, "best", refused)
        ended = train.fit_here(run, lambda found: None)
    assert ended.ended.startswith("trained to its end, but storage does not say which checkpoints there are (nobody")
    assert ended.ended.endswith("start the run again under its name")
    assert MlflowClient(uri).get_run(ended.run_id).info.status == "FAILED"
    again = train.fit_here(run, lambda found: None)
    assert again.ended == FINISHED and again.step == 24 and again.run_id == ended.run_id
    assert logged(uri, again)[0] == list(range(24)), "each step once"


def test_a_storage_with_options_in_its_uri_has_a_folder_for_each_run(s3, tmp_path):
    """They ended in the last option, `region=us-east-1/runs/...`, and every run was in the storage's own folder."""
    storage = f"s3://{BUCKET}/asked?region=us-east-1&allow_bucket_creation=true"
    folder = below(below(storage, "runs"), "one")
    store = filled(CheckpointStore(folder, writer=fencing.drive(folder)), step10=0.4)
    assert store.path(10) == f"{BUCKET}/asked/runs/one/step-000000010"
    assert CheckpointStore(below(storage, "runs", "two")).all() == []
    (tmp_path / "run.jsonl").write_text("{}\n")
    copies.keep(tmp_path / "run.jsonl", storage)
    system, path = file_system(f"s3://{BUCKET}/asked/journals")
    assert [info.base_name for info in listed(system, path)] == ["run.jsonl"]
