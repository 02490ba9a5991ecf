"""Write the files with which `ray up` starts a cluster to a folder.

miseg cluster-files --out my-cluster

Then edit cluster.yaml in that folder, as its first lines say, and call `ray up cluster.yaml` there. A checkout of the
repository has them already.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from miseg.service.cloud import resources
from miseg.service.command.options import execute

FILES = ("LICENSE", "README.md", "cluster", "cluster.yaml", "constraints.txt", "dashboards", "jobs", "pyproject.toml")
"""Files that cluster.yaml hands to nodes beside the package itself."""


@dataclass
class ClusterFiles:
    """Options of writing the cluster's files."""

    out: Path = Path("miseg-cluster")
    """Folder to write; it is not there yet, or empty."""


def run(arguments: ClusterFiles) -> int:
    """Copy the files and the package itself, which nodes install.

    Raises:
        ValueError: the folder is not empty, or cannot be written.
    """
    out = arguments.out.expanduser().resolve()
    try:
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"--out {out} is not empty: give a new folder")
        leave_out = shutil.ignore_patterns("__pycache__", resources.SHIPPED.name)
        shutil.copytree(resources.PACKAGE, out / resources.PACKAGE.name, ignore=leave_out)
        for name in FILES:
            source = resources.resource(name)
            if source.is_dir():
                shutil.copytree(source, out / name, ignore=leave_out)
            else:
                shutil.copyfile(source, out / name)
    except OSError as error:
        raise ValueError(f"--out {out} cannot be written: {error}") from error
    print(f"written: {out}; its cluster.yaml says how to go on")
    return 0


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(ClusterFiles, run, __doc__)
