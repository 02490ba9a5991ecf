"""Colours for classes that have none of their own."""

from __future__ import annotations

import colorsys

from miseg.data.folders.mask_files import Colour

_GOLDEN = 0.618034
_LIGHTNESS = (1.0, 0.72, 0.45)


def distinct_colours(classes: int, background: bool = False) -> tuple[Colour, ...]:
    """Colours (red, green, blue), 0..255, of `classes` classes, neighbours in order far apart in hue.

    Args:
        classes: how many, 0 or more.
        background: whether the first is black.
    """
    colours: list[Colour] = [(0, 0, 0)] if background and classes else []
    for number in range(classes - len(colours)):
        hue, value = number * _GOLDEN % 1, _LIGHTNESS[number % len(_LIGHTNESS)]
        # Two of three in step with the hue would repeat soon; the saturation tells the rounds apart.
        saturation = 0.55 + 0.45 * (number * 7 % 11) / 10
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
        colours.append((red, green, blue))
    return tuple(colours)
