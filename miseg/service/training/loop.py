"""The training loop: torch and the contracts, nothing of Ray, so that a test runs it in its own process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from miseg.interface import Batch, Method, Step, Task, combine
from miseg.methods import build_method
from miseg.networks.blocks import with_shared_batch_norm
from miseg.optimisation.accumulation import copied_buffers, counts_of, restore_buffers, sum_of
from miseg.optimisation.averaging import WeightAverage
from miseg.optimisation.compilation import as_written, compile_networks
from miseg.optimisation.optimisers import build_optimiser
from miseg.optimisation.schedules import learning_rate_factor
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints.random_state import random_state, seed_everything, set_random_state
from miseg.service.training.records import PendingStep, StepRecord, records_of
from miseg.service.training.scoring import Evaluation, Scoring, evaluate

SKIPS_IN_A_ROW = 20
"""Steps that may be left out one after the other: a network that is itself broken has no finite loss any more."""


COUNTS_AGREE = 1e-5
"""Relative difference between what a method says that it will count and what it counts: rounding, and no more."""


class Loop:
    """One worker's share of an experiment's training.

    Args:
        experiment: what to train.
        task: classes and channels of the data.
        device: where this worker trains.
        pretrained: whether networks start from the weights that the experiment names; not where `load_state` follows.

    With torch.distributed initialised, every rank runs the same steps on its share of each global batch, and the
    losses and gradients are those of one worker with the whole batch (batch norm aside).

    Attributes:
        not_compiled: why the networks are not compiled though the experiment asks for it; "" where they are.
    """

    def __init__(
        self, experiment: Experiment, task: Task, device: torch.device | str = "cpu", *, pretrained: bool = True
    ) -> None:
        seed_everything(experiment.seed)
        self.experiment, self.task, self.device = experiment, task, torch.device(device)
        # Channels last is what oneDNN and cuDNN compute in: measured 1.5 times faster a step on two cores.
        self.memory_format = torch.channels_last
        method = build_method(experiment.method, task, pretrained=pretrained)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if self.world > 1 and self.device.type == "cuda":
            # Torch has it for GPUs alone: on the CPU each rank's batch norm sees its own share.
            method = with_shared_batch_norm(method)
        self.method = method.to(device=self.device).to(memory_format=self.memory_format)
        self.method.micro_batches = experiment.accumulate
        decay = experiment.optimiser.ema_decay
        self.average = None if decay is None else WeightAverage(self.method, decay)
        # The networks and not the method, so that the names of the weights stay, and losses run as they are written.
        self.not_compiled = compile_networks(self.method, self.device) if experiment.compile else ""
        self.model: nn.Module = self.method
        if self.world > 1:
            ids = [self.device.index or 0] if self.device.type == "cuda" else None
            self.model = DistributedDataParallel(self.method, device_ids=ids)
        groups = self.method.param_groups(experiment.optimiser.learning_rate)
        self.optimiser = build_optimiser(groups, experiment.optimiser)
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.precision = resolve_precision(experiment.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)
        self.step = 0
        self._pending: list[PendingStep] = []
        self._skips_in_a_row = 0

    @property
    def evaluated(self) -> Method:
        """The method with the weights that are evaluated, kept and served: their average, where there is one."""
        averaged: Any = self.method if self.average is None else self.average.module
        return averaged

    def train_step(self, batch: Batch) -> None:
        """One optimiser step; its losses wait on the device for `flush`."""
        self.method.train()
        self.method.progress = self.evaluated.progress = self.step / self.experiment.steps
        batch = batch.to(self.device, memory_format=self.memory_format)
        if self.method.supervision == "none":
            batch = batch.without_labels(self.task.ignore_index)
        factor = learning_rate_factor(self.step, self.experiment.steps, self.experiment.optimiser)
        for group, base in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
        may_skip = self.experiment.non_finite == "skip" and self._skips_in_a_row < SKIPS_IN_A_ROW
        buffers = copied_buffers(self.method) if may_skip else []
        pending = self._backward(batch)
        pending.skipped = may_skip and not self._finite(pending.total)
        if pending.skipped:
            # What a batch norm saw of these images must not stay either.
            restore_buffers(self.method, buffers)
        else:
            if self.experiment.optimiser.clip is not None:
                self.scaler.unscale_(self.optimiser)
                self._clip(self.experiment.optimiser.clip)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            if self.average is not None:
                self.average.update(self.method)
        self._skips_in_a_row = self._skips_in_a_row + 1 if pending.skipped else 0
        self.optimiser.zero_grad(set_to_none=True)
        self._pending.append(pending)
        self.step += 1

    def _backward(self, batch: Batch) -> PendingStep:
        """Leave the gradient of the loss of all ranks' batches in the parameters."""
        parts = batch.parts(self.experiment.accumulate)
        own = count = None
        if len(parts) > 1:
            with self._as_written():
                own = counts_of(self.method, parts, lambda number: self._forward(self.method, parts, number))
            count = self._summed(own)
        results: list[Step] = []
        for number in range(len(parts)):
            with self._gradients_joined(number == len(parts) - 1):
                result = self._forward(self.model, parts, number)
                if count is None:
                    count = self._summed(result.count)
                # DDP averages gradients over ranks, so that each rank's share of the global sum is multiplied back.
                loss = self.world * combine(result.total, count.to(result.total.dtype))
                self.scaler.scale(loss).backward()
            results.append(Step(result.total.detach(), result.count, result.scalars))
        assert count is not None
        counted = sum_of([result.count for result in results])
        differs = torch.zeros_like(count) if own is None else (counted - own).abs() > COUNTS_AGREE * own.abs()
        return PendingStep(
            self.step,
            batch.ids,
            self.optimiser.param_groups[0]["lr"],
            sum_of([result.total for result in results]),
            count,
            {name: sum_of([result.scalars[name] for result in results]) / len(results) for name in results[0].scalars},
            self._any_counts(batch),
            differs.any().float(),
        )

    def _forward(self, model: nn.Module, parts: Sequence[Batch], number: int) -> Step:
        """The step of one part of this rank's batch."""
        # What a part draws depends on nothing but these: ranks draw differently, and a resumed run draws the same.
        origin = (self.experiment.seed, self.step, self.rank, number)[: 4 if number else 3]
        torch.manual_seed(int(np.random.SeedSequence(origin).generate_state(1)[0]))
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
            return model(parts[number])

    def _gradients_joined(self, now: bool) -> AbstractContextManager[None]:
        """Summation of gradients over the ranks, which waits for the last part of a batch: `now` is false till then."""
        if now or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _as_written(self) -> AbstractContextManager[None]:
        """Nothing is compiled for modes and sizes that training does not have."""
        return as_written() if self.experiment.compile else contextlib.nullcontext()

    def _summed(self, count: Tensor) -> Tensor:
        """A copy of the counts, summed over the ranks."""
        count = count.detach().clone()
        if self.world > 1:
            dist.all_reduce(count)
        return count

    def _any_counts(self, batch: Batch) -> Tensor:
        """1 where any pixel of this rank's batch counts, else 0; it stays on the device."""
        valid_NHW = batch.valid_NHW if batch.labels_NHW is None else batch.labels_NHW != self.task.ignore_index
        if valid_NHW is None:
            return torch.ones((), device=self.device)
        return valid_NHW.any().float()

    def _finite(self, total: Tensor) -> bool:
        """Whether the loss and the gradient are finite on all ranks."""
        values = [total.sum()]
        if not self.scaler.is_enabled():  # the scaler itself leaves out steps whose scaled gradient is infinite
            values += [p.grad.sum() for p in self.method.parameters() if p.grad is not None]
        finite = torch.stack([value.float() for value in values]).isfinite().all().float()
        if self.world > 1:
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        return bool(finite)

    def _clip(self, largest: float) -> None:
        together: dict[Any, list[Tensor]] = {}
        for group in self.optimiser.param_groups:
            together.setdefault(group.get("clip"), []).extend(group["params"])
        for parameters in together.values():
            nn.utils.clip_grad_norm_(parameters, largest)

    def flush(self) -> list[StepRecord]:
        """The records of the steps since the last flush.

        Raises:
            NonFiniteLossError: a step's loss was NaN or infinite, on whichever rank; every rank raises.
        """
        if not self._pending:
            return []
        pending, self._pending = self._pending, []
        return records_of(pending, type(self.method).__name__, self.world)

    def evaluate(self, batches: Iterable[Batch], keep: int = 0, *, objective: bool = True) -> Evaluation:
        """The scores over all ranks' batches, and this rank's first `keep` images with their predictions."""
        scoring = Scoring(keep=keep, objective=objective, loss=objective)
        with self._as_written():
            return evaluate(self.evaluated, self.task, batches, self.device, self.precision, scoring)

    def share_buffers(self) -> None:
        """Give what is evaluated rank 0's buffers, which are what a checkpoint keeps; every rank must call it.

        On CPUs each rank's batch norm sees its own images.
        """
        for buffer in self.evaluated.buffers() if self.world > 1 else ():
            dist.broadcast(buffer, 0)

    def state(self) -> dict[str, Any]:
        """All but the weights of `evaluated` that the next step depends on.

        It is safe to read back with `torch.load(weights_only=True)`. With an average the trained weights are in it.
        """
        average = self.average
        averaging = {} if average is None else {"trained": self.method.state_dict(), "averaged": average.updates}
        return {
            "step": self.step,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_state(self.device),
        } | averaging

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.step = state["step"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.method.load_state_dict(state["trained"])
            self.average.updates = state["averaged"]
        set_random_state(state["random"], self.device)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type the network computes in: "auto" is half precision where the GPU has it and float32 elsewhere."""
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
