"""Of several writers of one run the latest goes on, on a disk and in an object store; the others stop."""

from __future__ import annotations

import contextlib
import itertools
import threading
from pathlib import Path

import pytest
from pyarrow import fs

from miseg.service.checkpoints import checkpoint_store, fencing
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.fencing import FOLDER, FencedError, Generation, Writer
from tests.support.checkpoints import filled, weight, writer


@pytest.fixture(params=["a disk", "an object store"])
def folder(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "a disk":
        return str(tmp_path / "run")
    system, _ = fs.FileSystem.from_uri("mock:///")  # each has files of its own
    for module in (fencing, checkpoint_store):
        monkeypatch.setattr(module, "file_system", lambda uri: (system, uri.removeprefix("mock:///")))
    return "mock:///run"


def test_a_later_worker_stops_the_earlier_and_not_the_driver(folder):
    driver = fencing.drive(folder)
    first = fencing.work(folder, driver.generation)
    first.check()
    second = fencing.work(folder, driver.generation)
    with pytest.raises(FencedError, match="was taken up again by process"):
        first.check()
    second.check()
    driver.check()


def test_a_later_driver_stops_all_of_the_earlier_and_its_workers_stay_stopped(folder):
    early = fencing.drive(folder)
    worker = fencing.work(folder, early.generation)
    late = fencing.drive(folder)
    for stopped in (early, worker):
        with pytest.raises(FencedError):
            stopped.check()
    with pytest.raises(FencedError):
        fencing.work(folder, early.generation)
    with pytest.raises(FencedError):
        early.again()
    following = fencing.work(folder, late.generation)
    again = late.again()
    with pytest.raises(FencedError):
        following.check()
    again.check()


def test_attempts_go_on_where_the_folder_was_removed(folder):
    assert fencing.drive(folder, known=7).generation.attempt == 8
    assert fencing.drive(folder, known=3).generation.attempt == 9


def test_the_order_is_one_whoever_looks():
    """Of any two writers exactly one stops, but for a driver and its own workers."""
    drivers = [Generation(attempt, driver) for attempt in (1, 2) for driver in ("0a", "f0")]
    workers = [driver._replace(worker=n, token=t) for driver in drivers for n in (1, 2) for t in ("1b", "c3")]
    for one, other in itertools.permutations(drivers + workers, 2):
        if one[:2] == other[:2] and 0 in (one.worker, other.worker):
            assert not one.supersedes(other) or other.worker > 0
        else:
            assert one.supersedes(other) != other.supersedes(one)


@pytest.mark.parametrize("kind", ["drive", "work"])
def test_of_many_at_one_moment_one_is_left(tmp_path, kind):
    folder = str(tmp_path / "run")
    driver, taken, start = fencing.drive(folder), [], threading.Barrier(8)

    def take() -> None:
        start.wait()
        with contextlib.suppress(FencedError):
            taken.append(fencing.drive(folder) if kind == "drive" else fencing.work(folder, driver.generation))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def goes_on(one: Writer) -> bool:
        try:
            one.check()
        except FencedError:
            return False
        return True

    assert len([one for one in taken if goes_on(one)]) == 1
    left = list((tmp_path / "run" / FOLDER).iterdir())
    assert len(left) == (1 if kind == "drive" else 2), "files of superseded writers stay for ever"


def test_writers_that_saw_none_of_each_other_leave_one_file(tmp_path, monkeypatch):
    """All had looked before the first had its name: three in rising order, and one that is fenced at once."""
    folder, names = str(tmp_path / "run"), fencing._names
    tokens, blind = iter(["00000001", "00000002", "00000003", "00000000"]), iter([True, False, False] * 4)
    monkeypatch.setattr(fencing.secrets, "token_hex", lambda _: next(tokens))
    monkeypatch.setattr(fencing, "_names", lambda *where: [] if next(blind) else names(*where))
    for _ in range(3):
        fencing.drive(folder)
    with pytest.raises(FencedError):
        fencing.drive(folder)
    assert [path.name for path in (tmp_path / "run" / FOLDER).iterdir()] == ["000001-00000003-000000-.json"]


def test_files_of_other_names_are_nobody(tmp_path):
    own = fencing.drive(str(tmp_path))
    for name in ("999999-zz-000000-.json", "999999-deadbeef-000000-", ".999999-deadbeef-000000-.json.writing"):
        (tmp_path / FOLDER / name).write_text("")
    own.check()
    (tmp_path / FOLDER / "000002-deadbeef-000000-.json").write_text("[" * 100_000)
    with pytest.raises(FencedError, match="taken up again by another process"):
        own.check()


def test_a_superseded_writer_adds_and_removes_no_checkpoint(folder):
    driver = fencing.drive(folder)
    early = CheckpointStore(folder, writer=fencing.work(folder, driver.generation))
    filled(early, step10=0.9)
    late = CheckpointStore(folder, writer=fencing.work(folder, driver.generation))
    filled(late, step20=0.1)
    with pytest.raises(FencedError):
        filled(early, step30=0.95)
    assert [saved.step for saved in late.all()] == [10, 20]


@pytest.mark.parametrize("fails", [False, True], ids=["written", "its folder removed"])
def test_one_that_is_superseded_while_it_writes_changes_nothing(folder, fails):
    """As one that stood still amid a checkpoint: the other writes the same step, and its sweep removes what is half."""
    driver = fencing.drive(folder)
    early = CheckpointStore(folder, writer=fencing.work(folder, driver.generation))

    def write(path: Path) -> None:
        late = CheckpointStore(folder, writer=fencing.work(folder, driver.generation))
        filled(late, step10=0.5, step20=0.4)
        if fails:
            raise FileNotFoundError(path)
        writer(10, 0.0)(path)

    with pytest.raises(FencedError):
        early.add(10, write)
    assert [(saved.step, saved.metrics["score"]) for saved in early.all()] == [(10, 0.5), (20, 0.4)]
    with early.latest() as latest:
        assert weight(latest) == 20


def test_storage_that_does_not_answer_is_no_later_writer(tmp_path):
    own = fencing.drive(str(tmp_path / "run"))
    (tmp_path / "run" / FOLDER).rename(tmp_path / "away")
    (tmp_path / "run" / FOLDER).write_text("no folder")
    with pytest.raises(OSError):
        own.check(patience=0)
