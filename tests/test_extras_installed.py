"""Each extra in a virtual environment of its own, from the wheel: its part works, and nothing else has come along."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.wheels import NoIndexError, build, install
from tests.test_extras import EXTRAS, PROJECT, modules

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

CORE = "core"
"""Stands for no extra."""

BROUGHT: dict[str, set[str]] = {
    "geo": {"packaging"},
    "cldice": {"PIL", "packaging", "scipy"},
    "networks": {"PIL", "packaging", "yaml"},
    "weights": {"PIL", "packaging", "yaml"},
    "service": {"jsonschema", "starlette", "uvicorn"},
    "label": {"jsonschema", "uvicorn"},
}
"""Modules that an extra does not declare and another does: what it declares needs them itself."""

BY_TORCH = {"jinja2"}

WITHOUT = {
    "information": "from miseg.information import estimate; estimate('ksg', [[0.0]], [[0.0]])",
    "networks": "import miseg.networks.deeplab",
    "data": "import miseg.data.packed.dataset",
    "geo": "import miseg.data.labels.annotations",
    "service": "import miseg.service.tuning.tune",
    "label": "import miseg.service.labelling.serve",
    "cldice": "from miseg.evaluation import CenterlineDice; CenterlineDice((1,))",
    "crf": "from miseg.evaluation.crf import dense_crf\n"
    "import numpy\ndense_crf(numpy.zeros((2, 2, 3), 'uint8'), numpy.full((2, 2, 2), 0.5))",
}
"""What asks for the part of an extra."""

PARTS = {
    "geo": {"data"},
    "networks": {"information", "serving"},
    "weights": {"information", "networks", "serving"},
    "service": {"information", "networks", "data", "geo", "serving"},
    "label": {"information", "networks", "data", "geo", "serving", "service"},
}
"""Extras that one brings with it, or whose packages it has anyway."""

USES = [
    pytest.param(
        path.stem,
        marks=[
            *([pytest.mark.ray] if path.stem == "service" else []),
            *([pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")] if path.stem == "crf" else []),
        ],
    )
    for path in sorted((ROOT / "tests" / "support" / "uses").glob("*.py"))
]


class Environment:
    """A virtual environment and an empty folder to stand in."""

    def __init__(self, folder: Path, extra: str) -> None:
        self.folder, self.extra = folder / "venv", extra
        self.empty = folder / "empty"
        self.empty.mkdir()
        self._storage = folder / "storage"

    def run(self, *command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one of its programs; nothing is written where one stands."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MISEG_", "PYTHON", "COV_"))}
        own |= {"MISEG_STORAGE": str(self._storage), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        program = self.folder / "bin" / command[0]
        done = subprocess.run(
            [program, *command[1:]], cwd=self.empty, env=own, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert not list(self.empty.iterdir())
        return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(params=USES)
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Iterator[Environment]:
    """The wheel with one extra and the pinned versions, gone after the test."""
    if find_spec("uv") is None:
        pytest.skip("uv is not installed here, and pip would take minutes for each environment")
    found = Environment(tmp_path, request.param)
    asked = "" if found.extra == CORE else f"[{found.extra}]"
    try:
        install(found.folder, [f"miseg{asked} @ {wheel.as_uri()}"], ROOT / "constraints.txt")
        yield found
    except NoIndexError as error:
        pytest.skip(f"no index of packages can be reached: {str(error).splitlines()[-1]}")
    finally:
        shutil.rmtree(found.folder, ignore_errors=True)


def test_an_extra_brings_its_part_and_nothing_more(environment: Environment) -> None:
    extra = environment.extra
    declared = modules(PROJECT["dependencies"]) | (set() if extra == CORE else modules(EXTRAS[extra]))
    known = modules(PROJECT["dependencies"]).union(*map(modules, EXTRAS.values()))
    code = f"from importlib.util import find_spec\nprint([name for name in {sorted(known)} if find_spec(name)])"
    there = set(ast.literal_eval(environment.run("python", "-c", code).stdout))
    assert there == declared | BROUGHT.get(extra, set()) | BY_TORCH

    use = ROOT / "tests" / "support" / "uses" / f"{extra}.py"
    # -P: what lies beside the script has names of other modules.
    environment.run("python", "-P", str(use), str(ROOT / "tests" / "fixtures" / "logged_models"))

    for other in WITHOUT.keys() - {extra} - PARTS.get(extra, set()):
        message = environment.run("python", "-c", WITHOUT[other], status=1).stderr.splitlines()[-1]
        assert message.startswith("miseg.extras.MissingExtraError: "), message
        assert f"needs the extra '{other}': pip install 'miseg[{other}]'" in message
    if extra not in ("service", "label"):
        lines = environment.run("miseg", "train", "embedded-rmi", status=2).stderr.splitlines()
        assert len(lines) == 1 and lines[0].endswith("pip install 'miseg[service]'"), lines
