"""Commands that are printed for pasting: the program is called as the shell of the user finds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from miseg.service.cluster.ray_cluster import Resources
from miseg.service.command.start import Job
from miseg.service.terminal.pasted import miseg, pasted

PROGRAM = Path(sys.executable).with_name("miseg")


@pytest.fixture
def unactivated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH on which a miseg of another environment lies, and a Python that is not this one."""
    for name in ("miseg", "python"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 3\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_program_that_is_not_on_the_path_is_called_by_its_path(
    unactivated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `make tune` the next command failed with "command not found"."""
    monkeypatch.chdir(PROGRAM.parent.parent.parent)
    assert miseg() == str(PROGRAM.relative_to(Path.cwd()))
    monkeypatch.chdir(unactivated)
    assert miseg() == str(PROGRAM)
    line = pasted(["miseg", "train", "--help"])
    assert subprocess.run(line, shell=True, capture_output=True, check=False).returncode == 0
    assert pasted(["python", "jobs/train.py", "a b"]) == f"{Path(sys.executable)} jobs/train.py 'a b'"


def test_a_program_on_the_path_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}:/usr/bin")
    assert pasted(["miseg", "ui"]) == "miseg ui" and pasted(["python", "x.py"]) == "python x.py"


def test_commands_on_a_job_s_runs_name_its_storage_where_it_is_not_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{PROGRAM.parent}:/usr/bin")
    monkeypatch.setenv("MISEG_STORAGE", str(tmp_path))

    def job(storage: str, uri: str) -> Job:
        return Job(storage, uri, Resources(1, 0, 1, 1), "data", "stamp")

    own = job(str(tmp_path), f"sqlite:///{tmp_path}/mlflow.db")
    assert (own.command("report"), own.ui_command) == ("miseg report", "miseg ui")
    offline = job(str(tmp_path), f"sqlite:///{tmp_path}/offline/mlflow.db")
    assert offline.command("report") == "miseg report --offline"
    assert offline.ui_command == f"miseg ui --storage {tmp_path}/offline"
    other = job("/a b", "sqlite:////a b/mlflow.db")
    assert other.command("report", "--study", "x") == "miseg report --study x --storage '/a b'"
    server = job("s3://bucket/runs", "http://127.0.0.1:5000")
    assert server.command("report") == "miseg report --storage s3://bucket/runs"
