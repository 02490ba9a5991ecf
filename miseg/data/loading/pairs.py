"""Pairs of patches of one place, and whole scenes, as plain generators over a packed data set.

Values leave as float32, standardised by date: what differs between two dates of a place is then more the ground than
the light.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import minimum_filter

from miseg.data.configs import Pairs
from miseg.data.loading.batches import check_share, shared_among
from miseg.data.loading.order import pair_generator
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.row import PackedRow
from miseg.data.samples import IGNORE_LABEL

GROUP = 32
"""Neighbours in the stream that are drawn from one pair of chips, so that a chip is decoded for many patches."""

TURNS: Mapping[str, tuple[int, ...]] = {"all": tuple(range(8)), "rotations": (0, 1, 2, 3), "flips": (0, 2, 4, 6)}
"""Symmetries of a square that each setting of `Pairs.turns` draws from: quarter turns, and 4 more that are flipped."""

UNLABELLED = "unlabelled"
"""Split whose images have no labels."""

_CACHE_BYTES = 2**27
_TRIES = 1000


class Chip(NamedTuple):
    """A decoded row.

    Attributes:
        id: the row's.
        values: float32 [H, W, C], standardised; 0 where not valid.
        valid: bool [H, W]: pixels with data and without cloud.
        labels: uint8 [H, W], 255 where there is no label, and where not valid.
    """

    id: str
    values: np.ndarray
    valid: np.ndarray
    labels: np.ndarray


def open_chip(dataset: PackedDataset, row: PackedRow) -> Chip:
    """The pixels of a row, standardised with the statistics of its date, or of the data set where it has none.

    Raises:
        ValueError: bytes that do not decode, or a date without statistics.
    """
    image, mask = decode(row)
    info = dataset.info
    dated = row.series is not None and row.date is not None and bool(info.dates)
    mean, std = info.at(row.series, row.date) if dated else (info.mean, info.std)  # type: ignore[arg-type]
    valid = np.ones(image.shape[:2], bool) if info.nodata is None else (image != info.nodata).any(2)
    values = (image.astype(np.float32) / info.full_scale - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    values[~valid] = 0
    labels = np.full(valid.shape, IGNORE_LABEL, np.uint8) if mask is None else np.where(valid, mask, IGNORE_LABEL)
    return Chip(row.id, values, valid, labels.astype(np.uint8))


def pairs_split(pairs: Pairs, splits: Sequence[str]) -> str:
    """The split whose chips pairs are cut from."""
    return UNLABELLED if pairs.unlabelled and UNLABELLED in splits else "train"


def pair_batches(
    dataset: PackedDataset,
    split: str,
    pairs: Pairs,
    *,
    patch: int,
    seed: int,
    batch_size: int,
    start_step: int,
    stop_step: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[dict[str, Any]]:
    """This rank's share of the pairs of steps [start_step, stop_step).

    Pairs are drawn as `miseg.data.loading.order` says of images: those of a step depend neither on the number of ranks
    nor on where a run was resumed. A group of `GROUP` neighbours comes from one chip, drawn from all with equal chance,
    and from the same place at another date; middles are drawn where both patches are whole, or, where no patch is,
    where both middles are valid.

    Args:
        dataset: where the chips are; those with one `series` show one place.
        split: which of its splits.
        pairs: how views are drawn.
        patch: pixels of a patch's side, odd.
        seed: 0 or more.
        batch_size: pairs a step over all ranks.
        start_step: first step, 0 or more.
        stop_step: the step after the last.
        rank: this worker, 0..world-1.
        world: number of workers.

    Returns:
        An iterator over {"step": int, "images", "views": float32 [n, C, P, P], "ids": list of n strings} with n =
        batch_size / world.

    Raises:
        ValueError: at once for settings that do not fit together; while iterating, where no chip has a valid pixel, or
            a row cannot be read.
    """
    share = shared_among(batch_size, rank, world)
    if patch < 1 or patch % 2 == 0:
        raise ValueError(f"patch = {patch}: use an odd number of pixels")
    draws = _Draws(dataset, split, pairs, patch, seed)

    def batches() -> Iterator[dict[str, Any]]:
        for step in range(start_step, stop_step):
            first = step * batch_size + rank * share
            yield {"step": step} | draws.positions(first, first + share)

    return batches()


def scene_batches(
    dataset: PackedDataset, split: str, *, min_valid: float = 0.0, rank: int = 0, world: int = 1
) -> Iterator[dict[str, Any]]:
    """This rank's share of a split's chips, one a batch, in order: whole scenes for methods that compare patches.

    Args:
        dataset: where the chips are.
        split: which of its splits.
        min_valid: share of a chip's pixels that must be valid, 0..1; others are left out.
        rank: this worker, 0..world-1.
        world: number of workers; each chip comes once over all.

    Returns:
        An iterator over {"images": float32 [1, C, H, W] standardised, "labels": uint8 [1, H, W], "ids": list of 1}.

    Raises:
        ValueError: at once for a rank that is none; while iterating, when a row cannot be read.
    """
    check_share(1, rank, world)
    size = dataset.size(split)
    mine = range(size * rank // world, size * (rank + 1) // world)

    def batches() -> Iterator[dict[str, Any]]:
        for index in mine:
            chip = open_chip(dataset, dataset.read(split, index))
            if chip.valid.mean() < min_valid:
                continue
            images = np.ascontiguousarray(chip.values.transpose(2, 0, 1))[None]
            yield {"images": images, "labels": chip.labels[None], "ids": [chip.id]}

    return batches()


class _Draws:
    def __init__(self, dataset: PackedDataset, split: str, pairs: Pairs, patch: int, seed: int) -> None:
        self.dataset, self.split, self.pairs, self.patch, self.seed = dataset, split, pairs, patch, seed
        self.series = [series for _, series, _ in dataset.index(split)]
        self.rows = dataset.rows_by_id(split).tolist()
        self.by_series: dict[str, list[int]] = {}
        for row in self.rows:
            series = self.series[row]
            if series is not None:
                self.by_series.setdefault(series, []).append(row)
        self._chips: OrderedDict[int, _Patches] = OrderedDict()

    def positions(self, start: int, stop: int) -> dict[str, Any]:
        """The pairs at positions [start, stop) of the stream."""
        parts = []
        for group in range(start // GROUP, -(-stop // GROUP)):
            drawn = self._group(group)
            part = slice(max(start - group * GROUP, 0), stop - group * GROUP)
            parts.append((drawn[0][part], drawn[1][part], drawn[2][part]))
        images, views, ids = zip(*parts, strict=True)
        return {"images": np.concatenate(images), "views": np.concatenate(views), "ids": list(chain(*ids))}

    def _group(self, group: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        rng = pair_generator(self.seed, group)
        first, second, possible = self._chosen(rng)
        rows, columns = np.unravel_index(rng.choice(np.flatnonzero(possible), GROUP), possible.shape)
        shifts = rng.integers(-self.pairs.shift, self.pairs.shift + 1, size=(2, GROUP))
        height, width = possible.shape
        beside = (rows + shifts[0]).clip(0, height - 1), (columns + shifts[1]).clip(0, width - 1)
        images = self._augmented(first.patches[rows, columns], rng)
        views = self._augmented(second.patches[beside], rng)
        return images, views, [first.id] * GROUP

    def _chosen(self, rng: np.random.Generator) -> tuple[_Patches, _Patches, np.ndarray]:
        """Two chips of one place, which may be the same, and where both can have middles."""
        for _ in range(_TRIES):
            index = self.rows[int(rng.integers(len(self.rows)))]
            others = [n for n in self.by_series.get(self.series[index] or "", ()) if n != index]
            elsewhen = bool(others) and rng.random() < self.pairs.other_date
            first = self._patches(index)
            second = self._patches(int(rng.choice(others))) if elsewhen else first
            if min(first.valid.mean(), second.valid.mean()) < self.pairs.min_valid:
                continue
            for possible in (first.whole & second.whole, first.valid & second.valid):
                if possible.any():
                    return first, second, possible
        raise ValueError(
            f"{self.dataset.uri}: in {_TRIES} draws from split {self.split!r} no two dates of a place were clear "
            f"(min_valid = {self.pairs.min_valid}) and shared a valid pixel: lower it, or pack clearer dates"
        )

    def _patches(self, index: int) -> _Patches:
        if index not in self._chips:
            self._chips[index] = _Patches.of(open_chip(self.dataset, self.dataset.read(self.split, index)), self.patch)
        self._chips.move_to_end(index)
        while len(self._chips) > 2 and sum(chip.bytes for chip in self._chips.values()) > _CACHE_BYTES:
            self._chips.popitem(last=False)
        return self._chips[index]

    def _augmented(self, patches_NCPP: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        number, bands = patches_NCPP.shape[:2]
        result = np.empty(patches_NCPP.shape, np.float32)
        drawn = rng.integers(len(TURNS[self.pairs.turns]), size=number) if self.pairs.turn else np.zeros(number, int)
        turns = np.asarray(TURNS[self.pairs.turns])[drawn]
        for turn in range(8):
            turned = np.rot90(patches_NCPP[turns == turn], turn % 4, (2, 3))
            result[turns == turn] = turned[..., ::-1] if turn >= 4 else turned
        gain, offset = (self.pairs.jitter * rng.standard_normal((2, number, bands, 1, 1))).astype(np.float32)
        return result * (1 + gain) + offset


class _Patches(NamedTuple):
    """A chip's patches: around every pixel one, those beyond the chip's border being reflected.

    Attributes:
        id: the row's.
        patches: float32 [H, W, C, P, P], a view of the padded chip.
        valid: bool [H, W]: pixels with data.
        whole: bool [H, W]: middles of patches that are valid throughout.
        bytes: memory that the chip takes.
    """

    id: str
    patches: np.ndarray
    valid: np.ndarray
    whole: np.ndarray
    bytes: int

    @classmethod
    def of(cls, chip: Chip, patch: int) -> _Patches:
        border = patch // 2
        if min(chip.valid.shape) <= border:
            height, width = chip.valid.shape
            raise ValueError(f"{chip.id}: {height} x {width} pixels are too few for patches of {patch} a side")
        padded = np.pad(chip.values, ((border, border), (border, border), (0, 0)), mode="reflect")
        patches = np.lib.stride_tricks.sliding_window_view(padded, (patch, patch), axis=(0, 1))
        whole = minimum_filter(chip.valid, size=patch, mode="mirror")
        return cls(chip.id, patches, chip.valid, whole, padded.nbytes)
