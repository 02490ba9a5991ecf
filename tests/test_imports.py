"""The rooms import one way only, and a description costs no torch, Ray or MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.mark.slow
def test_the_import_contracts_hold(tmp_path: Path) -> None:
    """The contracts of pyproject.toml, by import-linter: what `lint-imports` runs."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout and "Imports run one way KEPT" in done.stdout


@pytest.mark.slow
def test_a_broken_contract_is_found(tmp_path: Path) -> None:
    """Else the test above would pass with contracts that look at nothing."""
    package = tmp_path / "miseg"
    for source in (ROOT / "miseg").rglob("*.py"):
        copied = package / source.relative_to(ROOT / "miseg")
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(source.read_bytes())
    with (package / "data" / "sources" / "catalog.py").open("a") as file:
        file.write("\nimport miseg.methods.configs\nimport mlflow\n")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Imports run one way BROKEN" in done.stdout
    assert "Only the service knows Ray, MLflow and Optuna BROKEN" in done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "miseg",
        "miseg.recipes.streets",
        "miseg.recipes.spaces",
        "miseg.recipes.study",
        "miseg.service.command.options",
        "miseg.data.configs",
    ],
)
def test_a_description_imports_neither_torch_nor_ray_nor_mlflow(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'ray', 'mlflow', 'optuna', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
