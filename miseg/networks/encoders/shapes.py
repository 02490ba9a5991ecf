"""Shapes of the encoders' tensors, condensed, so that a file of another network is told without torch and timm.

The file `shapes.tsv` was measured (tests/measurements/encoder_shapes.py) with the versions that its first line names.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from miseg.networks.encoders.headers import Shape, shapes_in

TABLE = Path(__file__).with_suffix(".tsv")

BITS = 128
"""Of a mask: with a file of 30 shapes one that it lacks goes unseen in a fifth of the cases."""

CONVERTED = 0.5
"""Share of an encoder's values that a file must hold at least where timm converts weights: it may cut and resize."""


@dataclass(frozen=True)
class EncoderShapes:
    """Size and shapes that an encoder's weights must have.

    Attributes:
        values: numbers in all its tensors together.
        mask: of its tensors' shapes, see `mask_of`; None where timm converts weights of other code, of other shapes.
    """

    values: int
    mask: int | None


def check(path: Path, encoder: str) -> None:
    """Raise ValueError where a file surely holds no weights of an encoder; others are read to tell.

    Args:
        path: the file.
        encoder: timm's name, with the tag of its weights or without.
    """
    found = shapes_in(path)
    if found is None:
        return
    if not found:
        raise ValueError(f"weights = {str(path)!r}: the file holds no tensors by name; give a network's state_dict")
    needed = encoders().get(encoder.partition(".")[0])
    if needed is None:
        return
    values = sum(math.prod(shape) for shape in found.values())
    reason = ""
    if values < needed.values * (1.0 if needed.mask is not None else CONVERTED):
        reason = f"it holds {values:,} values in {len(found)} tensors, {encoder} has {needed.values:,}"
    elif needed.mask is not None and (missing := (needed.mask & ~mask_of(found.values())).bit_count()):
        shapes = f"{missing} or more of the shapes" if missing > 1 else "one or more of the shapes"
        reason = f"none of its {len(found)} tensors has {shapes} of {encoder}"
    if reason:
        raise ValueError(f"weights = {str(path)!r}: the file does not hold timm's weights for {encoder} ({reason})")


def mask_of(shapes: Collection[Shape]) -> int:
    """A number in which each shape sets one of `BITS` bits: a set of shapes within another has no bit beyond it."""
    mask = 0
    for shape in shapes:
        mask |= 1 << zlib.crc32(",".join(map(str, shape)).encode()) % BITS
    return mask


@functools.cache
def encoders() -> dict[str, EncoderShapes]:
    """Every encoder of the table by its name."""
    lines = (line.split("\t") for line in TABLE.read_text().splitlines() if not line.startswith("#"))
    return {name: EncoderShapes(int(values), int(mask, 16) if mask else None) for name, values, mask in lines}


def line(name: str, shapes: EncoderShapes) -> str:
    """The table's line for an encoder."""
    return f"{name}\t{shapes.values}\t{'' if shapes.mask is None else format(shapes.mask, 'x')}"
