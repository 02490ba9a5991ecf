"""The wheel: what travels in it, and that it runs where no repository is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from miseg import __version__
from miseg.commands import program
from miseg.commands.cluster_files import FILES
from tests.support import ROOT
from tests.support.wheels import build

pytestmark = [pytest.mark.slow]

OUTSIDE = ("dashboards/grafana", "dashboards/prometheus", *(name for name in FILES if name != "dashboards"))
"""What travels from the repository's root, under miseg/shipped in the wheel."""


def files(*folders: Path) -> set[Path]:
    """All files there, compiled Python left out."""
    found = {path for folder in folders for path in (folder.rglob("*") if folder.is_dir() else [folder])}
    return {path for path in found if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; the other packages are this environment's, without its own miseg."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    # What such a line names is searched, but its own .pth files, as that of an editable miseg, are not read.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text("\n".join(dict.fromkeys(map(sysconfig.get_path, ("purelib", "platlib")))))
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    done = subprocess.run(
        [*install, "--no-deps", "--no-index", str(wheel)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def call(environment: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a program of that environment in an empty folder; what it prints."""
    empty = tmp_path / "empty"
    empty.mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MISEG_", "PYTHON", "COV_"))}
    own |= {"MISEG_STORAGE": str(tmp_path / "storage"), "COLUMNS": "200"}

    def run(*command: str, status: int = 0) -> str:
        path = environment / "bin" / command[0]
        done = subprocess.run([path, *command[1:]], cwd=empty, env=own, capture_output=True, text=True, timeout=200)
        assert done.returncode == status, done.stdout + done.stderr
        assert not list(empty.iterdir()), "nothing is written where one stands"
        return done.stdout + done.stderr

    return run


def test_what_is_no_python_travels_too(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    own = {str(path.relative_to(ROOT)) for path in files(ROOT / "miseg")}
    outside = {f"miseg/shipped/{path.relative_to(ROOT)}" for path in files(*(ROOT / name for name in OUTSIDE))}
    assert {name for name in names if name.startswith("miseg/")} == own | outside
    assert {"miseg/py.typed", f"miseg-{__version__}.dist-info/licenses/LICENSE"} <= names
    for kind in (".c", ".j2", ".js", ".css", ".html"):
        assert any(name.endswith(kind) for name in own), kind
    for name in (
        "cluster.yaml",
        "cluster/setup.sh",
        "dashboards/grafana/study.json",
        "dashboards/prometheus/rules.yml",
    ):
        assert f"miseg/shipped/{name}" in outside


def test_it_runs_in_an_empty_folder(call: Callable[..., str], environment: Path, tmp_path: Path) -> None:
    assert call("miseg", "--version") == f"miseg {__version__}\n"
    overview = call("miseg", "--help")
    assert all(f"\n  {name} " in overview for name in program.COMMANDS)
    assert overview == call("python", "-m", "miseg", "--help")
    assert call("miseg", "train", "--help").startswith("usage: miseg train ")
    assert str(environment) in call("miseg", "monitor", "--help").replace("\n", "")
    assert "there is no command 'trian'; did you mean train" in call("miseg", "trian", status=2)
    assert "no run was recorded in" in call("miseg", "ui", status=2)

    packed = call("miseg", "prepare-data", "--data", "embedded", "--train", "3", "--val", "2", "--test", "0")
    assert f"packed data set: {tmp_path}/storage/data/embedded" in packed
    described = json.loads((tmp_path / "storage" / "data" / "embedded" / "dataset.json").read_text())
    assert "road" in json.dumps(described).lower()


def test_its_files_are_found_by_what_uses_them(call: Callable[..., str], environment: Path) -> None:
    code = """
import json
from miseg.losses.information import compiled
from miseg.service.cloud.resources import resource
from miseg.service.cloud.monitor import Monitor
from miseg.service.labelling import http
from miseg.service.reports import page
from starlette.testclient import TestClient

client = TestClient(http.application(None, http.PAGE, ["testserver"]), backend_options={})
answers = [client.get(path).status_code for path in ("/", "/page.js", "/annotate.css", "/vendor/ol/ol.js", "/nothing")]
paths = [*compiled.SOURCES, compiled.HEADER, http.PAGE / "index.html"]
paths += [page.Path(page.__file__).with_name("report.html.j2")]
paths += [resource("cluster.yaml"), resource("cluster") / "setup.sh"]
paths += [page.Path(Monitor().dashboards) / "grafana" / "run.json"]
print(json.dumps([answers, [str(path) for path in paths], [str(path) for path in paths if not path.is_file()]]))
"""
    answers, paths, missing = json.loads(call("python", "-c", code).splitlines()[-1])
    assert answers == [200, 200, 200, 200, 404]
    assert len(paths) > 5 and not missing and all(path.startswith(str(environment)) for path in paths), paths


@pytest.mark.parametrize("file", ["cluster.yaml", "cluster/gcp.yaml"])
def test_it_is_built_from_what_a_clusters_nodes_are_given(file: str, tmp_path: Path, wheel: Path) -> None:
    """Nodes install miseg from those files alone: one that is missing there would fail `ray up`."""
    given = tmp_path / "miseg-source"
    for there, here in yaml.safe_load((ROOT / file).read_text())["file_mounts"].items():
        if there.startswith("~/miseg-source/"):
            copy = shutil.copytree if (ROOT / here).is_dir() else shutil.copyfile
            (given / there.removeprefix("~/miseg-source/")).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / here, given / there.removeprefix("~/miseg-source/"))
    with zipfile.ZipFile(build(given, tmp_path / "out")) as built, zipfile.ZipFile(wheel) as whole:
        assert set(built.namelist()) == set(whole.namelist())


def test_it_writes_what_starts_a_cluster_and_that_builds_it_again(
    call: Callable[..., str], wheel: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cluster files"
    assert f"written: {out}" in call("miseg", "cluster-files", "--out", str(out))
    mounts = yaml.safe_load((out / "cluster.yaml").read_text())["file_mounts"]
    given = {here for there, here in mounts.items() if there.startswith("~/miseg-source/")}
    assert given == {f"./{name}" for name in (*FILES, "miseg")} and all((out / here).exists() for here in given)
    with zipfile.ZipFile(build(out, tmp_path / "out")) as built, zipfile.ZipFile(wheel) as first:
        assert {name: built.read(name) for name in built.namelist()} == {
            name: first.read(name) for name in first.namelist()
        }
    assert f"--out {out} is not empty" in call("miseg", "cluster-files", "--out", str(out), status=2)
