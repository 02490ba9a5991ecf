"""Patches that do not belong together: whose representations a patch's local map is told from.

Shape suffixes: N representations of this rank, M of all ranks, Z components.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from miseg.losses.labels import at_least_single


class Unpaired(NamedTuple):
    """Representations to choose from, and which of them each local map is scored with.

    Attributes:
        pool_MZ: the representations.
        index_N: for each local map of this rank the row of `pool_MZ`.
    """

    pool_MZ: Tensor
    index_N: Tensor


def of_neighbours(representations_NZ: Tensor) -> Unpaired:
    """The neighbour's: 0 with 1, 2 with 3 and so on; ranks that take even shares compute what one rank does."""
    return Unpaired(representations_NZ, torch.arange(len(representations_NZ), device=representations_NZ.device) ^ 1)


def shuffled(representations_NZ: Tensor, *, views: Literal[1, 2] = 2, across_ranks: bool = True) -> Unpaired:
    """Representations of the pairs (X_i, Y_σ(i)); σ shuffles the whole batch, of which about one pair stays as it was.

    Args:
        representations_NZ: beside the first views' local maps, then, as many, beside the second views': with each
            X_i that of Y_σ(i), and with each Y_σ(i) that of X_i.
        views: 1 where there are no second views, so that with each X_i is that of X_σ(i).
        across_ranks: whether the batch is that of all ranks of an initialised torch.distributed, with gradients. Then
            every rank must call.

    Raises:
        ValueError: one pair in the whole batch, which has no other.
    """
    pools = representations_NZ.chunk(views)
    first, pairs = 0, len(pools[0])
    mine = slice(first, pairs)
    if across_ranks and dist.is_initialized() and dist.get_world_size() > 1:
        sizes = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=representations_NZ.device)
        sizes[dist.get_rank()] = pairs
        dist.all_reduce(sizes)
        first, pairs = int(sizes[: dist.get_rank()].sum()), int(sizes.sum())
        mine = slice(first, first + len(pools[0]))
        pools = tuple(_of_all(pool, first, pairs) for pool in pools)
    if pairs < 2:
        one = "pair" if views == 2 else "patch"
        raise ValueError(f"one {one} in a batch: there is no other to tell it from, use 2 or more")
    order = torch.randperm(pairs).to(representations_NZ.device)
    if across_ranks and dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast(order, 0)
    index_N = order[mine] if views == 1 else torch.cat([order[mine], pairs + order.argsort()[mine]])
    return Unpaired(torch.cat(pools), index_N)


def _of_all(mine: Tensor, first: int, pairs: int) -> Tensor:
    """The rows of all ranks, of which this one's begin at `first`; shares may be of different sizes."""
    mine = at_least_single(mine)  # not every backend sums half precision
    rows = mine.new_zeros(pairs, mine.shape[1])
    gathered: Tensor = all_reduce(rows.index_copy(0, torch.arange(first, first + len(mine), device=mine.device), mine))
    return gathered
