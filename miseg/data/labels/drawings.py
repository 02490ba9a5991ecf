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
            ("class", [label_class.name for label_class in self.classes]),
            ("id", [label_class.id for label_class in self.classes] + [drawing.id for drawing in self.drawings]),
        ):
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is there already: choose another")
        known = {label_class.id for label_class in self.classes}
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
        return next((label_class for label_class in self.classes if label_class.name == name), None)

    def next_colour(self) -> str:
        """The first of the default colours that no class has."""
        used = {label_class.colour for label_class in self.classes}
        colours = (f"#{bytes(colour).hex()}" for colour in default_colours(len(self.classes) + 1))
        return next((colour for colour in colours if colour not in used), "#000000")

    def as_json(self) -> dict[str, Any]:
        """Both lists as JSON holds them."""
        return {
            "classes": [asdict(label_class) for label_class in self.classes],
            "drawings": [drawing.as_json() for drawing in self.drawings],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Drawings:
        """The drawings that `as_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            classes = tuple(
                LabelClass(_id(entry["id"]), entry["name"], entry["colour"]) for entry in content["classes"]
            )
            drawings = tuple(
                Drawing(_id(entry["id"]), entry["class_id"], str(entry["scene"]), checked_geometry(entry["geometry"]))
                for entry in content["drawings"]
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


def mark_of_drawing(drawing: Drawing, name: str, grid: Grid) -> tuple[Mark, Problem | None]:
    """The pixels of a drawing, as those of a file's feature, and what of it lies outside the image.

    The mark's `source` is the drawing's id, and so is the problem's.
    """
    rows, columns, reason = _pixels(drawing.geometry, Grid(grid.height, grid.width))
    return Mark(drawing.id, name, rows, columns), Problem(drawing.id, reason) if reason else None


@lru_cache(maxsize=2 * MOST_DRAWINGS)
def _pixels(geometry: str, grid: Grid) -> tuple[np.ndarray, np.ndarray, str]:
    parts = list(parts_of(json.loads(geometry), "the drawing"))
    covered, problem = mark_of(Feature("", "", parts, {}), grid)
    return covered.rows, covered.columns, problem.reason if problem else ""


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"id {value!r}: letters, digits and - alone, 64 at most")
    return value


def _name(value: Any) -> str:
    name = class_name(value)
    if name is None:
        raise ValueError("the class has no name: give it one")
    return name


def _draw(before: Drawings, change: Mapping[str, Any], scenes: tuple[str, ...]) -> Drawings:
    if any(drawing.id == change["id"] for drawing in before.drawings):
        return before
    if change["scene"] not in scenes:
        raise ValueError(f"there is no scene {change['scene']!r}: reload the page")
    drawn = Drawing(_id(change["id"]), change["class_id"], change["scene"], checked_geometry(change["geometry"]))
    return replace(before, drawings=(*before.drawings, drawn))


def _reshape(before: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    return _each(before, change, lambda drawing: replace(drawing, geometry=checked_geometry(change["geometry"])))


def _assign(before: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    return _each(before, change, lambda drawing: replace(drawing, class_id=change["class_id"]))


def _each(before: Drawings, change: Mapping[str, Any], alter: Callable[[Drawing], Drawing]) -> Drawings:
    if all(drawing.id != change["id"] for drawing in before.drawings):
        raise ValueError("that drawing is gone: another window erased it")
    return replace(
        before, drawings=tuple(alter(drawing) if drawing.id == change["id"] else drawing for drawing in before.drawings)
    )


def _erase(before: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    gone = set(change["ids"])
    left = tuple(drawing for drawing in before.drawings if drawing.id not in gone)
    return before if len(left) == len(before.drawings) else replace(before, drawings=left)


def _add_class(before: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    if any(label_class.id == change["id"] for label_class in before.classes):
        return before
    added = LabelClass(_id(change["id"]), _name(change["name"]), change.get("colour") or before.next_colour())
    return replace(before, classes=(*before.classes, added))


def _edit_class(before: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    edited = LabelClass(_id(change["id"]), _name(change["name"]), change["colour"])
    if all(label_class.id != edited.id for label_class in before.classes):
        raise ValueError("that class is gone: another window removed it")
    return replace(
        before, classes=tuple(edited if label_class.id == edited.id else label_class for label_class in before.classes)
    )


def _remove_class(before: Drawings, change: Mapping[str, Any], _: tuple[str, ...]) -> Drawings:
    if all(label_class.id != change["id"] for label_class in before.classes):
        return before
    return Drawings(
        tuple(label_class for label_class in before.classes if label_class.id != change["id"]),
        tuple(drawing for drawing in before.drawings if drawing.class_id != change["id"]),
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
