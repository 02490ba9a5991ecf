"""Plugins: entry points by which other packages add to miseg.

A package declares, in its own pyproject.toml, names under one of `GROUPS`:

    [project.entry-points."miseg.methods"]
    median = "their_package.median"

Nothing of a package is imported before it is needed. A broken package costs only what it adds: asked for by its name,
it is refused with a sentence; elsewhere it is left out.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUPS = {
    "miseg.methods": "module that calls `miseg.methods.register`",
    "miseg.recipes": "function that returns an Experiment",
    "miseg.networks": "module that calls `miseg.networks.register_network`",
    "miseg.datasets": "function from the root of the files, or None, to a Source",
    "miseg.estimators": "function of samples x and y that returns an Estimate",
}
"""Each group of entry points -> what an entry point of it names; its own name is what people type."""

checks: dict[str, Callable[[str, Any], None]] = {}
"""Group -> function of an entry point's name and its object that raises where the group cannot hold that object."""

_log = logging.getLogger("miseg")


@functools.cache
def declared(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of a group by their names, sorted; more than one where packages clash. Imports none."""
    by_name: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, _package(point))):
        by_name.setdefault(point.name, []).append(point)
    return {name: tuple(points) for name, points in by_name.items()}


def load(group: str, name: str) -> Any:
    """Object of the entry point of this name in a group.

    Raises:
        ValueError: the package cannot be imported, its object is not what the group holds, or two packages have this
            name; the message names them.
    """
    points = declared(group)[name]
    if len(points) > 1:
        raise ValueError(_clash(group, name, own=False))
    try:
        loaded = points[0].load()
        if group in checks:
            checks[group](name, loaded)
    except (Exception, SystemExit) as error:
        # Whatever a package of others raises while it is imported is its own trouble, and is told with its name. One
        # that exits, as a script does, ends the program no more than one that raises.
        reason = str(error).splitlines()[0] if str(error) else "no reason given"
        raise ValueError(
            f"{group}: {name!r} of {_owner(points[0])} cannot be loaded ({type(error).__name__}: {reason}); mend or "
            "uninstall that package"
        ) from error
    return loaded


def loaders(group: str, own: Collection[str]) -> dict[str, Callable[[], Any]]:
    """For each name that other packages add to a group, a function that loads it: see `load`. Imports none.

    A name that miseg has something under itself, one of `own`, is left out with a warning.
    """
    added: dict[str, Callable[[], Any]] = {}
    for name in declared(group):
        if name in own:
            _log.warning("left out: %s", _clash(group, name, own=True))
        else:
            added[name] = functools.partial(load, group, name)
    return added


@functools.cache
def load_all(group: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Objects of all entry points of a group, loaded once a process, and the errors of others, by name.

    Each that does not is warned of in a line.
    """
    loaded, broken = {}, {}
    for name in declared(group):
        try:
            loaded[name] = load(group, name)
        except ValueError as error:
            broken[name] = str(error)
            _log.warning("left out: %s", error)
    return loaded, broken


def reasons(*groups: str) -> list[str]:
    """Why things of other packages are missing, for the end of a message that says what there is."""
    return [reason for group in groups for reason in load_all(group)[1].values()]


def _clash(group: str, name: str, *, own: bool) -> str:
    owners = [*(["miseg itself"] if own else []), *map(_owner, declared(group)[name])]
    return f"{group}: {name!r} is in {' and in '.join(owners)}; rename one, or uninstall its package"


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unnamed package"


def _owner(point: EntryPoint) -> str:
    return f"{_package(point)} ({point.value})"
