"""A run's folder holds whole checkpoints, the best and the last, whatever happens while one is written."""

from pathlib import Path

import pytest
from pyarrow import fs

from miseg.service.checkpoints.checkpoint_files import MANIFEST
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from tests.support.checkpoints import filled, weight


@pytest.fixture(params=["a disk", "an object store"])
def store(request, tmp_path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path / "run") if request.param == "a disk" else "mock:///run")


def test_the_best_and_the_last_stay(store):
    filled(store, step10=0.1, step20=0.4, step30=0.3, step40=0.2)
    assert [kept.step for kept in store.all()] == [20, 40]
    assert (store.best().step, store.last().step) == (20, 40)
    with store.best().as_directory() as folder:
        assert weight(folder) == 20
    with store.latest() as folder:
        assert weight(folder) == 40


def test_of_equal_scores_the_latest_is_best_and_one_without_a_score_the_worst(store):
    filled(store, step10=0.4, step20=0.4, step30=float("nan"))
    assert (store.best().step, store.last().step) == (20, 30)


def test_all_stay_where_they_are_asked_for(tmp_path):
    store = filled(CheckpointStore(str(tmp_path), keep_all=True), step10=0.1, step20=0.4, step30=0.3)
    assert [kept.step for kept in store.all()] == [10, 20, 30]


def test_what_a_preemption_left_is_the_last_and_never_the_best(store):
    filled(store, step5=None)
    assert store.best() is None and store.last().step == 5
    filled(store, step10=0.4, step20=0.1, step25=None)
    assert [kept.step for kept in store.all()] == [10, 20, 25], "the last of a validation stays to fall back to"
    assert store.best().step == 10
    with store.latest() as folder:
        assert weight(folder) == 25
    filled(store, step30=0.2)
    assert [kept.step for kept in store.all()] == [10, 30]


def test_what_a_preemption_left_goes_even_where_all_stay(tmp_path):
    store = filled(CheckpointStore(str(tmp_path), keep_all=True), step10=0.1, step15=None, step18=None)
    assert [kept.step for kept in store.all()] == [10, 18]
    filled(store, step20=0.4)
    assert [kept.step for kept in store.all()] == [10, 20]


def test_a_run_that_kept_nothing_yet_has_none(store):
    assert store.all() == [] and store.best() is None and store.last() is None
    with store.latest() as folder:
        assert folder is None


def test_the_one_before_a_damaged_one_is_used_and_the_damaged_file_is_named(tmp_path, caplog):
    store = filled(CheckpointStore(str(tmp_path)), step10=0.4, step20=0.1)
    weights = Path(store.last().path) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with store.latest() as folder:
        assert folder == Path(store.path(10))
    assert str(weights) in caplog.text and "altered" in caplog.text


def test_a_manifest_that_is_cut_short_is_named_and_left_out(store, caplog):
    filled(store, step10=0.4, step20=0.1)
    with store.system.open_output_stream(f"{store.path(20)}/{MANIFEST}") as file:
        file.write(b'{"step": 2')
    assert [kept.step for kept in store.all()] == [10]
    assert f"{store.path(20)}/{MANIFEST}" in caplog.text


def test_a_write_that_fails_leaves_what_was_there_and_the_next_one_clears_its_remains(store):
    filled(store, step10=0.4)

    def full(folder: Path) -> None:
        beside = folder.with_name(f".{folder.name}.1")
        beside.mkdir(parents=True)
        (beside / "weights.safetensors").write_text("half of")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.add(20, full)
    assert [kept.step for kept in store.all()] == [10]
    filled(store, step30=0.1)
    found = store.system.get_file_info(fs.FileSelector(store.folder))
    assert sorted(info.base_name for info in found) == ["step-000000010", "step-000000030"]


def test_an_upload_that_was_cut_off_is_no_checkpoint(store):
    filled(store, step10=0.4)
    store.system.create_dir(store.path(20))
    with store.system.open_output_stream(f"{store.path(20)}/weights.safetensors") as file:
        file.write(b"weights")
    assert store.last().step == 10
    filled(store, step20=0.5)
    assert [kept.step for kept in store.all()] == [20], "the step's own remains are replaced"


def test_a_step_that_is_taken_again_replaces_its_checkpoint(store):
    filled(store, step10=0.4)
    filled(store, step10=0.5)
    assert [kept.metrics["score"] for kept in store.all()] == [0.5]
