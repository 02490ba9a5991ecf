"""Records of training steps, read from the device for several steps at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from miseg.interface import combine


@dataclass(frozen=True)
class StepRecord:
    """Log of one step: `values` by metric name, why it was left out, if it was, and whether it was empty."""

    step: int
    values: dict[str, float]
    skipped: str = ""
    empty: str = ""


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the message names the step, the images and the learning rate.

    Attributes:
        records: of the steps before it that were not flushed yet.
    """

    def __init__(self, message: str, records: Iterable[StepRecord] = ()) -> None:
        super().__init__(message)
        self.records = tuple(records)


@dataclass
class PendingStep:
    """A step's results while they are still on the device: reading them at once would stall it."""

    step: int
    ids: tuple[str, ...]
    learning_rate: float
    total: Tensor
    count: Tensor
    scalars: dict[str, Tensor]
    counted: Tensor
    """1 where any pixel of this rank's batch counts, else 0."""
    miscounted: Tensor
    """1 where the parts of this rank's batch counted what the method had not said before, else 0."""
    skipped: bool = False


def records_of(pending: Sequence[PendingStep], method: str, world: int) -> list[StepRecord]:
    """The records of steps, at least one, of all of `world` ranks, each of which must call it.

    Args:
        pending: this rank's results.
        method: name of the class that made them.
        world: number of ranks.

    Raises:
        NonFiniteLossError: a step's loss was NaN or infinite, on whichever rank; every rank raises.
        ValueError: the method's `counts` are not what its `forward` counts, on whichever rank.
    """
    totals = torch.stack([item.total.double() for item in pending])
    names = list(pending[0].scalars)
    scalars = (
        torch.stack([torch.stack([item.scalars[n].double() for n in names]) for item in pending]) if names else None
    )
    flags = torch.stack([torch.stack((item.counted, item.miscounted)) for item in pending], 1)
    if world > 1:
        dist.all_reduce(totals)
        dist.all_reduce(flags)
        if scalars is not None:
            dist.all_reduce(scalars)
            scalars /= world
    counted, miscounted = flags.tolist()
    if any(miscounted):
        step = pending[[value > 0 for value in miscounted].index(True)].step
        raise ValueError(
            f"{method}.counts says other numbers than {method}.forward counts in the parts of a batch (step {step}): "
            "gradients would be divided by the wrong ones; mend it, or let it return None"
        )
    records: list[StepRecord] = []
    for row, item in enumerate(pending):
        loss = combine(totals[row], item.count.double()).item()
        if item.skipped or not math.isfinite(loss):
            where = f"at step {item.step} (learning rate {item.learning_rate:.3g}, images "
            where += ", ".join(_ids_of_all_ranks(item.ids, world)) + ")"
            if item.skipped:
                fault = "gradient is not finite" if math.isfinite(loss) else f"loss is {loss}"
                problem = f"the {fault} {where}: the step is left out"
                records.append(StepRecord(item.step, {"train/skipped": 1.0}, problem))
                continue
            raise NonFiniteLossError(
                f"the loss is {loss} {where}: lower the learning rate, clip the gradient or look at these images",
                records,
            )
        parts = {f"train/{n}": scalars[row, i].item() for i, n in enumerate(names)} if scalars is not None else {}
        empty = ""
        if not counted[row]:
            ids = ", ".join(_ids_of_all_ranks(item.ids, world))
            empty = f"no pixel counts at step {item.step} (images {ids}): it teaches nothing"
        values = {"train/loss": loss, "train/learning_rate": item.learning_rate} | parts
        records.append(StepRecord(item.step, values, empty=empty))
    return records


def _ids_of_all_ranks(ids: tuple[str, ...], world: int) -> list[str]:
    """The whole batch's ids in rank order: the image at fault may be another rank's. Every rank must ask."""
    shares: list[tuple[str, ...]] = [ids] * world
    if world > 1:
        dist.all_gather_object(shares, ids)
    return [name for share in shares for name in share]
