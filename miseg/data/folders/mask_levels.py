"""Grey levels of masks that a threshold cuts into the one class and the background."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from miseg.data.listing import quantity


@dataclass
class LevelsOfMasks:
    """The grey levels of a data set's masks.

    Attributes:
        threshold: level from which a pixel is foreground.
        ignore: levels whose pixels count nowhere.
        highest: highest level of all masks that counts.
        no_number: names of masks with pixels that are no number (NaN, infinite).
    """

    threshold: float
    ignore: tuple[int, ...]
    highest: float = -np.inf
    no_number: list[str] = field(default_factory=list)
    _ignored: set[int] = field(default_factory=set)

    def add(self, levels: np.ndarray, name: str) -> None:
        """Looks at a mask's levels [H, W]; `name` is what messages call it."""
        counted = np.isfinite(levels)
        if not counted.all():
            self.no_number.append(name)
        for level in self.ignore:
            same = levels == level
            if same.any():
                self._ignored.add(level)
                counted &= ~same
        if counted.any():
            self.highest = max(self.highest, float(levels[counted].max()))

    def notes(self) -> tuple[str, ...]:
        """Sentences on what counts nowhere.

        Raises:
            ValueError: no level reaches the threshold.
        """
        if np.isneginf(self.highest):
            reason = f", such as {self.no_number[0]}, whose pixels are NaN" if self.no_number else ""
            raise ValueError(f"no mask holds a grey level that counts{reason}: check --masks and --ignore")
        if self.highest < self.threshold:
            raise ValueError(
                f"no mask reaches --threshold {self.threshold:g}: the highest grey level is {self.highest:g}"
            )
        notes = []
        if missing := [level for level in self.ignore if level not in self._ignored]:
            notes.append(f"No mask holds {', '.join(map(str, missing))}, which --ignore names.")
        if self.no_number:
            masks = quantity(len(self.no_number), "mask", "holds", "hold")
            notes.append(f"{masks} pixels that are no number, such as {self.no_number[0]}: they count nowhere.")
        return tuple(notes)
