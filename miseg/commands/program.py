"""The program `miseg`: finds the command that is asked for and hands it the rest of the line.

Of other packages none is imported here, and a command only once it is called: `miseg --help` is instant.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path

from miseg import __version__
from miseg.nearest_names import in_place_of

COMMANDS = {
    "prepare-data": "prepare_data",
    "train": "train",
    "tune": "tune.any_recipe",
    "tune-rmi": "tune.rmi",
    "tune-similarity": "tune.similarity",
    "tune-infoseg": "tune.infoseg",
    "study": "study",
    "report": "report",
    "evaluate": "evaluate",
    "segment": "segment",
    "annotate": "annotate",
    "measure-information": "measure.information",
    "measure-bound": "measure.bound",
    "ui": "ui",
    "monitor": "monitor",
    "sync": "sync",
    "cluster-files": "cluster_files",
    "benchmark": "benchmark",
}
"""Module of each command in `miseg.commands`, in the order of a first use; each has a `main()` that exits."""

USAGE_ERROR = 2


def main() -> None:
    """Run `miseg COMMAND …` as sys.argv says, and exit with the command's status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        try:
            print(overview(), flush=True)
        except BrokenPipeError:
            # The reader has seen enough, as `head` has; Python would else complain when it closes the pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif name == "--version":
        print(f"miseg {__version__}")
    elif name not in COMMANDS:
        print(f"error: {unknown(name)}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    else:
        # The command's usage line, and the record of what ran, are told by this.
        sys.argv = [f"miseg {name}", *arguments]
        run(name)


def run(name: str) -> None:
    """Run a command on sys.argv; where a package is missing that it needs, say how to get it."""
    try:
        importlib.import_module(f"miseg.commands.{COMMANDS[name]}").main()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "miseg":
            raise
        # An error without a name is miseg's own, and says which extra is missing.
        needs = f"miseg {name} needs {package}: install it with pip install 'miseg[service]'" if package else str(error)
        print(f"error: {needs}", file=sys.stderr)
        sys.exit(USAGE_ERROR)


def overview() -> str:
    """The program's help: a line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary(name)}" for name in COMMANDS]
    return "\n".join(
        [
            "usage: miseg [-h] [--version] COMMAND ...",
            "",
            "Image segmentation by mutual information: train, tune, compare and map on one machine or a Ray cluster.",
            "",
            "commands:",
            *lines,
            "",
            "miseg COMMAND --help shows a command's options and examples.",
        ]
    )


def summary(name: str) -> str:
    """The first line of a command's docstring, read without importing it."""
    source = Path(__file__).parent.joinpath(*COMMANDS[name].split(".")).with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_bytes())) or "").partition("\n")[0]


def unknown(name: str) -> str:
    """One sentence for a name that is no command, with the closest ones."""
    return f"there is no command {name!r}; {in_place_of(name, COMMANDS, 'miseg --help')}"
