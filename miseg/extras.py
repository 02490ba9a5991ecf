"""Extras: a sentence that names the one to install, where a package is missing."""

from __future__ import annotations

from importlib.util import find_spec


class MissingExtraError(ModuleNotFoundError):
    """A part of miseg was asked for whose packages are not installed; the message names the extra that brings them."""


def require(extra: str, part: str, *modules: str) -> None:
    """Check that the packages of an extra are installed, without importing them.

    Args:
        extra: name of an extra of pyproject.toml.
        part: what needs it, as its user calls it.
        modules: top-level modules that the part imports.

    Raises:
        MissingExtraError: one of the modules is not installed.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"{part} needs the extra '{extra}': pip install 'miseg[{extra}]' (not installed: {', '.join(missing)})"
        )
