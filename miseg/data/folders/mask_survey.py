"""Survey of all masks of a data set: the meaning of their values, or the question that only the user can answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from miseg.data.checks import BadFileError, read_bytes
from miseg.data.folders.class_tables import distinct_colours, read_colours
from miseg.data.folders.encoding import MOST_CLASSES, MaskEncoding, MaskFile, MaskOptions
from miseg.data.folders.mask_files import Colour, MaskPixels, count_ids, count_values, read_mask, unpack_colour
from miseg.data.folders.mask_ids import IdsOfMasks, binary, numbers, some
from miseg.data.folders.mask_levels import LevelsOfMasks

_MOST_VALUES = 2**12
_MOST_OBJECTS = 2**16
_LISTED = 8


def survey_masks(masks: Iterable[Path | tuple[Path, ...]], options: MaskOptions) -> MaskEncoding:
    """The encoding of a data set's masks, all of which are read.

    Args:
        masks: files, or the files of each image's objects; each is read once, in order.
        options: what the user says of them.

    Raises:
        ValueError: no mask; masks that cannot be understood without a word from the user, or that contradict it. The
            message is one sentence that names the file, the value and the option.
    """
    survey = MaskSurvey(options)
    for mask in masks:
        survey.add(mask, str(mask[0] if isinstance(mask, tuple) and mask else mask))
    return survey.encoding()


class MaskSurvey:
    """Values and colours of all masks, added one after the other.

    Args:
        options: what the user says of them.

    Raises:
        ValueError: options that contradict each other, or a table that cannot be read.
    """

    def __init__(self, options: MaskOptions) -> None:
        self.options = options
        _check(options)
        self._colour_table = read_colours(options.colours) if options.colours else {}
        self._known = {red << 16 | green << 8 | blue for red, green, blue in self._colour_table}
        self._ids = IdsOfMasks(options)
        self._colours: dict[int, int] = {}
        self._colour_file = self._lossy = ""
        self._objects = options.instances
        self._levels = None if options.threshold is None else LevelsOfMasks(options.threshold, numbers(options.ignore))
        self._read = 0
        self._unreadable = ""

    def add(self, mask: MaskFile, name: str) -> None:
        """Looks at a mask.

        Args:
            mask: file, bytes, or the files of an image's objects.
            name: what messages call it; a file of an object has its own name.

        Raises:
            ValueError: it cannot be understood, whatever the others hold; the message names it.
        """
        self._ids.masks += 1
        files = mask if isinstance(mask, tuple) else (mask,)
        for file in files:
            called = str(file) if isinstance(file, Path) else name
            try:
                pixels = read_mask(read_bytes(file))
            except BadFileError as error:
                # Packing lists it among the rejected files, and keeps the others.
                self._unreadable = self._unreadable or f"{called}: {error}"
                continue
            try:
                self._read += 1
                self._ids.add_nodata(pixels, called)
                if self._levels is not None:
                    self._levels.add(pixels.grey(), called)
                elif isinstance(mask, tuple):
                    self._add_object(pixels)
                elif self._colour_table:
                    self._add_colours(pixels, called)
                elif self.options.instances:
                    self._add_instances(pixels, called)
                else:
                    self._add(pixels, called)
            except BadFileError as error:
                raise ValueError(f"{called}: {error}") from None

    def _add_object(self, pixels: MaskPixels) -> None:
        self._objects = True
        values = list(count_ids(pixels.grey(), 2))
        if len(values) > 2 or (len(values) == 2 and 0 not in values):
            raise BadFileError(
                f"mask of one object that holds more than 0 and one other value ({some(values)}): save it without "
                "smoothing, or give --threshold, the level from which a pixel is the object"
            )

    def _add_instances(self, pixels: MaskPixels, name: str) -> None:
        if not pixels.is_grey():
            self._colour_file = self._colour_file or name
        values = pixels.values
        count = len((count_values if values.ndim == 3 else count_ids)(values, _MOST_OBJECTS))
        if count > _MOST_OBJECTS or (pixels.lossy and count > 2):
            raise BadFileError(_blurred(pixels, count, _MOST_OBJECTS, "objects"))

    def _add_colours(self, pixels: MaskPixels, name: str) -> None:
        counts = count_values(pixels.rgb(), _MOST_VALUES)
        unknown = {code: count for code, count in counts.items() if code not in self._known}
        if not unknown:
            return
        if pixels.lossy or len(unknown) > 4 * max(4, len(self._known)):
            raise BadFileError(_blurred(pixels, len(counts), _MOST_VALUES, "colours of the table"))
        code = max(unknown, key=unknown.__getitem__)
        colour = unpack_colour(code)
        nearest = min(
            self._colour_table, key=lambda known: sum((a - b) ** 2 for a, b in zip(known, colour, strict=True))
        )
        others = f" (and {len(unknown) - 1} other colours)" if len(unknown) > 1 else ""
        raise BadFileError(
            f"colour {_text(colour)} on {unknown[code]} pixels{others} is not in {self.options.colours}, whose nearest "
            f"is {_text(nearest)}, {self._colour_table[nearest]!r}: add it there, or correct the mask"
        )

    def _add(self, pixels: MaskPixels, name: str) -> None:
        self._lossy = self._lossy or (name if pixels.lossy else "")
        grey = pixels.is_grey()
        most = _MOST_VALUES if grey else MOST_CLASSES
        counts = count_ids(pixels.grey(), most) if grey else count_values(pixels.values, most)
        if len(counts) > most:
            raise BadFileError(_blurred(pixels, len(counts), most, "ids" if grey else "colours"))
        if not grey:
            self._colour_file = self._colour_file or name
        else:
            self._ids.add_file(frozenset(counts), name, pixels)
        for value, count in counts.items():
            if grey:
                self._ids.pixels[value] = self._ids.pixels.get(value, 0) + count
                self._ids.first.setdefault(value, name)
            if pixels.values.ndim == 3:
                code = value * 0x010101 if grey else value
                self._colours[code] = self._colours.get(code, 0) + count
        if len(self._ids.pixels) > 4 * _MOST_VALUES:
            raise BadFileError(_blurred(pixels, len(self._ids.pixels), most, "ids"))
        if pixels.palette is not None:
            self._add_palette(pixels.palette, list(counts), name)

    def _add_palette(self, palette: tuple[Colour, ...], used: list[int], name: str) -> None:
        for index in used:
            if index >= len(palette):
                continue
            colour, file = self._ids.palette.setdefault(index, (palette[index], name))
            if colour != palette[index]:
                raise BadFileError(
                    f"index {index} of the palette is {_text(palette[index])} here and {_text(colour)} in {file}, so "
                    "that indices are no ids: name the classes' colours in --colours"
                )

    def encoding(self) -> MaskEncoding:
        """The encoding of the masks that were added.

        Raises:
            ValueError: as `survey_masks`.
        """
        if not self._ids.masks:
            raise ValueError("no mask: check --masks, or leave it out for images without labels")
        if not self._read and self._unreadable:
            raise ValueError(self._unreadable)
        options = self.options
        if self._levels is not None:
            notes = (*self._levels.notes(), *self._ids.nodata_notes())
            names, colours = binary(options.classes), distinct_colours(2, True)
            levels = self._levels
            return MaskEncoding(
                "threshold", names, colours, ignore=levels.ignore, threshold=levels.threshold, notes=notes
            )
        if self._objects:
            ignore = numbers(options.ignore)
            if ignore and self._colour_file:
                raise ValueError(
                    f"{self._colour_file}: mask of RGB colours, which have no id that --ignore {ignore[0]} could name: "
                    "leave it out"
                )
            return MaskEncoding("objects", binary(options.classes), distinct_colours(2, True), ignore=ignore)
        if self._colour_table:
            return self._of_colour_table()
        if self._colour_file:
            raise ValueError(self._colour_question())
        if self._lossy and len(self._ids.pixels) > 2:
            raise ValueError(
                f"{self._lossy}: JPEG compression altered the labels ({len(self._ids.pixels)} values, "
                f"{some(self._ids.pixels)}): take the masks before compression, or give --threshold 128 for masks of "
                "one class"
            )
        return self._ids.encoding()

    def _of_colour_table(self) -> MaskEncoding:
        ignored = {name for name in self.options.ignore if isinstance(name, str)}
        table = self._colour_table
        if unknown := ignored - set(table.values()):
            raise ValueError(f"--ignore {min(unknown)}: {self.options.colours} has no class of that name")
        if numbers := [value for value in self.options.ignore if not isinstance(value, str)]:
            raise ValueError(f"--ignore {numbers[0]}: masks of colours have no ids; give the name of a class")
        names = tuple(dict.fromkeys(name for name in table.values() if name not in ignored))
        if self.options.classes:
            raise ValueError("--classes beside --colours: the table names the classes already")
        label_of = {name: label for label, name in enumerate(names)}
        pairs = tuple((colour, label_of[name]) for colour, name in table.items() if name not in ignored)
        colours = tuple(next(colour for colour, label in pairs if label == number) for number in range(len(names)))
        return MaskEncoding(
            "colours",
            names,
            colours,
            colour_values=pairs,
            ignore_colours=tuple(colour for colour, name in table.items() if name in ignored),
        )

    def _colour_question(self) -> str:
        total = sum(self._colours.values())
        common = sorted(self._colours, key=self._colours.__getitem__, reverse=True)
        listed = ", ".join(f"{_text(unpack_colour(c))} ({self._colours[c] / total:.1%})" for c in common[:_LISTED])
        more = f" and {len(common) - _LISTED} more" if len(common) > _LISTED else ""
        return (
            f"{self._colour_file}: mask of RGB colours: name them in a CSV file of lines name,r,g,b and give it with "
            f"--colours (seen: {listed}{more}), or give --instances if each colour is an object"
        )


def _check(options: MaskOptions) -> None:
    given = {
        "--colours": options.colours is not None,
        "--ids": options.ids is not None,
        "--foreground": bool(options.foreground),
        "--threshold": options.threshold is not None,
        "--instances": options.instances,
    }
    if len(names := [name for name, is_given in given.items() if is_given]) > 1:
        raise ValueError(f"{names[0]} beside {names[1]}: each says what the values of masks mean; give one of them")
    if both := set(options.foreground) & set(options.ignore):
        raise ValueError(f"{min(map(str, both))} is named by both --foreground and --ignore: give it one meaning")


def _blurred(pixels: MaskPixels, count: int, most: int, of: str) -> str:
    how = f"holds more than {most} values" if count > most else f"holds {count} values"
    if pixels.lossy:
        return (
            f"JPEG mask that {how}: its compression altered them; take the masks before compression, or give "
            "--threshold 128 for masks of one class"
        )
    return (
        f"{how}, and masks of {of} hold few: an image is no mask; if the edges are smoothed, export it without "
        "antialiasing and with nearest-neighbour resampling, or give --threshold for masks of one class"
    )


def _text(colour: Colour) -> str:
    return ",".join(map(str, colour))
