"""The C loops are compiled once, by whoever comes first, and nobody needs them."""

from __future__ import annotations

import hashlib
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


@pytest.fixture
def quick(monkeypatch, tmp_path) -> None:
    """A source that compiles at once, in the place of the losses'."""
    source = tmp_path / "tiny.c"
    source.write_text("int tiny(void) { return 7; }")
    monkeypatch.setattr(compiled, "SOURCES", (source,))
    monkeypatch.setattr(compiled, "NATIVE", ((),))


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
    with pytest.warns(UserWarning, match=f"could not be compiled with {compiler} .*MISEG_COMPILER") as told:
        assert loss_here() == pytest.approx(expected, rel=1e-6)
        loss_here()
    assert len(told) == 1
    assert broken != "fails" or "no such header" in str(told[0].message)


def test_a_home_that_nobody_can_write_to_is_no_obstacle(quick, tmp_path: Path, monkeypatch) -> None:
    # A file where the folder would be: permissions do not stop root, as which tests may run.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert compiled.available()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "tiny.c"}, (
        "what this process alone has is not left behind"
    )


def library_in(tmp_path: Path) -> Path:
    (library,) = (tmp_path / "cache" / "miseg").iterdir()
    return library


def test_the_library_is_of_this_processor_and_these_sources(quick, tmp_path: Path, monkeypatch) -> None:
    compiled._loaded(["cc"])
    here = library_in(tmp_path)
    monkeypatch.setattr(compiled, "_processor", lambda: "another")
    compiled._loaded(["cc"])
    assert len(list(here.parent.iterdir())) == 2 and here.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "one bit", "without its checksum", "another's code"])
def test_a_library_that_is_not_as_it_was_compiled_is_compiled_anew(quick, damage: str, tmp_path: Path) -> None:
    assert compiled.available()
    library = library_in(tmp_path)
    whole = library.read_bytes()
    parts = {"cut": whole[: len(whole) // 2], "empty": b"", "without its checksum": whole[: -compiled._TAIL]}
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    library.write_bytes(parts.get(damage, bytes(flipped) if damage == "one bit" else b"x" * len(whole)))
    assert not compiled._is_whole(library)
    compiled._library.cache_clear()
    assert compiled.available() and compiled._library(None).tiny() == 7
    assert compiled._is_whole(library) and library.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_library_that_was_cut_short_ends_no_training(tmp_path: Path) -> None:
    """In a process of its own, which such a library would end."""
    expected = loss_here()
    library = library_in(tmp_path)
    library.write_bytes(library.read_bytes()[:4096])
    again = subprocess.run([sys.executable, "-c", LOSS], capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    available, value = again.stdout.split()
    assert available == "True" and float(value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("whose", ["a link", "another user's", "written by anybody"])
def test_a_folder_or_file_that_somebody_else_may_write_is_not_trusted(
    quick, whose: str, tmp_path: Path, monkeypatch
) -> None:
    assert compiled.available()
    library = library_in(tmp_path)
    evil = b"not ours"
    sealed = evil + compiled._MARK + hashlib.sha256(evil).digest()
    library.write_bytes(sealed)
    assert compiled._is_whole(library), "its checksum is right, and nothing else is wrong"
    if whose == "a link":
        library.rename(tmp_path / "elsewhere")
        library.symlink_to(tmp_path / "elsewhere")
    elif whose == "written by anybody":
        library.chmod(0o666)
    else:
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    compiled._library.cache_clear()
    assert compiled.available(), "it would not have loaded"
    if whose == "another user's":
        assert library.read_bytes() == sealed, "nothing is written to a folder of another"
    else:
        assert library.is_file() and not library.is_symlink() and library.read_bytes() != sealed


def test_a_folder_of_ones_own_is_closed_to_others(quick, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "miseg"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert compiled.available() and folder.stat().st_mode & 0o777 == 0o700


def test_no_home_is_no_obstacle(quick, monkeypatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert compiled.available()


@pytest.mark.parametrize("variable", ["MISEG_COMPILER", "CC"])
def test_an_open_quote_is_told_in_one_line(variable: str, monkeypatch) -> None:
    monkeypatch.setenv("MISEG_COMPILER", "")
    expected = loss_here()
    monkeypatch.delenv("MISEG_COMPILER")
    monkeypatch.setenv(variable, "cc 'of mine")
    with pytest.warns(UserWarning, match="could not be compiled with cc 'of mine .No closing quotation") as told:
        assert loss_here() == pytest.approx(expected, rel=1e-6)
    assert len(told) == 1 and "\n" not in str(told[0].message)
