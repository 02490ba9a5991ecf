"""Files outside the package that travel in its wheel: dashboards, cluster files, and what a cluster installs."""

from __future__ import annotations

from pathlib import Path

import miseg

PACKAGE = Path(miseg.__file__).resolve().parent

SHIPPED = PACKAGE / "shipped"
"""Folder of these files in the wheel, under their names in the repository; a checkout does not have it."""


def resource(name: str) -> Path:
    """A file or folder of the repository's root, such as dashboards: the wheel's copy, or a checkout's own.

    Raises:
        FileNotFoundError: neither is there.
    """
    # The wheel's come first: beside an installed package lie others' folders.
    for path in (SHIPPED / name, PACKAGE.parent / name):
        if path.exists():
            return path
    raise FileNotFoundError(f"{name} is neither in {PACKAGE} nor beside it: install miseg again")
