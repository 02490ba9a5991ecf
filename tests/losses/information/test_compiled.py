"""The C loops are compiled once, by whoever comes first, and nobody needs them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from miseg.losses import RegionMutualInformationLoss
from miseg.losses.information import compiled

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler on this machine")

LOSS = """
import torch
from miseg.losses import RegionMutualInformationLoss
from miseg.losses.information import compiled
torch.manual_seed(0)
loss = RegionMutualInformationLoss(3)(torch.randn(1, 3, 24, 24), torch.randint(0, 3, (1, 24, 24)))
print(compiled.available(), loss.item())
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch, tmp_path):
    """Nothing is compiled yet, as on a new machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MISEG_COMPILER", raising=False)
    compiled._library.cache_clear()
    yield
    compiled._library.cache_clear()


def loss_here() -> float:
    torch.manual_seed(0)
    return RegionMutualInformationLoss(3)(torch.randn(1, 3, 24, 24), torch.randint(0, 3, (1, 24, 24))).item()


@pytest.mark.slow
def test_processes_that_start_together_leave_one_library_and_no_parts_of_one(tmp_path: Path) -> None:
    others = [subprocess.Popen([sys.executable, "-c", LOSS], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = {other.communicate(timeout=120)[0] for other in others}
    assert len(told) == 1 and told.pop().startswith("True")
    (library,) = (tmp_path / "cache" / "miseg").iterdir()
    assert library.suffix == ".so"


def test_a_library_that_is_there_is_not_compiled_again(tmp_path: Path, monkeypatch) -> None:
    assert compiled.available()
    (library,) = (tmp_path / "cache" / "miseg").iterdir()
    written = library.stat().st_mtime_ns
    compiled._library.cache_clear()
    monkeypatch.setattr(compiled, "_compile", lambda *_: pytest.fail("compiled again"))
    assert compiled.available() and library.stat().st_mtime_ns == written


def test_nothing_named_means_nothing_compiled(monkeypatch) -> None:
    expected = loss_here()
    monkeypatch.setenv("MISEG_COMPILER", "")
    assert not compiled.available()
    assert loss_here() == pytest.approx(expected, rel=1e-6)


def test_no_compiler_on_the_machine_is_no_error(monkeypatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not compiled.available()
    assert loss_here() < 0 or loss_here() > 0


@pytest.mark.parametrize("broken", ["fails", "is not there", "makes nothing of use"])
def test_a_compiler_that_does_not_work_is_told_once_and_left(broken: str, tmp_path: Path, monkeypatch) -> None:
    expected = loss_here()
    compiler = tmp_path / "mycc"
    if broken != "is not there":
        script = (
            "echo no such header >&2; exit 1"
            if broken == "fails"
            else 'for last; do :; done; case "$last" in /*) echo x > "$last"; esac'
        )
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(compiler.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("MISEG_COMPILER", str(compiler))
    with pytest.warns(UserWarning, match=f"(?s)could not be compiled with {compiler} .*MISEG_COMPILER") as told:
        assert loss_here() == pytest.approx(expected, rel=1e-6)
        loss_here()
    assert len(told) == 1
    assert broken != "fails" or "no such header" in str(told[0].message)


def test_a_home_that_nobody_can_write_to_is_no_obstacle(tmp_path: Path, monkeypatch) -> None:
    # A file where the folder would be: permissions do not stop root, as which tests may run.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert compiled.available()
    assert [path.suffix for path in tmp_path.glob("miseg-*/*")] == [".so"]


def test_the_library_is_of_this_processor_and_these_sources(monkeypatch) -> None:
    here = compiled._built(["cc"])
    monkeypatch.setattr(compiled, "_processor", lambda: "another")
    assert compiled._built(["cc"]).name != here.name
    assert os.path.exists(here)
