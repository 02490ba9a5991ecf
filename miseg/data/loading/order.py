"""The deterministic stream of training samples.

Position p of the stream is the p-th image that training sees, over all workers. What happens there is a function of
(seed, p) and the split's ids, so the number of workers, a resume and the order of files change nothing. Every purpose
has its own stream of random numbers; the same seed on the same NumPy gives the same numbers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from miseg.data.configs import Order

_SHUFFLE, _REPLACEMENT, _BUDGET, _AUGMENTATION, _PAIRS = range(5)
_BLOCK = 1024


def draw(start: int, stop: int, size: int, seed: int, order: Order) -> np.ndarray:
    """Indices (0..size-1) at positions [start, stop) of the endless stream: int64 [stop - start].

    They count the images in the order of their ids: see `PackedDataset.rows_by_id`.
    "shuffle": position p lies in epoch p // size, and every epoch is its own permutation. "replacement": every draw is
    independent of all others.

    Raises:
        ValueError: an empty data set, a range that runs backwards or starts below 0, or an unknown order.
    """
    if size < 1:
        raise ValueError(f"size = {size}: there is no image to draw; pack at least one")
    if not 0 <= start <= stop:
        raise ValueError(f"positions [{start}, {stop}): use 0 <= start <= stop")
    if order == "shuffle":
        length, part = size, _epoch
    elif order == "replacement":
        length, part = _BLOCK, _block
    else:
        raise ValueError(f"order = {order!r}: use 'shuffle' or 'replacement'")
    pieces = []
    for number in range(start // length, -(-stop // length)):
        first = number * length
        pieces.append(part(size, seed, number)[max(start - first, 0) : stop - first])
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


def budget_subset(size: int, labelled_images: int, seed: int) -> np.ndarray:
    """The images whose labels are used, of `size`: their numbers in the order of ids, sorted, int64 [labelled_images].

    For one seed fewer images are among more, so that budgets are compared on nested sets.

    Raises:
        ValueError: labelled_images below 1 or above size.
    """
    if not 1 <= labelled_images <= size:
        raise ValueError(
            f"labelled_images = {labelled_images}: the split has {size} images; use 1..{size}, or leave it out"
        )
    return np.sort(np.random.default_rng((_BUDGET, seed)).permutation(size)[:labelled_images]).astype(np.int64)


def augmentation_generator(seed: int, position: int) -> np.random.Generator:
    """The random numbers that augment the sample at `position` of the stream."""
    return np.random.default_rng((_AUGMENTATION, seed, position))


def pair_generator(seed: int, group: int) -> np.random.Generator:
    """The random numbers that draw the pairs of patches of a group of neighbours in the stream."""
    return np.random.default_rng((_PAIRS, seed, group))


# A step asks for a few positions of one epoch; without the cache each would shuffle the whole epoch again.
@lru_cache(maxsize=4)
def _epoch(size: int, seed: int, epoch: int) -> np.ndarray:
    permutation = np.random.default_rng((_SHUFFLE, seed, epoch)).permutation(size).astype(np.int64)
    permutation.flags.writeable = False
    return permutation


@lru_cache(maxsize=4)
def _block(size: int, seed: int, block: int) -> np.ndarray:
    draws = np.random.default_rng((_REPLACEMENT, seed, block)).integers(size, size=_BLOCK, dtype=np.int64)
    draws.flags.writeable = False
    return draws
