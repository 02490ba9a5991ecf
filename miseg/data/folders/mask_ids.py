"""Meaning of the ids of masks: the classes they become, or the one question that only the user can answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miseg.data.folders.class_tables import distinct_colours, read_ids
from miseg.data.folders.encoding import MOST_CLASSES, MaskEncoding, MaskOptions
from miseg.data.folders.mask_files import Colour, MaskPixels
from miseg.data.listing import quantity
from miseg.data.samples import IGNORE_LABEL

_MOST_BACKGROUND = 16
"""Values beside the foreground's up to which they may all be background; more are a blurred edge or an image."""
_LISTED = 8
_FEW = 3
"""Ids of a mask up to which it may be one of a class and the background, with pixels that count nowhere."""


@dataclass
class IdsOfMasks:
    """The ids that a data set's masks hold.

    Attributes:
        options: what the user says of them.
        masks: how many there are.
        pixels: pixels of each id in all masks.
        first: the first file that holds each.
        palette: colour of each id, and a file that says so, where masks are palette pictures.
        sets: masks of each set of few ids, and a file of it.
        nodata: values that files name as "no data" and hold, and a file of each.
        grey_palette: a file that is read as the grey levels of its palette.
        coloured_palette: a file that is read as the indices of its palette, which has colours.
    """

    options: MaskOptions
    masks: int = 0
    pixels: dict[int, int] = field(default_factory=dict)
    first: dict[int, str] = field(default_factory=dict)
    palette: dict[int, tuple[Colour, str]] = field(default_factory=dict)
    sets: dict[frozenset[int], tuple[int, str]] = field(default_factory=dict)
    nodata: dict[int, str] = field(default_factory=dict)
    grey_palette: str = ""
    coloured_palette: str = ""

    def add_file(self, ids: frozenset[int], name: str, pixels: MaskPixels) -> None:
        """Counts a mask that holds `ids`, and keeps the kind of its palette."""
        if len(ids) <= _FEW:
            count, first = self.sets.get(ids, (0, name))
            self.sets[ids] = count + 1, first
        if pixels.grey_palette:
            self.grey_palette = self.grey_palette or name
        elif any(len(set(colour)) > 1 for colour in pixels.palette or ()):
            self.coloured_palette = self.coloured_palette or name

    def add_nodata(self, pixels: MaskPixels, name: str) -> None:
        """Keeps the value that a mask names as "no data", where it holds it."""
        value = pixels.nodata
        if value is None or not value.is_integer() or int(value) in self.nodata:
            return
        if bool((pixels.grey() == value).any()):
            self.nodata[int(value)] = name

    def nodata_notes(self) -> tuple[str, ...]:
        """Sentences on values that masks name as "no data" and that no option names."""
        named = {*self.options.ignore, *self.options.foreground}
        return tuple(
            f'{name} names {value} as "no data", which is read as any other value: --ignore {value} leaves it out.'
            for value, name in self.nodata.items()
            if value not in named
        )

    def encoding(self) -> MaskEncoding:
        """The classes that ids become.

        Raises:
            ValueError: ids that only the user can give a meaning, or that contradict what the user says.
        """
        options, notes = self.options, []
        if self.grey_palette:
            notes.append(f"{self.grey_palette}: palette of greys, read as its grey levels and not as indices.")
            if self.coloured_palette:
                raise ValueError(
                    f"{self.grey_palette} has a palette of greys and {self.coloured_palette} one of colours, so that "
                    "their indices differ: name the classes' colours in --colours"
                )
        if options.ids is not None:
            return self._of_id_table(options.ids, notes)
        ignore = numbers(options.ignore)
        values = [value for value in self.pixels if value not in ignore]
        values.sort()
        if missing := [value for value in ignore if value not in self.pixels]:
            notes.append(f"No mask holds {some(missing)}, which --ignore names.")
        if options.foreground:
            return self._of_foreground(values, ignore, notes)
        self._ask_two_foregrounds(values)
        if not options.classes:
            self._ask_nodata(values)
        notes += self.nodata_notes()
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
            notes += self._lost_foreground(background)
        notes += self.nodata_notes()
        pairs = tuple((value, int(value in foreground)) for value in sorted({*values, 0} - set(ignore)))
        names = binary(self.options.classes)
        return MaskEncoding("ids", names, distinct_colours(2, True), pairs, ignore=ignore, notes=tuple(notes))

    def _ask_two_foregrounds(self, values: list[int]) -> None:
        """Asks about masks of one class of which some are written as 0 and 1, others as 0 and 255."""
        if set(values) | {0} != {0, 1, IGNORE_LABEL} or any({1, IGNORE_LABEL} <= ids for ids in self.sets):
            return
        (ones, first), (others, other) = self._holding(1), self._holding(IGNORE_LABEL)
        raise ValueError(
            f"{quantity(ones, 'mask', 'holds', 'hold')} 0 and 1, such as {first}, and {others} 0 and 255, such as "
            f"{other}: say --foreground 1 255 if both are the foreground, or --ignore 255 where 255 means unlabelled"
        )

    def _ask_nodata(self, values: list[int]) -> None:
        for value, name in self.nodata.items():
            if value in values:
                raise ValueError(
                    f'{name} names {value} as "no data": say --ignore {value} if such pixels count nowhere, or where '
                    f"they are a class, name it by --classes, --ids or --foreground (masks hold {some(self.pixels)})"
                )

    def _holding(self, value: int) -> tuple[int, str]:
        """Number of masks of few ids that hold `value`, and one of them."""
        holding = [content for ids, content in self.sets.items() if value in ids]
        return sum(count for count, _ in holding), holding[0][1] if holding else ""

    def _lost_foreground(self, background: list[int]) -> list[str]:
        """A sentence on masks that hold one value beside 0, which is never beside what --foreground names."""
        foreground = set(self.options.foreground)
        others = set(background) - {0}
        if len(others) != 1 or any(others & ids and foreground & ids for ids in self.sets):
            return []
        (other,) = others
        count, name = self._holding(other)
        mend = " ".join(map(str, sorted({*foreground, other})))
        return [
            f"look at this: {count} of {self.masks} masks, such as {name}, hold {other} and no --foreground, and are "
            f"background all over: say --foreground {mend} if {other} is the foreground there"
        ] * bool(count)

    def _of_id_table(self, path: Path, notes: Sequence[str] = ()) -> MaskEncoding:
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
        colours = self._class_colours(pairs, names)
        return MaskEncoding("ids", names, colours, pairs, ignore=tuple(sorted(ignore)), notes=tuple(notes))

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
    # Rounding makes steps of 255 / 10 ones of 25 and 26.
    return len(others) < 3 or (max(steps) - min(steps) <= 1 < min(steps))


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
