"""A step's batch in parts: what the whole batch's sums are divided by is known before the first part learns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from miseg.interface import Batch, Method, Step


@torch.no_grad()
def counts_of(method: Method, parts: Sequence[Batch], forward: Callable[[int], Step]) -> Tensor:
    """The sum of what `method` will count in the parts, [T].

    Args:
        method: what learns; its buffers, such as the statistics of batch norm, stay as they are.
        parts: of this rank's share of a step's batch.
        forward: gives the step of a part by its number, with the random draws that it will have when it learns; called
            where the method cannot say without what it counts.
    """
    known = [method.counts(part) for part in parts]
    counts = [each for each in known if each is not None]
    if len(counts) < len(parts):
        with buffers_restored(method):
            counts = [forward(number).count for number in range(len(parts))]
    return torch.stack(counts).sum(0)


@contextlib.contextmanager
def buffers_restored(module: torch.nn.Module) -> Iterator[None]:
    """A module's buffers are at the end what they were before."""
    before = copied_buffers(module)
    try:
        yield
    finally:
        restore_buffers(module, before)


def sum_of(values: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape; of one alone, itself."""
    return values[0] if len(values) == 1 else torch.stack(list(values)).sum(0)


def copied_buffers(module: torch.nn.Module) -> list[Tensor]:
    """Copies of a module's buffers, for `restore_buffers`."""
    return [buffer.clone() for buffer in module.buffers()]


@torch.no_grad()
def restore_buffers(module: torch.nn.Module, before: Sequence[Tensor]) -> None:
    """Give a module's buffers the values that they had."""
    for buffer, value in zip(module.buffers(), before, strict=True):
        buffer.copy_(value)
