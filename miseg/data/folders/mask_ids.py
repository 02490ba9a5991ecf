"""Meaning of the ids of masks: the classes they become, or the one question that only the user can answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miseg.data.folders.class_colours import distinct_colours
from miseg.data.folders.class_tables import read_ids
from miseg.data.folders.encoding import MOST_CLASSES, MaskEncoding, MaskOptions
from miseg.data.folders.mask_files import Colour
from miseg.data.samples import IGNORE_LABEL

_MOST_BACKGROUND = 16
"""Values beside the foreground's up to which they may all be background; more are a blurred edge or an image."""
_LISTED = 8


@dataclass
class IdsOfMasks:
    """The ids that a data set's masks hold.

    Attributes:
        options: what the user says of them.
        masks: how many there are.
        pixels: pixels of each id in all masks.
        first: the first file that holds each.
        palette: colour of each id, and a file that says so, where masks are palette pictures.
    """

    options: MaskOptions
    masks: int = 0
    pixels: dict[int, int] = field(default_factory=dict)
    first: dict[int, str] = field(default_factory=dict)
    palette: dict[int, tuple[Colour, str]] = field(default_factory=dict)

    def encoding(self) -> MaskEncoding:
        """The classes that ids become.

        Raises:
            ValueError: ids that only the user can give a meaning, or that contradict what the user says.
        """
        options, notes = self.options, []
        if options.ids is not None:
            return self._of_id_table(options.ids)
        ignore = numbers(options.ignore)
        values = [value for value in self.pixels if value not in ignore]
        values.sort()
        if missing := [value for value in ignore if value not in self.pixels]:
            notes.append(f"No mask holds {some(missing)}, which --ignore names.")
        if options.foreground:
            return self._of_foreground(values, ignore, notes)
        if IGNORE_LABEL in values:
            others = [value for value in values if value != IGNORE_LABEL]
            if _is_open(others):
                raise ValueError(
                    f"{self.first[IGNORE_LABEL]}: masks hold {some(values)} alone, and 255 may be the foreground or "
                    "mean unlabelled: say --foreground 255 or --ignore 255"
                )
            values, ignore = others, (*ignore, IGNORE_LABEL)
            notes.append(f"255 is taken as unlabelled, beside {len(others)} ids; --ids or --foreground says otherwise.")
        if len(values) > MOST_CLASSES:
            raise ValueError(
                f"{self.first[values[MOST_CLASSES]]}: masks hold {len(values)} ids ({some(values)}), and "
                f"{MOST_CLASSES} classes are the most: give --instances if they are objects, or merge them by a table, "
                "--ids"
            )
        names, pairs = self._named(values, notes)
        return MaskEncoding("ids", names, self._class_colours(pairs, names), pairs, ignore=ignore, notes=tuple(notes))

    def _named(self, values: list[int], notes: list[str]) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
        """Names of classes, and (id, label) pairs."""
        names = self.options.classes
        if not names:
            if len(values) < 2:
                raise ValueError(
                    f"all {self.masks} masks hold one value ({some(values) or 'all ignored'}): there is nothing to "
                    "learn from them; check --masks, or name the classes with --classes"
                )
            if values != list(range(len(values))):
                notes.append(f"Ids {some(values)} became the labels 0..{len(values) - 1}.")
            names = binary(()) if values == [0, 1] else tuple(f"class {value}" for value in values)
            return names, tuple((value, label) for label, value in enumerate(values))
        if all(0 <= value < len(names) for value in values):
            return names, tuple((label, label) for label in range(len(names)))
        if len(values) == len(names):
            pairs = ", ".join(f"{value} {name}" for value, name in zip(values, names, strict=True))
            notes.append(f"Ids in the order of --classes: {pairs}.")
            return names, tuple((value, label) for label, value in enumerate(values))
        beyond = next(value for value in values if not 0 <= value < len(names))
        raise ValueError(
            f"{self.first[beyond]}: id {beyond} is beyond the {len(names)} classes of --classes, and masks hold "
            f"{len(values)} ids ({some(values)}): name as many, leave some out with --ignore, or give a table, --ids"
        )

    def _of_foreground(self, values: list[int], ignore: tuple[int, ...], notes: list[str]) -> MaskEncoding:
        foreground = self.options.foreground
        if missing := [value for value in foreground if value not in values]:
            raise ValueError(f"--foreground {missing[0]}: no mask holds it; they hold {some(self.pixels)}")
        background = [value for value in values if value not in foreground]
        if len(background) > _MOST_BACKGROUND:
            raise ValueError(
                f"{self.first[background[1]]}: masks hold {len(background)} values beside --foreground {foreground[0]} "
                f"({some(background)}), as smoothed edges do: give --threshold, the level from which a pixel is "
                "foreground"
            )
        if len(background) > 1:
            notes.append(f"{some(background)} are background, since --foreground names the others.")
        pairs = tuple((value, int(value in foreground)) for value in sorted({*values, 0} - set(ignore)))
        names = binary(self.options.classes)
        return MaskEncoding("ids", names, distinct_colours(2, True), pairs, ignore=ignore, notes=tuple(notes))

    def _of_id_table(self, path: Path) -> MaskEncoding:
        table = read_ids(path)
        if self.options.classes:
            raise ValueError("--classes beside --ids: the table names the classes already")
        ignored = {name for name in self.options.ignore if isinstance(name, str)}
        if unknown := ignored - set(table.values()):
            raise ValueError(f"--ignore {min(unknown)}: {path} has no class of that name")
        ignore = {value for value in self.options.ignore if not isinstance(value, str)}
        ignore |= {value for value, name in table.items() if name in ignored}
        names = tuple(dict.fromkeys(name for value, name in table.items() if value not in ignore))
        label_of = {name: label for label, name in enumerate(names)}
        pairs = tuple(sorted((value, label_of[name]) for value, name in table.items() if value not in ignore))
        for value in self.pixels:
            if value not in table and value not in ignore:
                raise ValueError(
                    f"{self.first[value]}: id {value}, on {self.pixels[value]} pixels of all masks, is not in {path}: "
                    "add a line for it, or leave it out with --ignore"
                )
        return MaskEncoding("ids", names, self._class_colours(pairs, names), pairs, ignore=tuple(sorted(ignore)))

    def _class_colours(self, pairs: Sequence[tuple[int, int]], names: tuple[str, ...]) -> tuple[Colour, ...]:
        """The palette's colours where it has some for all classes; drawn ones otherwise."""
        of_palette = {label: self.palette[value][0] for value, label in reversed(pairs) if value in self.palette}
        colours = tuple(of_palette[label] for label in range(len(names)) if label in of_palette)
        if len(colours) == len(names) == len(set(colours)) and any(len(set(colour)) > 1 for colour in colours):
            return colours
        return distinct_colours(len(names), background=len(names) == 2 or names[0].lower() == "background")


