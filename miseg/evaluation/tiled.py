"""Predictions over images of any size: overlapping tiles, blended where they meet, in memory that does not grow.

What is held at a time is a few tiles, and of what tiles share with those below them the sums over the image's width.

Shape suffixes: N tiles, C channels, K classes, H and W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX

ALIGN = 16
"""Tiles begin at its multiples, pixels: what a network halves four times is halved as in the whole image."""

STRIP_PIXELS = 2**20
"""Pixels whose probabilities are enlarged at once."""

Window = tuple[int, int, int, int]
"""(row, column, height, width) in pixels."""

Read = Callable[[Window], tuple[Tensor, Tensor]]
"""A window's image [C, h, w], in whatever type the prediction takes, and which pixels have data, bool [h, w]."""

Predict = Callable[[Tensor], Tensor]
"""Images [N, C, h, w] to probabilities [N, K, h, w]."""


@dataclass(frozen=True)
class Tiling:
    """Settings of cutting an image into tiles.

    Tiles overlap by `overlap` pixels or more, as they share the image evenly. An image that is no larger than a tile is
    one tile. At the image's own border tiles end with it, so that a network pads there as it does in evaluation.

    Attributes:
        tile: pixels of a tile's side, a multiple of 16.
        overlap: pixels that neighbours share at least, 0..tile / 2.
        batch: tiles of one size that are predicted at once.
        margin: pixels along the sides at which a tile has neighbours that count nothing, below overlap / 2.
    """

    tile: int = 512
    overlap: int = 64
    batch: int = 1
    margin: int = 0

    def __post_init__(self) -> None:
        if self.tile < 2 * ALIGN or self.tile % ALIGN:
            raise ValueError(f"tile = {self.tile}: use a multiple of {ALIGN} pixels, {2 * ALIGN} or more")
        if not 0 <= self.overlap <= self.tile // 2:
            raise ValueError(f"overlap = {self.overlap}: use 0..{self.tile // 2} pixels, half a tile at most")
        if self.batch < 1:
            raise ValueError(f"batch = {self.batch}: use 1 or more")
        if self.margin and 2 * self.margin >= self.overlap:
            raise ValueError(f"overlap = {self.overlap}: this method needs {2 * self.margin + 1} or more pixels")

    def spans(self, length: int) -> list[tuple[int, int]]:
        """(first, number) of the pixels of each tile along a side of `length` pixels."""
        if length <= self.tile:
            return [(0, length)]
        step = (self.tile - self.overlap) // ALIGN
        last = -(-(length - self.tile) // ALIGN)
        gaps = -(-last // step)
        starts = [ALIGN * (index * last // gaps) for index in range(gaps + 1)]
        return [(start, min(self.tile, length - start)) for start in starts]

    def count(self, size: tuple[int, int]) -> int:
        """Tiles of an image of (height, width) pixels."""
        return len(self.spans(size[0])) * len(self.spans(size[1]))

    def weights(self, span: tuple[int, int], length: int) -> Tensor:
        """Weights of a tile's pixels along one side, float32.

        A linear ramp over the overlap: from `margin` pixels inside a side with a neighbour, where it is 0, to 1 at
        `overlap − margin`; of two tiles that share just the overlap the weights add up to 1.
        """
        start, number = span
        weights = torch.ones(number)
        if self.overlap:
            ramp = (torch.arange(number) + 0.5 - self.margin) / (self.overlap - 2 * self.margin)
            if start > 0:
                weights = torch.minimum(weights, ramp)
            if start + number < length:
                weights = torch.minimum(weights, ramp.flip(0))
        return weights.clamp(0, 1)


class Piece(NamedTuple):
    """A part of an image that is whole.

    Attributes:
        window: where it is.
        probabilities_KHW: float32, of the window.
        valid_HW: bool, whether there is data.
    """

    window: Window
    probabilities_KHW: Tensor
    valid_HW: Tensor


def blended(size: tuple[int, int], read: Read, predict: Predict, tiling: Tiling) -> Iterator[Piece]:
    """The probabilities of an image, each pixel once, those of a row of tiles after the other, from left to right.

    Where tiles overlap a pixel has the mean of their probabilities by `Tiling.weights`.

    Args:
        size: (height, width) of the image, pixels.
        read: gives a tile's image, as it is called for each tile once, row by row.
        predict: gives tiles their probabilities, each tile by itself.
        tiling: how the image is cut.
    """
    rows, columns = tiling.spans(size[0]), tiling.spans(size[1])
    shared: Tensor | None = None
    for number, (top, height) in enumerate(rows):
        # The first row of pixels to which a tile below has something to add.
        below = rows[number + 1][0] if number + 1 < len(rows) else size[0]
        overlap: Tensor | None = None
        for left, sums in _row(size, (top, height), columns, read, predict, tiling):
            width = sums.shape[2]
            if shared is not None:
                sums[:, : shared.shape[1]] += shared[:, :, left : left + width]
            if below < top + height:
                if overlap is None:
                    overlap = sums.new_empty((len(sums), top + height - below, size[1]))
                overlap[:, :, left : left + width] = sums[:, below - top :]
            done = sums[:, : below - top]
            yield Piece((top, left, below - top, width), done[:-2] / done[-1], done[-2] > 0.5 * done[-1])
        shared = overlap


def _row(
    size: tuple[int, int],
    rows: tuple[int, int],
    columns: Sequence[tuple[int, int]],
    read: Read,
    predict: Predict,
    tiling: Tiling,
) -> Iterator[tuple[int, Tensor]]:
    """Weighted sums [K + 2, h, w] over a row of tiles, as they become whole: of probabilities, validity and 1."""
    down = tiling.weights(rows, size[0])[:, None]
    held, start = None, 0
    for (left, width), (probabilities_KHW, valid_HW) in _predicted(rows, columns, read, predict, tiling):
        weights = (down * tiling.weights((left, width), size[1])).to(probabilities_KHW.device)
        extra = torch.stack((valid_HW.to(weights), torch.ones_like(weights)))
        sums = torch.cat((probabilities_KHW.float(), extra)) * weights
        if held is not None:
            yield start, held[:, :, : left - start]
            rest = held[:, :, left - start :]
            sums[:, :, : rest.shape[2]] += rest
        held, start = sums, left
    assert held is not None
    yield start, held


def _predicted(
    rows: tuple[int, int], columns: Sequence[tuple[int, int]], read: Read, predict: Predict, tiling: Tiling
) -> Iterator[tuple[tuple[int, int], tuple[Tensor, Tensor]]]:
    # Those that end with the image may be narrower.
    for _, alike in itertools.groupby(columns, key=lambda span: span[1]):
        spans = list(alike)
        for first in range(0, len(spans), tiling.batch):
            some = spans[first : first + tiling.batch]
            images, valid = zip(*(read((rows[0], left, rows[1], width)) for left, width in some), strict=True)
            yield from zip(some, zip(predict(torch.stack(images)), valid, strict=True), strict=True)


def enlarged(pieces: Iterable[Piece], size: tuple[int, int], target: tuple[int, int]) -> Iterator[Piece]:
    """Resized output of `blended`, from `size` = (height, width) to `target`, strip by strip.

    Bilinear, as `torch.nn.functional.interpolate(align_corners=False)` of the whole. Equal sizes change nothing.
    """
    if size == target:
        yield from pieces
        return
    low, high, share = _between(size[0], target[0])
    left, right, across = _between(size[1], target[1])
    strip = max(1, STRIP_PIXELS // target[1])
    held: Tensor | None = None
    done = first = 0
    for top, band in _bands(pieces):
        held = band if held is None else torch.cat((held, band), 1)
        whole = int((high < top + band.shape[1]).sum())
        for start in range(done, whole, strip):
            part = slice(start, min(start + strip, whole))
            rows = torch.lerp(held[:, low[part] - first], held[:, high[part] - first], share[part, None].to(held))
            values = torch.lerp(rows[:, :, left], rows[:, :, right], across.to(held))
            yield Piece((start, 0, values.shape[1], target[1]), values[:-1], values[-1] > 0.5)
        done = whole
        if done < target[0]:
            start = min(int(low[done]), top + band.shape[1])
            held, first = held[:, start - first :], start


def _bands(pieces: Iterable[Piece]) -> Iterator[tuple[int, Tensor]]:
    """Rows of pieces as one tensor [K + 1, h, W], the validity last."""
    for top, row in itertools.groupby(pieces, key=lambda piece: piece.window[0]):
        parts = [torch.cat((p.probabilities_KHW, p.valid_HW[None].to(p.probabilities_KHW))) for p in row]
        yield top, torch.cat(parts, 2)


def _between(have: int, want: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels on either side of each of `want` places along a side of `have` pixels, and the second one's share."""
    positions = ((torch.arange(want, dtype=torch.float64) + 0.5) * have / want - 0.5).clamp_min(0)
    low = positions.floor().long().clamp_max(have - 1)
    return low, (low + 1).clamp_max(have - 1), (positions - low).float()


def decided(probabilities_KHW: Tensor, valid_HW: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Classes, uint8 [H, W], 255 where not valid, and confidence, float32 [H, W].

    The confidence is (p₁ − p₂) / (p₁ + p₂) of the two best classes, 0..1. Of equal classes the first is taken.
    """
    best, second = probabilities_KHW.topk(2, dim=0).values
    confidence = (best - second) / (best + second).clamp_min(1e-30)
    # topk does not promise the first of equals.
    classes = probabilities_KHW.argmax(0).to(torch.uint8)
    classes[~valid_HW.to(classes.device)] = IGNORE_INDEX
    return classes.cpu().numpy(), confidence.float().cpu().numpy()
