"""The code that a run names is the code that ran, by git repositories of every kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import miseg
from miseg.service.tracking.provenance import code_of, commit

VERSION = f"miseg {miseg.__version__}"


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder`; what it printed."""
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path, project: str) -> str:
    """A repository with a pyproject.toml of that project and a package `miseg`; its commit."""
    (folder / "miseg").mkdir(parents=True)
    (folder / "miseg" / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISEG_COMMIT", raising=False)


def runs_from(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have miseg be the package at that place."""
    monkeypatch.setattr(miseg, "__file__", str(package / "__init__.py"))


def test_a_checkout_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = repository(tmp_path, "miseg")
    runs_from(tmp_path / "miseg", monkeypatch)
    assert commit() == (head, "false")


@pytest.mark.parametrize("name", ["miseg/__init__.py", "miseg/new.py"])
def test_changes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    head = repository(tmp_path, "miseg")
    (tmp_path / name).write_text("CHANGED = True\n")
    runs_from(tmp_path / "miseg", monkeypatch)
    assert commit() == (head, "true")


def test_a_worktree_is_its_own_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = repository(tmp_path / "main", "miseg")
    git(tmp_path / "main", "worktree", "add", "--quiet", "-b", "other", "../other")
    git(tmp_path / "other", "commit", "--quiet", "--allow-empty", "--message", "second")
    runs_from(tmp_path / "other" / "miseg", monkeypatch)
    assert commit() == (git(tmp_path / "other", "rev-parse", "HEAD"), "false")
    assert commit()[0] != first


@pytest.mark.parametrize("project", ["another", "miseg"])
def test_a_wheel_below_a_repository_is_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    """A virtual environment lies in another project's repository, or in a checkout of miseg of another commit."""
    repository(tmp_path, project)
    package = tmp_path / ".venv" / "lib" / "site-packages" / "miseg"
    package.mkdir(parents=True)
    runs_from(package, monkeypatch)
    assert commit() == (VERSION, "unknown")


def test_a_copy_in_another_repository_is_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, "another")
    runs_from(tmp_path / "miseg", monkeypatch)
    assert commit() == (VERSION, "unknown")


def test_no_repository_is_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs_from(tmp_path / "miseg", monkeypatch)
    (tmp_path / "miseg").mkdir()
    assert commit() == (VERSION, "unknown")


def test_without_git_it_is_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, "miseg")
    runs_from(tmp_path / "miseg", monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == (VERSION, "unknown")


def test_a_repository_without_a_commit_is_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, "miseg")
    git(tmp_path, "update-ref", "-d", "HEAD")
    runs_from(tmp_path / "miseg", monkeypatch)
    assert commit() == (VERSION, "unknown")


def test_what_is_given_wins_over_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, "miseg")
    runs_from(tmp_path / "miseg", monkeypatch)
    monkeypatch.setenv("MISEG_COMMIT", "abc123")
    assert commit() == ("abc123", "unknown")


def test_a_hook_of_another_repository_misleads_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = repository(tmp_path / "own", "miseg")
    repository(tmp_path / "other", "miseg")
    git(tmp_path / "other", "commit", "--quiet", "--allow-empty", "--message", "second")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    runs_from(tmp_path / "own" / "miseg", monkeypatch)
    assert commit() == (head, "false")


def test_a_real_copy_in_another_projects_environment_names_itself(tmp_path: Path) -> None:
    """The whole way, in a process that imports the package from there."""
    repository(tmp_path, "another")
    site = tmp_path / ".venv" / "site-packages"
    site.mkdir(parents=True)
    source = Path(miseg.__file__).parent
    for path in source.rglob("*.py"):
        target = site / "miseg" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    code = "from miseg.service.tracking import description; print(description.code_tags())"
    done = subprocess.run([sys.executable, "-c", code], cwd=site, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{{'mlflow.source.git.commit': '{VERSION}', 'miseg.dirty': 'unknown'}}\n", done.stderr


def test_a_run_is_told_by_its_commit_or_its_version() -> None:
    assert code_of({"mlflow.source.git.commit": "0123456789abcdef"}) == "commit 0123456789ab"
    assert code_of({"mlflow.source.git.commit": VERSION}) == VERSION
    assert code_of({}) == "commit unknown"
