"""The wheel built, and virtual environments that it is installed into."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NO_INDEX = ("error sending request", "dns error", "Could not connect", "Network connectivity is disabled")
"""What uv says where it reaches no index."""


class NoIndexError(Exception):
    """A package is neither in uv's cache nor can an index be reached."""


def build(source: Path, out: Path) -> Path:
    """The wheel of `source`, by the tools of this environment: nothing is fetched."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


def install(folder: Path, requirements: Sequence[str], constraints: Path) -> None:
    """Make a virtual environment by uv and install into it, from uv's cache alone where that is enough.

    Files are linked to the cache where it lies on the same file system, and so take neither time nor space.

    Raises:
        NoIndexError: a package is not in the cache and no index can be reached.
    """
    made = _uv("venv", "--python", sys.executable, str(folder))
    assert made.returncode == 0, made.stderr
    options = ["--python", str(folder / "bin" / "python"), "--constraint", str(constraints), *requirements]
    done = _uv("pip", "install", "--offline", *options)
    if done.returncode:
        done = _uv("pip", "install", *options)
    if done.returncode and any(reason in done.stderr for reason in NO_INDEX):
        raise NoIndexError(done.stderr)
    assert done.returncode == 0, done.stderr


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    # It would install into the environment that is active rather than the one it is given, if it were told of one.
    own = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [sys.executable, "-m", "uv", "--quiet", *arguments]
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=500)
