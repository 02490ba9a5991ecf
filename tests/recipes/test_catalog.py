"""The recipes of other packages: those that are none are left out, with a line each, and miseg's own stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

RECIPES = """
from miseg.recipes.streets import embedded_ce
def raises(seed=0): raise RuntimeError("boom")
def none(seed=0): return None
def exits(seed=0): raise SystemExit(3)
def without_seed(): return embedded_ce()
number = 3
def ok(seed=0): return embedded_ce(seed)
"""

NAMES = ("raises", "none", "exits", "without_seed", "number", "missing", "ok")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with an installed package of these recipes, for PYTHONPATH."""
    about = tmp_path / "odd-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 0.1\n")
    entries = "\n".join(f"odd-{name} = odd:{name}" for name in NAMES)
    (about / "entry_points.txt").write_text(f"[miseg.recipes]\n{entries}\n")
    (tmp_path / "odd.py").write_text(RECIPES)
    return tmp_path


def test_what_is_no_recipe_is_left_out_and_the_rest_is_a_command(package: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "miseg", "train", "--help"],
        env=os.environ | {"PYTHONPATH": f"{package}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if line.startswith("left out: miseg.recipes:")]
    assert [line.split("'")[1] for line in warned] == sorted(f"odd-{name}" for name in NAMES if name != "ok")
    assert "RuntimeError: boom" in done.stderr and "it returned NoneType for seed=0, no Experiment" in done.stderr
    assert "odd-ok" in done.stdout and "embedded-rmi" in done.stdout
