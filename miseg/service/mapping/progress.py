"""Lines of progress while many images are mapped: how many are done, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Sequence

EVERY = 5.0
"""Seconds between two lines."""


class MappingProgress:
    """Counts what was mapped; images that were not opened yet count by the size of their files.

    Args:
        sizes: bytes of each image's files.
        every: seconds between two lines.
    """

    def __init__(self, sizes: Sequence[int], every: float = EVERY) -> None:
        self.bytes, self.every = list(sizes), every
        self.size: dict[int, int] = {}
        self.mapped: dict[int, int] = {}
        self.ended: set[int] = set()
        self.tiles = 0
        self.begun = self.printed_at = time.monotonic()
        self.first: float | None = None

    def opened(self, image: int, size: int) -> None:
        """An image of so many pixels is being mapped."""
        self.size[image] = size
        if self.first is None:
            self.first = time.monotonic()

    def add(self, image: int, pixels: int, tiles: int) -> None:
        """So many more pixels and tiles of an image are mapped."""
        self.mapped[image] = self.mapped.get(image, 0) + pixels
        self.tiles += tiles
        if time.monotonic() - self.printed_at >= self.every:
            self.say()

    def end(self, image: int) -> None:
        """An image is done, or left out."""
        self.ended.add(image)
        if time.monotonic() - self.printed_at >= self.every or len(self.ended) == len(self.bytes):
            self.say()

    @property
    def pixels(self) -> int:
        """Pixels that were mapped."""
        return sum(self.mapped.values())

    @property
    def seconds(self) -> float:
        """Since the first image was opened."""
        return 0.0 if self.first is None else time.monotonic() - self.first

    @property
    def rate(self) -> float:
        """Pixels a second since the first image was opened; 0 before."""
        seconds = self.seconds
        return self.pixels / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate; None while nothing was mapped."""
        opened_bytes = sum(self.bytes[image] for image in self.size)
        if not self.rate or not opened_bytes:
            return None
        started = self.size.keys() | self.ended
        unseen = sum(size for image, size in enumerate(self.bytes) if image not in started)
        pixels_left = sum(self.size[image] - self.mapped.get(image, 0) for image in self.size.keys() - self.ended)
        return (pixels_left + unseen * sum(self.size.values()) / opened_bytes) / self.rate

    def say(self) -> None:
        """Print how things stand."""
        self.printed_at = time.monotonic()
        left = self.seconds_left
        time_left = "" if left is None else f"  {_clock(left)} left"
        print(
            f"[{_clock(self.printed_at - self.begun)}] {len(self.ended):,}/{len(self.bytes):,} images  "
            f"{self.tiles:,} tiles  {self.rate / 1e6:.2f} Mpixel/s{time_left}",
            flush=True,
        )


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return (f"{hours}:" if hours else "") + f"{rest // 60:02d}:{rest % 60:02d}"
