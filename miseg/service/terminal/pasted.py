"""Commands as they can be pasted into the shell from which this process was started."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


def miseg() -> str:
    """The program `miseg` of this environment, by its name where the shell finds this one, else by its path.

    After `make tune` it lies in `.venv`, which nobody has activated.
    """
    beside = Path(sys.executable).with_name("miseg")
    return _typed(beside) if beside.exists() else f"{_typed(Path(sys.executable))} -m miseg"


def pasted(command: Sequence[str]) -> str:
    """A command whose first word is `miseg` or `python`, with that program as the shell finds it."""
    program, *words = command
    known = {"miseg": miseg, "python": lambda: _typed(Path(sys.executable), "python")}
    first = known[program]() if program in known else shlex.quote(program)
    return " ".join([first, *map(shlex.quote, words)])


def _typed(program: Path, name: str = "") -> str:
    name = name or program.name
    on_path = shutil.which(name)
    # Not where links lead to: an environment's Python is one to that of the system.
    if on_path is not None and Path(on_path).absolute() in (program.absolute(), program.with_name(name).absolute()):
        return name
    path = program.absolute()
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
