"""Files outside the package that travel in its wheel: dashboards/ and the cluster files."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """A file or folder of the repository's root, such as dashboards: the wheel's copy, or a checkout's own.

    Raises:
        FileNotFoundError: neither is there.
    """
    # pyproject.toml says what the wheel brings. It comes first: beside an installed package lie others' folders.
    for path in (_PACKAGE / "shipped" / name, _PACKAGE.parent / name):
        if path.exists():
            return path
    raise FileNotFoundError(f"{name} is neither in {_PACKAGE} nor beside it: install miseg again")
