"""Files and folders that take another's place are whole at every moment, whatever ends the writing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import fs

from miseg.data.storage import write_whole
from miseg.files import LinkError, folder_beside, open_plain, owned_folder_beside, replace_folder, replacing
from miseg.locks import LockRefusedError, locked


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_a_file_takes_the_place_of_another_when_the_block_ends(tmp_path: Path, durable: bool, several: bool) -> None:
    path = tmp_path / "a.json"
    for content in ("first", "second"):
        before = path.read_text() if path.exists() else None
        with replacing(path, durable=durable, several=several) as unfinished:
            unfinished.write_text(content)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == content and names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_file_before_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    with pytest.raises(error), replacing(path) as unfinished:
        unfinished.write_text("half")
        raise error
    assert path.read_text() == "before" and names(tmp_path) == ["a.json"]


def test_a_durable_file_is_on_the_disk_before_its_name_is_and_its_folder_after(tmp_path: Path, monkeypatch) -> None:
    path, synced = tmp_path / "a.json", []

    def sync(descriptor: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, path.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    with replacing(path, durable=True) as unfinished:
        unfinished.write_text("whole")
    assert synced == [(unfinished.name, False), (tmp_path.name, True)]


@pytest.mark.faults
def test_a_killed_writer_leaves_the_file_before_and_the_next_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    code = (
        "import os\nimport sys\nfrom pathlib import Path\nfrom miseg.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as unfinished:\n"
        "    unfinished.write_text('half')\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    assert path.read_text() == "before" and len(names(tmp_path)) == 2
    with replacing(path) as unfinished:
        unfinished.write_text("after")
    assert path.read_text() == "after" and names(tmp_path) == ["a.json"]


def test_several_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def write(number: int) -> None:
        with replacing(path, several=True) as unfinished:
            unfinished.write_text(str(number) * 10_000)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, [*range(10)] * 10))
    content = path.read_text()
    assert len(content) == 10_000 and len(set(content)) == 1 and names(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "target"
    for content in ("first", "second"):
        with folder_beside(target) as folder:
            (folder / content).touch()
            replace_folder(folder, target)
        assert names(target) == [content] and names(target.parent) == ["target"]
    with pytest.raises(ValueError), folder_beside(target) as folder:
        (folder / "half").touch()
        raise ValueError
    assert names(target) == ["second"] and names(target.parent) == ["target"]
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nowhere", target)
    assert names(target) == ["second"] and names(target.parent) == ["target"]


@pytest.mark.parametrize("kind", ["local", "another"])
def test_a_file_of_any_storage_is_written_whole(tmp_path: Path, kind: str) -> None:
    system: fs.FileSystem = fs.LocalFileSystem()
    path = str(tmp_path / "a.json")
    if kind == "another":
        system, path = fs.SubTreeFileSystem(str(tmp_path), system), "folder/a.json"
        (tmp_path / "folder").mkdir()
    for content in (b"first", b"second"):
        write_whole(system, path, content)
        with system.open_input_stream(path) as file:
            assert file.read() == content
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["a.json"]


# Locks


def nfs(file, operation: int) -> None:
    """As NFS has it: an exclusive lock needs a file that is open for writing."""
    descriptor = file if isinstance(file, int) else file.fileno()
    if operation & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _flock(file, operation)


def refusing(number: int) -> Callable[[object, int], None]:
    def flock(file, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


_flock = fcntl.flock


def test_a_lock_is_one_process_alone_also_where_locks_need_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", nfs)
    with (
        locked(tmp_path / "lock"),
        pytest.raises(BlockingIOError, match="held by another"),
        locked(tmp_path / "lock", patience=0.1),
    ):
        pass
    with locked(tmp_path / "lock", patience=0):
        pass


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    message = f"lock cannot be locked .{os.strerror(number)}"
    with pytest.raises(LockRefusedError, match=message), locked(tmp_path / "lock", patience=0):
        pass


def test_a_lock_that_smb_says_another_has_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.EACCES))
    with pytest.raises(BlockingIOError), locked(tmp_path / "lock", patience=0.1):
        pass
    monkeypatch.setattr(fcntl, "flock", _flock)
    with locked(tmp_path / "lock", patience=0):
        pass


def test_a_durable_folder_and_file_are_on_the_disk_before_their_names(tmp_path, monkeypatch):
    """What a loss of power may not part: content, name, folder, in this order."""
    done: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(tmp_path / "file", durable=True) as new:
        new.write_text("whole")
    assert done == [str(tmp_path / ".file.writing"), str(tmp_path)]
    done.clear()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a").write_text("a")
    replace_folder(tmp_path / "new", tmp_path / "folder", durable=True)
    assert done == [str(tmp_path / "new" / "a"), str(tmp_path / "new"), str(tmp_path)]


def test_what_a_killed_process_of_an_earlier_version_left_is_named_and_stays(tmp_path: Path, caplog) -> None:
    """It has no lock, and so may be another machine's that is at work."""
    names = [".out.packing-x1b2", ".out.writing-0123456789ab"]
    for name in (*names, ".other.packing-x1b2", ".out.earlier-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shard").write_text("x")
        for path in (tmp_path / name / "shard", tmp_path / name):
            os.utime(path, (1, time.time() - 7200))
    with owned_folder_beside(tmp_path / "out") as own, owned_folder_beside(tmp_path / "out"):
        assert own.is_dir()
    said = [record.getMessage() for record in caplog.records]
    commands = [f"{tmp_path / name} has no lock, and was last written to 2.0 hours ago" for name in names] * 2
    assert len(said) == 4 and all(any(command in line for line in said) for command in commands), said
    assert all(f"rm -r '{tmp_path}/.out." in line for line in said)
    assert all((tmp_path / name / "shard").exists() for name in names)


@pytest.mark.parametrize("mode", ["rb", "ab", "r+b"])
def test_a_plain_file_is_opened_and_nothing_else(tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(LinkError, match="is a link or no file"):
            open_plain(tmp_path / name, mode)
    with open_plain(tmp_path / "elsewhere" / "new", "ab") as file:  # a storage's own folder may be a link
        file.write(b"x")
    with open_plain(tmp_path / "file", mode) as file:
        assert file.writable() == (mode != "rb")
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "none", "rb")
    assert (tmp_path / "file").read_text() == "x" and (tmp_path / "folder" / "new").read_text() == "x"
