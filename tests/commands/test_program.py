"""The program `miseg`: its overview, and what it says where a command or a package is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from miseg.commands import program
from tests.support import ROOT

JOBS = sorted((ROOT / "jobs").glob("*.py"))
NO_JOBS = {"ui", "cluster-files"}
"""Commands of the own machine, which nobody submits to a cluster."""
PARTS = "prepare."
"""Folder of parts of a command."""

HEAVY = ("torch", "ray", "mlflow", "optuna", "numpy", "pyarrow", "pandas", "tyro")


def test_every_module_of_the_commands_is_a_command_with_a_summary_and_most_are_jobs() -> None:
    folder = Path(program.__file__).parent
    modules = {".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.rglob("*.py")}
    modules = {name for name in modules if not name.endswith("__init__") and name != "program"}
    modules = {name for name in modules if not name.startswith(PARTS)}
    assert set(program.COMMANDS.values()) == modules
    assert {job.stem.replace("_", "-") for job in JOBS} == set(program.COMMANDS) - NO_JOBS
    for name in program.COMMANDS:
        assert re.fullmatch(r"[A-Z].{10,90}\.", program.summary(name)), name


def test_the_overview_has_a_line_for_each_command_and_imports_nothing() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']; from miseg.commands.program import main; main()\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    *lines, imported = done.stdout.splitlines()
    assert (done.returncode, done.stderr, imported) == (0, "", "[]")
    for name in program.COMMANDS:
        assert sum(line.split()[:1] == [name] for line in lines) == 1
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tune_rmi", "there is no command 'tune_rmi'; did you mean tune-rmi"),
        ("trian", "there is no command 'trian'; did you mean train"),
        ("zzz", "there is no command 'zzz'; miseg --help lists them"),
    ],
)
def test_an_unknown_command_is_told_with_the_closest(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["miseg", name])
    with pytest.raises(SystemExit) as ended:
        program.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(f"error: {meant}") and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ModuleNotFoundError("No module named 'ray.tune'", name="ray.tune"),
            "miseg train needs ray: install it with pip",
        ),
        (ModuleNotFoundError("training needs the extra 'service'"), "training needs the extra 'service'"),
    ],
)
def test_a_missing_package_is_told_with_how_to_get_it(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(name: str) -> None:
        raise error

    monkeypatch.setattr(program.importlib, "import_module", fails)
    monkeypatch.setattr(sys, "argv", ["miseg", "train"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(f"error: {told}") and len(said.splitlines()) == 1


def test_a_module_of_miseg_that_is_missing_is_a_bug_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(program.COMMANDS, "train", "moved")
    monkeypatch.setattr(sys, "argv", ["miseg", "train"])
    with pytest.raises(ModuleNotFoundError):
        program.main()


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        (["-m", "miseg", "sync"], "usage: miseg sync "),
        ([str(JOBS[0].with_name("sync.py"))], "usage: jobs/sync.py "),
    ],
)
def test_the_usage_line_shows_how_it_was_called(command: list[str], usage: str) -> None:
    done = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith(usage), done.stdout + done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m miseg --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("usage: miseg") and done.stderr == ""


def test_messages_name_commands_that_there_are() -> None:
    package = Path(program.__file__).parents[1]
    named = set()
    for path in package.rglob("*.py"):
        text = path.read_text()
        if path.parent != package / "commands":  # which says that scripts of jobs/ are commands too
            assert "make ui" not in text and not re.search(r"python jobs/", text), path
        named |= set(re.findall(r"`miseg ([a-z]+(?:-[a-z]+)*)", text))
    assert {"prepare-data", "sync", "ui"} <= named <= set(program.COMMANDS)
