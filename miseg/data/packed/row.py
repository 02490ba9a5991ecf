"""One row of a packed data set: an image with its mask, still encoded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackedRow:
    """One packed image: encoded bytes with the size (pixels) and channels they decode to; no `mask` without labels."""

    id: str
    image: bytes
    mask: bytes | None
    height: int
    width: int
    series: str | None = None
    date: str | None = None
    georeference: str | None = None
    channels: int = 3
