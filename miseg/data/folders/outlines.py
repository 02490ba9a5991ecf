"""Outlines of objects, as COCO's files have them, as pixels: polygons and run lengths."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

LONGEST_SIDE = 2**15
_PIXELS = 2**27


class OutlineError(ValueError):
    """An outline that cannot be drawn; the message is the reason."""


def draw_outline(outline: Any, height: int, width: int) -> np.ndarray:
    """The pixels that an annotation's `segmentation` covers, bool [height, width].

    Args:
        outline: polygons [[x, y, x, y, …], …] in pixels, or run lengths {"size": [height, width], "counts": …} down the
            columns, of numbers or in COCO's letters.
        height: of the image, in pixels.
        width: likewise.

    Raises:
        OutlineError: neither, or of another image's size.
    """
    if isinstance(outline, dict):
        counts = _run_lengths(outline, height, width)
        inside = np.arange(len(counts)) % 2 == 1
        return np.repeat(inside, counts).reshape(width, height).T
    polygons = _polygons(outline, height, width)
    if not polygons:
        return np.zeros((height, width), bool)
    # Its compiled part and NumPy's are loaded for those who pack COCO only.
    from pycocotools import mask as coco_mask

    with warnings.catch_warnings():
        # pycocotools 2.0.11 makes its arrays in a way of NumPy 1, of which NumPy 2 warns.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return coco_mask.decode(coco_mask.frPyObjects(polygons, height, width)).any(-1)


def check_size(height: int, width: int) -> str:
    """Why an image cannot have this size; empty where it can."""
    if not (0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE) or height * width > _PIXELS:
        return f"{height}x{width} pixels, not 1..{LONGEST_SIDE} a side"
    return ""


def _polygons(polygons: Any, height: int, width: int) -> list[list[float]]:
    """Polygons of three points or more: fewer cover no pixel.

    pycocotools is compiled without checks of memory, and takes four numbers for a box.
    """
    if not isinstance(polygons, list) or not polygons:
        raise OutlineError("no polygon")
    if not isinstance(polygons[0], list):
        polygons = [polygons]  # some programs leave the outer list out
    drawable = []
    for polygon in polygons:
        try:
            points = np.asarray(polygon, np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            raise OutlineError(f"polygon {str(polygon)[:60]} is no list of pairs of numbers") from None
        # Written so that nan fails too; drawn outlines may leave the image a little.
        if not (np.abs(points / (width, height) - 0.5) <= 1.5).all():
            raise OutlineError(f"polygon reaches far beyond the image of {height}x{width} pixels")
        if len(points) >= 3:
            drawable.append(points.ravel().tolist())
    return drawable


def _run_lengths(runs: dict[str, Any], height: int, width: int) -> list[int]:
    counts, size = runs.get("counts"), runs.get("size")
    if size != [height, width]:
        raise OutlineError(f"run lengths of size {size}, the image has {[height, width]}")
    if isinstance(counts, str):
        counts = _of_letters(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise OutlineError(f"run lengths {str(counts)[:60]} are no list of whole numbers")
    if sum(counts) != height * width:
        raise OutlineError(f"run lengths of {sum(counts)} pixels, the image has {height * width}")
    return counts


def _of_letters(text: str) -> list[int]:
    """Run lengths from COCO's letters: 5 bits a letter from "0" on, the lowest first, a sixth where more follow.

    From the fourth on a number is the difference from that two before. pycocotools decodes them without looking whether
    they fit the image.
    """
    counts: list[int] = []
    number = place = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or place > 30:
            raise OutlineError(f"run lengths {text[:60]!r} are not in COCO's letters")
        number |= (bits & 31) << place
        place += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << place
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = place = 0
    if place:
        raise OutlineError(f"run lengths {text[:60]!r} end in the midst of a number")
    return counts
