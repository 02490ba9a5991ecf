"""Published data sets of plain folders: a description each, `<name>.yaml`, as `miseg prepare-data` writes them.

To add one, put its description here: a file as for own images, with patterns that start from the data set's folder,
and its name in `miseg.commands.prepare_data.OWN`.
"""

from __future__ import annotations

import os
from pathlib import Path

from miseg.data.folders.description import read_description
from miseg.data.folders.source import FolderSource, open_folders

DESCRIBED = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
"""Name -> description file."""


def open_described(name: str, root: Path | None = None) -> FolderSource:
    """The reader of the described data set `name`, whose files are under `root` (None: `$MISEG_DATA/<name>`).

    Raises:
        ValueError: no default place is known, or files are not as described.
    """
    if root is None and not os.environ.get("MISEG_DATA"):
        raise ValueError(f"{name}: give its folder with --root, or set MISEG_DATA to the folder that holds {name}/")
    root = Path(os.environ["MISEG_DATA"]) / name if root is None else root
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder, and {name} lies in it: give its place with --root or MISEG_DATA")
    return open_folders(read_description(DESCRIBED[name]), root.absolute())
