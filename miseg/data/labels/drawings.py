"""Labels as people draw them on an image: classes, and shapes of a class; values that change into new ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from miseg.data.labels.coverage import Feature, mark_of
from miseg.data.labels.geojson import parts_of
from miseg.data.labels.marks import Mark, Problem, class_name
from miseg.data.raster.grid import Grid
from miseg.data.raster.maps import MAX_CLASSES, default_colours

MOST_DRAWINGS = 10_000
MOST_POSITIONS = 10_000
"""Positions of one drawing."""

_DECIMALS = 4
"""Of a pixel: what a way through longitude and latitude and back leaves as it was."""
_FARTHEST = 1e6
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class LabelClass:
    """A class of labels.

    Attributes:
        id: what drawings refer to; it stays when the class gets another name.
        name: as `class_name` leaves it.
        colour: "#1f77b4".
    """

    id: str
    name: str
    colour: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or class_name(self.name) != self.name:
            raise ValueError(f"class name {self.name!r}: give printable text")
        if len(self.name) > 100:
            raise ValueError(f"class name of {len(self.name)} characters: use 100 or fewer")
        if not isinstance(self.colour, str) or not _COLOUR.fullmatch(self.colour):
            raise ValueError(f"colour {self.colour!r}: give red, green and blue as #1f77b4")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0..255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue


@dataclass(frozen=True)
class Drawing:
    """A point, line or polygon, or several of a kind, on one scene.

    Attributes:
        id: told by whoever draws it.
        class_id: of its class.
        scene: date or name of the scene that it was drawn on.
        geometry: GeoJSON text, its coordinates (column, row) in pixels from the top left corner: `checked_geometry`.
    """

    id: str
    class_id: str
    scene: str
    geometry: str

    def as_json(self) -> dict[str, Any]:
        """The drawing with its geometry as an object."""
        return asdict(self) | {"geometry": json.loads(self.geometry)}


@dataclass(frozen=True)
class Drawings:
    """All classes and drawings of a session, in the order in which they were made."""

    classes: tuple[LabelClass, ...] = ()
    drawings: tuple[Drawing, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) > MAX_CLASSES:
            raise ValueError(f"{len(self.classes)} classes: a map holds {MAX_CLASSES}")
        if len(self.drawings) > MOST_DRAWINGS:
            raise ValueError(f"{len(self.drawings)} drawings: the page holds {MOST_DRAWINGS}")
        for what, names in (
            ("class", [one.name for one in self.classes]),
            ("id", [one.id for one in self.classes] + [one.id for one in self.drawings]),
        ):
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is there already: choose another")
        known = {one.id for one in self.classes}
        for drawing in self.drawings:
            if drawing.class_id not in known:
                raise ValueError(f"drawing {drawing.id}: there is no class {drawing.class_id!r} (any more)")

    def changed(self, change: Mapping[str, Any], scenes: tuple[str, ...]) -> Drawings:
        """The drawings after a change; themselves where it was made before.

        `change["do"]` is one of `CHANGES`; drawings are on one of `scenes`. Drawing or adding an id that is there is no
        change, nor is erasing one that is gone, so that whoever does not know whether it was heard can say it again.

        Raises:
            ValueError: no such change, something is missing in it or malformed, or it does not fit what is there.
        """
        what = str(change.get("do"))
        if what not in CHANGES:
            raise ValueError(f"change {what!r}: there are {', '.join(CHANGES)}")
        try:
            return CHANGES[what](self, change, scenes)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"change {what!r} is malformed ({error}): reload the page") from None
        except KeyError as missing:
            raise ValueError(f"change {what!r} without {missing}: reload the page") from None

    def named(self, name: str) -> LabelClass | None:
        """The class of that name."""
        return next((one for one in self.classes if one.name == name), None)

    def next_colour(self) -> str:
        """The first of the default colours that no class has."""
        used = {one.colour for one in self.classes}
        colours = (f"#{bytes(colour).hex()}" for colour in default_colours(len(self.classes) + 1))
        return next((colour for colour in colours if colour not in used), "#000000")

    def as_json(self) -> dict[str, Any]:
        """Both lists as JSON holds them."""
        return {
            "classes": [asdict(one) for one in self.classes],
            "drawings": [one.as_json() for one in self.drawings],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Drawings:
        """The drawings that `as_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            classes = tuple(LabelClass(_id(one["id"]), one["name"], one["colour"]) for one in found["classes"])
            drawings = tuple(
                Drawing(_id(one["id"]), one["class_id"], str(one["scene"]), checked_geometry(one["geometry"]))
                for one in found["drawings"]
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no classes and drawings ({error!r})") from None
        return cls(classes, drawings)


def checked_geometry(geometry: Any) -> str:
    """The text of a GeoJSON geometry, its coordinates rounded to 1/10,000 of a pixel.

    Raises:
        ValueError: none, a broken one, one of too many positions, or one that lies far outside any image.
    """
    parts = list(parts_of(geometry, "the drawing"))
    positions = sum(len(ring) for part in parts for ring in part.rings)
    if not 0 < positions <= MOST_POSITIONS:
        raise ValueError(f"a drawing of {positions} positions: use 1 to {MOST_POSITIONS}")
    if max(np.abs(ring).max() for part in parts for ring in part.rings) > _FARTHEST:
        raise ValueError("the drawing lies far outside the image: draw it again")
    kinds = {part.shape for part in parts}
    if len(kinds) > 1:
        raise ValueError("a drawing of points, lines and polygons together: draw each by itself")
    # Adding 0 makes −0 a 0.
    rings = [[(ring.round(_DECIMALS) + 0.0).tolist() for ring in part.rings] for part in parts]
    kind = {"point": "Point", "line": "LineString", "polygon": "Polygon"}[kinds.pop()]
    members = rings if kind == "Polygon" else [part[0] for part in rings]
    members = [member[0] for member in members] if kind == "Point" else members
    several = {"type": f"Multi{kind}", "coordinates": members}
    return json.dumps(several if len(members) > 1 else {"type": kind, "coordinates": members[0]})


def mark(drawing: Drawing, name: str, grid: Grid) -> tuple[Mark, Problem | None]:
    """The pixels of a drawing, as those of a file's feature, and what of it lies outside the image.

    The mark's `place` is the drawing's id, and so is the problem's.
    """
    rows, columns, reason = _pixels(drawing.geometry, Grid(grid.height, grid.width))
    return Mark(drawing.id, name, rows, columns), Problem(drawing.id, reason) if reason else None


@lru_cache(maxsize=2 * MOST_DRAWINGS)
def _pixels(geometry: str, grid: Grid) -> tuple[np.ndarray, np.ndarray, str]:
    parts = list(parts_of(json.loads(geometry), "the drawing"))
    found, problem = mark_of(Feature("", "", parts, {}), grid)
    return found.rows, found.columns, problem.reason if problem else ""


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"id {value!r}: letters, digits and - alone, 64 at most")
    return value


def _name(value: Any) -> str:
    name = class_name(value)
    if name is None:
        raise ValueError("the class has no name: give it one")
    return name


def _draw(found: Drawings, change: Mapping[str, Any], scenes: tuple[str, ...]) -> Drawings:
    if any(one.id == change["id"] for one in found.drawings):
        return found
    if change["scene"] not in scenes:
        raise ValueError(f"there is no scene {change['scene']!r}: reload the page")
    drawn = Drawing(_id(change["id"]), change["class_id"], change["scene"], checked_geometry(change["geometry"]))
    return replace(found, drawings=(*found.drawings, drawn))


def _reshape(found: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    return _each(found, change, lambda one: replace(one, geometry=checked_geometry(change["geometry"])))


def _assign(found: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    return _each(found, change, lambda one: replace(one, class_id=change["class_id"]))


def _each(found: Drawings, change: Mapping[str, Any], alter: Callable[[Drawing], Drawing]) -> Drawings:
    if all(one.id != change["id"] for one in found.drawings):
        raise ValueError("that drawing is gone: another window erased it")
    return replace(found, drawings=tuple(alter(one) if one.id == change["id"] else one for one in found.drawings))


def _erase(found: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    gone = set(change["ids"])
    left = tuple(one for one in found.drawings if one.id not in gone)
    return found if len(left) == len(found.drawings) else replace(found, drawings=left)


def _add_class(found: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    if any(one.id == change["id"] for one in found.classes):
        return found
    added = LabelClass(_id(change["id"]), _name(change["name"]), change.get("colour") or found.next_colour())
    return replace(found, classes=(*found.classes, added))


def _edit_class(found: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    edited = LabelClass(_id(change["id"]), _name(change["name"]), change["colour"])
    if all(one.id != edited.id for one in found.classes):
        raise ValueError("that class is gone: another window removed it")
    return replace(found, classes=tuple(edited if one.id == edited.id else one for one in found.classes))


def _remove_class(found: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    if all(one.id != change["id"] for one in found.classes):
        return found
    return Drawings(
        tuple(one for one in found.classes if one.id != change["id"]),
        tuple(one for one in found.drawings if one.class_id != change["id"]),
    )


CHANGES: dict[str, Callable[[Drawings, Mapping[str, Any], tuple[str, ...]], Drawings]] = {
    "draw": _draw,
    "reshape": _reshape,
    "assign": _assign,
    "erase": _erase,
    "add_class": _add_class,
    "edit_class": _edit_class,
    "remove_class": _remove_class,
}
"""Every change that a page can ask for, by name."""
