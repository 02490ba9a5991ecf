"""Names and sources that are wrong are told of before anything slow is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SLOW = ("torch", "timm", "segmentation_models_pytorch", "ray", "mlflow")

ENCODER = "'resnet5': there is no such encoder in timm; the nearest are resnet50"
NOT_TAKEN = "'mit_b0': Linknet cannot take it"
DATA = "'nowhere' is neither a known data set"

LINES = {
    "train rmi --data embedded --network unet --encoder resnet5": ENCODER,
    "train embedded-rmi --network unet:resnet5": ENCODER,
    "tune rmi --encoder resnet5 --network unet": ENCODER,
    "tune embedded-rmi --encoder resnet5 --network unet": ENCODER,
    "tune-rmi --encoder resnet5 --network unet": ENCODER,
    "study --methods ce --networks unet:resnet5": ENCODER,
    "train rmi --network linknet --encoder mit_b0": NOT_TAKEN,
    "tune rmi --network linknet --encoder mit_b0": NOT_TAKEN,
    "study --methods ce --networks linknet:mit_b0": NOT_TAKEN,
    "train rmi --network unet --weights nowhere.pth": "'nowhere.pth': there is no such file",
    "tune rmi --network unet --weights package:no-such": "'package:no-such': there is no package no-such",
    "study --methods ce --networks unet:resnet18:nowhere.pth": "'nowhere.pth': there is no such file",
    "train rmi --data nowhere": DATA,
    "tune rmi --data nowhere": DATA,
    "tune-rmi --data nowhere": DATA,
    "tune-similarity --data nowhere": DATA,
    "tune-infoseg --data nowhere": DATA,
    "study --data nowhere": DATA,
    "evaluate --run 3f0c9d --data nowhere": DATA,
    "measure-bound --run 3f0c9d --data nowhere": DATA,
    "benchmark --data nowhere": DATA,
}
"""Command line -> what its one sentence says."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Of each command line, in one process: its status, what it printed, and what slow modules it imported."""
    program = f"""
import contextlib, io, json, sys
from miseg.commands import program
for line in {list(LINES)!r}:
    before, printed = set(sys.modules), io.StringIO()
    sys.argv = ["miseg", *line.split()]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            program.main()
    except SystemExit as end:
        status = end.code
    slow = sorted(set({SLOW!r}) & set(sys.modules) - before)
    print(json.dumps([line, status, printed.getvalue(), slow]))
"""
    folder: Path = tmp_path_factory.mktemp("wrong-names")
    arguments = [sys.executable, "-c", program]
    environment = {"MISEG_STORAGE": str(folder), "PATH": "", "HOME": str(folder)}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {line: answer for line, *answer in map(json.loads, done.stdout.splitlines())}


@pytest.mark.timeout(150)
@pytest.mark.parametrize("line", LINES)
def test_a_wrong_name_is_told_of_before_slow_imports(answers: dict[str, list], line: str) -> None:
    status, printed, slow = answers[line]
    assert printed.startswith("error: ") and LINES[line] in printed and len(printed.splitlines()) == 1
    assert status == 2 and slow == []
