"""Provenance of a run's code: a commit of miseg's own repository, or the version of the wheel."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import miseg

COMMIT_TAG = "mlflow.source.git.commit"
"""Tag of a run: what `commit` returned. MLflow shows it beside the run's source."""

OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")
"""Git sets these for its hooks, and they would point at the repository that the hook belongs to."""


def commit() -> tuple[str, str]:
    """Identity of the code that runs, and whether the code differs from it.

    Returns:
        $MISEG_COMMIT where it is set; else the commit of the checkout that this package is in; else "miseg " and the
        version. And "true" or "false", whether the checkout has changes; "unknown" where there is no checkout.
    """
    named = os.environ.get("MISEG_COMMIT")
    package = Path(miseg.__file__).resolve().parent
    if named or not is_checkout(package):
        return named or f"miseg {miseg.__version__}", "unknown"
    head, status = _git(package, "rev-parse", "HEAD"), _git(package, "status", "--porcelain")
    if head is None:  # a repository without a commit
        return f"miseg {miseg.__version__}", "unknown"
    return head, "unknown" if status is None else str(bool(status)).lower()


def code_of(tags: Mapping[str, str]) -> str:
    """Name of the code that ran, by a run's tags, such as "commit 0123456789ab" or "miseg 0.2.0"."""
    recorded = tags.get(COMMIT_TAG, "unknown")
    return recorded if recorded.startswith("miseg ") else f"commit {recorded[:12]}"


def is_checkout(package: Path) -> bool:
    """Whether `package` is the folder `miseg` of a git checkout of miseg.

    A wheel lies below the top of another project's repository where its virtual environment is there, or below the top
    of miseg's own: that repository's commit says nothing of it.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() / "miseg" != package:
        return False
    try:
        project = tomllib.loads((Path(top) / "pyproject.toml").read_text())
    except (OSError, ValueError):
        return False
    return project.get("project", {}).get("name") == "miseg"


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
