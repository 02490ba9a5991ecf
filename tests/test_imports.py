"""The rooms import one way only, and a description costs no torch, Ray or MLflow."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
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


def imports_in_strings(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of the imports of miseg and tests in a file's strings: scripts that a test hands to a process."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or "import " not in node.value:
            continue
        try:
            script = ast.parse(textwrap.dedent(node.value))
        except SyntaxError:
            continue
        for statement in ast.walk(script):
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(("miseg", "tests")):
                yield from ((statement.module or "", alias.name) for alias in statement.names)


def defines(module: str, name: str) -> bool:
    """Whether `module` has `name`: a module below it, or a name in its own file."""
    folder = ROOT.joinpath(*module.split("."))
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if (folder / f"{name}.py").is_file() or (folder / name).is_dir():
        return True
    return file.is_file() and name in {
        getattr(node, "name", None) or getattr(node, "asname", None) or getattr(node, "id", None)
        for node in ast.walk(ast.parse(file.read_text()))
    }


def test_a_script_in_a_string_imports_what_is_there() -> None:
    """No linter reads a string: after a move or a new name such a script fails only where a long test runs it."""
    imports = {
        (str(path.relative_to(ROOT)), module, name)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for module, name in imports_in_strings(path)
    }
    assert len(imports) > 20
    assert [entry for entry in sorted(imports) if not entry[2].startswith("_") and not defines(*entry[1:])] == []
