"""docs/extending.md says what the code is and what its tests do, word for word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

TEXT = (ROOT / "docs" / "extending.md").read_text()
SECTION = TEXT[TEXT.index("## A method") : TEXT.index("## A network")]
BLOCKS = dict(re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```$', SECTION, re.M | re.S))
PACKAGE = ROOT / "tests" / "support" / "outside_package"


def lines(title: str) -> list[list[str]]:
    return [shlex.split(line) for line in BLOCKS[title].splitlines()]


@pytest.mark.parametrize("title", [title for title in BLOCKS if "." in title])
def test_a_file_that_is_shown_is_the_file(title: str) -> None:
    path = ROOT / title if title.startswith("miseg/") else PACKAGE / title
    whole = path.read_text()
    assert BLOCKS[title].rstrip() in whole
    assert path.name == "streets.py" or BLOCKS[title] == whole


def test_a_method_takes_one_short_file() -> None:
    assert len(BLOCKS["miseg/methods/dice.py"].splitlines()) < 40
    assert set(BLOCKS) == {
        "miseg/methods/dice.py", "miseg/recipes/streets.py", "tests", "commands",
        "pyproject.toml", "miseg_example/gce.py", "miseg_example/recipes.py",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tests_that_are_named_pass() -> None:
    for python, *arguments in lines("tests"):
        assert python == "python"
        command = [sys.executable, *arguments, "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_commands_do_what_is_said(tmp_path: Path) -> None:
    """Train, tune by the registered and by a typed space, compare in a study, and report: all know the method."""
    outputs = []
    for program, *arguments in lines("commands"):
        assert program == "miseg"
        environment = os.environ | {"MISEG_STORAGE": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", "miseg", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        outputs.append(done.stdout)
    trained, usual, typed, study, report = outputs
    assert "finished at step 20: mean IoU" in trained
    for tuned in (usual, typed):
        assert "squared" in tuned and "learning_rate" in tuned
        assert re.search(r"Dice (as published( \(= tuned\))?|tuned) ", tuned)
    assert "embedded/all/ce" in study and "embedded/all/dice" in study
    pages = [path.read_text() for path in tmp_path.rglob("reports/**/*.md")]
    assert any("Dice tuned" in page and "CE tuned" in page for page in pages), report