def _is_open(others: list[int]) -> bool:
    """Whether 255 beside these ids may as well be a class: few ids, or grey levels at equal steps up to 255."""
    levels = [*others, IGNORE_LABEL]
    steps = {after - before for before, after in itertools.pairwise(levels)}
    return len(others) < 3 or (len(steps) == 1 and steps != {1})


def numbers(ignore: tuple[int | str, ...]) -> tuple[int, ...]:
    """The ids that --ignore names.

    Raises:
        ValueError: the name of a class among them.
    """
    for value in ignore:
        if isinstance(value, str):
            raise ValueError(f"--ignore {value}: give a number; names are for masks with a table, --colours or --ids")
    return tuple(value for value in ignore if not isinstance(value, str))


def binary(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the background and of one class; `classes` may name both, the latter or none.

    Raises:
        ValueError: more than two names.
    """
    if len(classes) > 2:
        raise ValueError(f"--classes names {len(classes)} classes, and the masks are of one and the background")
    return classes if len(classes) == 2 else ("background", *(classes or ("foreground",)))


def some(values: Iterable[int]) -> str:
    """The lowest of some ids, for messages."""
    listed = sorted(values)
    return ", ".join(map(str, listed[:_LISTED])) + (", …" if len(listed) > _LISTED else "")
