"""A package from outside adds a method, a recipe, a network, a data set and an estimator, and miseg knows them all.

It is `tests/support/outside_package`, installed as any package is, into a folder of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Run = Callable[..., str]

LOOK = """
import json, tempfile
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.registry import DATA_SETS, open_source
from miseg.information import ESTIMATORS, estimate
from miseg.methods import METHODS
from miseg.networks.registry import registered
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import CONTENDERS
from miseg.recipes.experiment import from_dict, to_dict
from miseg.recipes.study_growth import Asked, grown
from miseg.service.training import streams
from miseg.service.training.loop import Loop

experiment = RECIPES["discs-gce"](seed=3)
assert from_dict(json.loads(json.dumps(to_dict(experiment)))) == experiment
assert type(experiment.method) in METHODS and CONTENDERS["gce"].rows()[0] == "generalised CE tuned"
assert type(experiment.method.network) in registered()
(table,) = grown((), Asked(data=("discs",), methods=("gce",)), {"trials": 2, "confirm_seeds": 1})
assert [cell.recipe for cell in table.cells] == ["discs-gce"]

dataset = PackedDataset.open(pack(open_source("discs"), tempfile.mkdtemp(), DATA_SETS and ("train", "val")).path)
loop, convert = Loop(experiment, streams.task_of(dataset)), streams.Converter(dataset, experiment)
for columns in streams.training_plan(dataset, experiment)(start_step=0, stop_step=2):
    loop.train_step(convert(columns))
print("losses", [record.values["train/loss"] for record in loop.flush()])

x = [0.1 * number for number in range(50)]
print("nats", float(estimate("spearman", x, [value + (-1) ** i for i, value in enumerate(x)])), len(ESTIMATORS))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed into."""
    folder = tmp_path_factory.mktemp("outside")
    source, target = folder / "source", folder / "site-packages"
    shutil.copytree(ROOT / "tests" / "support" / "outside_package", source)
    _install(source, target)
    return target


def _install(source: Path, target: Path) -> None:
    tool = ["uv", "pip"] if importlib.util.find_spec("uv") else ["pip"]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    _done([sys.executable, "-m", *tool, "install", *options, str(source)], os.environ.copy())


def _done(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def run(installed: Path) -> Run:
    """Runs Python with these arguments in an environment that has the package."""

    def python(*arguments: str, path: Path = installed) -> str:
        return _done([sys.executable, *arguments], os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"})

    return python


def test_its_recipe_builds_from_plain_data_trains_and_is_in_a_study_and_its_estimator_estimates(run: Run) -> None:
    lines = dict(line.split(" ", 1) for line in run("-c", LOOK).splitlines() if line.startswith(("losses", "nats")))
    losses = [float(value) for value in lines["losses"].strip("[]").split(",")]
    assert len(losses) == 2 and all(0 < loss < 2 for loss in losses)
    nats, count = lines["nats"].split()
    assert 0 < float(nats) < 3 and int(count) == 18


def test_its_recipe_is_a_command_of_train_with_the_method_s_settings(run: Run) -> None:
    assert "discs-gce" in run("-m", "miseg", "train", "--help")
    options = run("-m", "miseg", "train", "discs-gce", "--help")
    assert "--method.q" in options and "--method.network.features" in options


def test_the_contract_covers_its_method(run: Run) -> None:
    text = run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/methods/test_method_contract.py",
        "-k",
        "GeneralisedCrossEntropy",
    )
    assert " passed" in text and "failed" not in text


def test_settings_of_both_kinds_cost_no_torch(run: Run) -> None:
    code = "import sys, miseg.recipes.catalog as c; print('discs-gce' in c.RECIPES, 'torch' in sys.modules)"
    assert "True False" in run("-c", code)


def test_a_broken_package_breaks_nothing_but_what_it_adds(installed: Path, run: Run, tmp_path: Path) -> None:
    """Its import fails; miseg trains on, warns of it in a line, and refuses what is asked for by its name."""
    shutil.copytree(installed, tmp_path / "site-packages")
    for path in (tmp_path / "site-packages" / "miseg_example").glob("*.py"):
        path.write_text("raise RuntimeError('written for another version')\n")

    def broken(*arguments: str) -> str:
        return run(*arguments, path=tmp_path / "site-packages")

    assert "left out" not in broken("-m", "miseg", "--help")
    text = broken("-m", "miseg", "train", "--help")
    assert "embedded-rmi" in text
    warned = [line for line in text.splitlines() if line.startswith("left out:")]
    assert len(warned) == len(set(warned)) and len(warned) >= 1
    assert "'discs-gce' of miseg-example 0.1 (miseg_example.recipes:discs_gce) cannot be loaded" in text
    assert "RuntimeError: written for another version); mend or uninstall that package" in text
    asked = "from miseg.data.sources.registry import open_source\ntry: open_source('discs')\nexcept ValueError as e: "
    assert "'discs' of miseg-example 0.1" in broken("-c", f"{asked}print(e)")
