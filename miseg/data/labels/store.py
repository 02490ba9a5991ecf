"""Labels that are being drawn, on disk: whole at every moment, each state with a number, one process at a time."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, MutableSequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miseg.data.labels.drawings import Drawings
from miseg.data.raster.grid import Grid
from miseg.files import replacing
from miseg.json_values import parse
from miseg.locks import locked

FILE = "labels.json"
FORMAT = 1
UNDOABLE = 200
"""Changes that can be undone; they are in memory alone."""

REPLACES_NOTHING = ("draw", "add_class", "erase")
"""Changes that no other change contradicts: they are taken whatever the sender had seen."""


class StaleError(ValueError):
    """A change of labels that are not what the sender saw."""


class LabelStore:
    """The labels in a folder, saved at each change before it counts.

    `revision` counts changes, undoing among them. A change that would alter what another window did is refused unless
    its sender has seen that.

    Args:
        folder: it is made; `close` gives it free, and so does the end of the process.
        grid: the image's: labels that were drawn on another are refused.
        scenes: dates or names that drawings may be on.

    Raises:
        ValueError: another process has the folder, its labels cannot be read, or they are another image's.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, grid: Grid, scenes: tuple[str, ...]) -> None:
        self.folder, self.grid, self.scenes = folder, grid, scenes
        self.revision, self.drawings = 0, Drawings()
        self._before: deque[Drawings] = deque(maxlen=UNDOABLE)
        self._after: list[Drawings] = []
        self.lock = threading.RLock()
        """Held while the labels change."""
        folder.mkdir(parents=True, exist_ok=True)
        self._locked = contextlib.ExitStack()
        try:
            self._locked.enter_context(locked(folder / ".lock", patience=0))
        except BlockingIOError:
            raise ValueError(
                f"{folder}: another labelling page has these labels: end it, or give another --out"
            ) from None
        try:
            self._load()
        except ValueError:
            self.close()
            raise

    def state(self) -> dict[str, Any]:
        """Revision, classes, drawings, and whether something can be undone or redone."""
        with self.lock:
            return {
                "revision": self.revision,
                "undo": bool(self._before),
                "redo": bool(self._after),
                **self.drawings.as_json(),
            }

    def apply(self, revision: int, change: Mapping[str, Any]) -> None:
        """Make a change, see `Drawings.changed`, of the labels that the sender saw as `revision`.

        Raises:
            StaleError: the labels are not those, and the change replaces something.
            ValueError: as `Drawings.changed`.
            OSError: it cannot be saved; then it was not made.
        """
        with self.lock:
            if change.get("do") not in REPLACES_NOTHING:
                self._check(revision)
            self._take(self.drawings.changed(change, self.scenes))

    def replace(self, make: Callable[[Drawings], Drawings]) -> None:
        """Make one change of whatever the labels are now.

        Raises:
            ValueError: as `make`.
            OSError: it cannot be saved; then it was not made.
        """
        with self.lock:
            self._take(make(self.drawings))

    def undo(self, revision: int) -> None:
        """Take the last change back; nothing where there is none.

        Raises:
            StaleError: the labels are not those of `revision`.
            OSError: it cannot be saved; then it was not done.
        """
        self._go(revision, self._before, self._after)

    def redo(self, revision: int) -> None:
        """Make the change again that was undone last; nothing where there is none.

        Raises:
            StaleError: the labels are not those of `revision`.
            OSError: it cannot be saved; then it was not done.
        """
        self._go(revision, self._after, self._before)

    def _go(self, revision: int, states: MutableSequence[Drawings], back: MutableSequence[Drawings]) -> None:
        with self.lock:
            self._check(revision)
            if states:
                now = self.drawings
                self._save(states[-1])
                states.pop()
                back.append(now)

    def close(self) -> None:
        """Give the folder free."""
        self._locked.close()

    def _check(self, revision: int) -> None:
        if revision != self.revision:
            raise StaleError("another window has changed the labels: look at them, and do it again")

    def _take(self, changed: Drawings) -> None:
        if changed == self.drawings:
            return
        now = self.drawings
        self._save(changed)
        self._before.append(now)
        self._after.clear()

    def _save(self, drawings: Drawings) -> None:
        content = {"format": FORMAT, "revision": self.revision + 1, "grid": asdict(self.grid), **drawings.as_json()}
        with replacing(self.folder / FILE, durable=True) as path:
            path.write_bytes(json.dumps(content, ensure_ascii=False, indent=1).encode())
        self.revision, self.drawings = self.revision + 1, drawings

    def _load(self) -> None:
        path = self.folder / FILE
        if not path.exists():
            return
        try:
            content = parse(path.read_bytes())
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, this version reads {FORMAT}")
            grid = Grid.from_json(json.dumps(content["grid"]))
            self.revision, self.drawings = int(content["revision"]), Drawings.from_json(content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: these labels cannot be read ({error}): put a copy back, or move the file away to start anew"
            ) from None
        if grid != self.grid:
            raise ValueError(
                f"{path}: drawn on another image ({grid.height} x {grid.width} pixels, {grid.crs or 'no CRS'}): "
                "give another --out"
            )
