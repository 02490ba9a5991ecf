"""The training loop: torch and the contracts, nothing of Ray, so that a test runs it in its own process."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from miseg.interface import Batch, Task, combine
from miseg.methods import build_method
from miseg.networks.blocks import with_shared_batch_norm
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.training.scoring import Evaluation, Scoring, evaluate


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the message names the step, the images and the learning rate.

    Attributes:
        records: of the steps before it that were not flushed yet.
    """

    def __init__(self, message: str, records: Iterable[StepRecord] = ()) -> None:
        super().__init__(message)
        self.records = tuple(records)


SKIPS_IN_A_ROW = 20
"""Steps that may be left out one after the other: a network that is itself broken has no finite loss any more."""


@dataclass(frozen=True)
class StepRecord:
    """Log of one step: `values` by metric name, why it was left out, if it was, and whether it was empty."""

    step: int
    values: dict[str, float]
    skipped: str = ""
    empty: str = ""


@dataclass
class _Pending:
    """A step's results while they are still on the device: reading them at once would stall it."""

    step: int
    ids: tuple[str, ...]
    learning_rate: float
    total: Tensor
    count: Tensor
    scalars: dict[str, Tensor]
    counted: Tensor
    skipped: bool = False


class Loop:
    """One worker's share of an experiment's training.

    Args:
        experiment: what to train.
        task: classes and channels of the data.
        device: where this worker trains.
        pretrained: whether networks start from the weights that the experiment names; not where `load_state` follows.

    With torch.distributed initialised, every rank runs the same steps on its share of each global batch, and the
    losses and gradients are those of one worker with the whole batch (batch norm aside).
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
        self.model: nn.Module = self.method
        if self.world > 1:
            ids = [self.device.index or 0] if self.device.type == "cuda" else None
            self.model = DistributedDataParallel(self.method, device_ids=ids)
        self.optimiser = build_optimiser(self.method.param_groups(experiment.optimiser.learning_rate), experiment)
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.precision = resolve_precision(experiment.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)
        self.step = 0
        self._pending: list[_Pending] = []
        self._skips_in_a_row = 0

    def train_step(self, batch: Batch) -> None:
        """One optimiser step; its losses wait on the device for `flush`."""
        # What a step draws depends on nothing but these: ranks draw differently, and a resumed run draws the same.
        origin = np.random.SeedSequence((self.experiment.seed, self.step, self.rank))
        torch.manual_seed(int(origin.generate_state(1)[0]))
        self.method.train()
        self.method.progress = self.step / self.experiment.steps
        batch = batch.to(self.device, memory_format=self.memory_format)
        if self.method.supervision == "none":
            batch = batch.without_labels(self.task.ignore_index)
        factor = learning_rate_factor(self.step, self.experiment.steps, self.experiment.optimiser)
        for group, base in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
        may_skip = self.experiment.non_finite == "skip" and self._skips_in_a_row < SKIPS_IN_A_ROW
        buffers = [buffer.clone() for buffer in self.method.buffers()] if may_skip else []
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
            result = self.model(batch)
        count = result.count.detach().clone()
        if self.world > 1:
            dist.all_reduce(count)
        # DDP averages gradients over ranks, so that each rank's share of the global sum is multiplied back.
        loss = self.world * combine(result.total, count)
        self.scaler.scale(loss).backward()
        skipped = may_skip and not self._finite(result.total.detach())
        if skipped:
            # What a batch norm saw of these images must not stay either.
            for buffer, before in zip(self.method.buffers(), buffers, strict=True):
                buffer.copy_(before)
        else:
            if self.experiment.optimiser.clip is not None:
                self.scaler.unscale_(self.optimiser)
                self._clip(self.experiment.optimiser.clip)
            self.scaler.step(self.optimiser)
            self.scaler.update()
        self._skips_in_a_row = self._skips_in_a_row + 1 if skipped else 0
        self.optimiser.zero_grad(set_to_none=True)
        rate = self.optimiser.param_groups[0]["lr"]
        self._pending.append(
            _Pending(
                self.step,
                batch.ids,
                rate,
                result.total.detach(),
                count,
                result.scalars,
                self._any_counts(batch),
                skipped,
            )
        )
        self.step += 1

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
        totals = torch.stack([item.total.double() for item in pending])
        names = list(pending[0].scalars)
        scalars = (
            torch.stack([torch.stack([item.scalars[n].double() for n in names]) for item in pending]) if names else None
        )
        counted = torch.stack([item.counted for item in pending])
        if self.world > 1:
            dist.all_reduce(totals)
            dist.all_reduce(counted)
            if scalars is not None:
                dist.all_reduce(scalars)
                scalars /= self.world
        records: list[StepRecord] = []
        for row, item in enumerate(pending):
            loss = combine(totals[row], item.count.double()).item()
            if item.skipped or not np.isfinite(loss):
                where = f"at step {item.step} (learning rate {item.learning_rate:.3g}, images "
                where += ", ".join(self._ids_of_all_ranks(item.ids)) + ")"
                if item.skipped:
                    fault = "gradient is not finite" if np.isfinite(loss) else f"loss is {loss}"
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
                ids = ", ".join(self._ids_of_all_ranks(item.ids))
                empty = f"no pixel counts at step {item.step} (images {ids}): it teaches nothing"
            values = {"train/loss": loss, "train/learning_rate": item.learning_rate} | parts
            records.append(StepRecord(item.step, values, empty=empty))
        return records

    def _ids_of_all_ranks(self, ids: tuple[str, ...]) -> list[str]:
        """The whole batch's ids in rank order: the image at fault may be another rank's. Every rank must ask."""
        shares: list[tuple[str, ...]] = [ids] * self.world
        if self.world > 1:
            dist.all_gather_object(shares, ids)
        return [name for share in shares for name in share]

    def evaluate(self, batches: Iterable[Batch], keep: int = 0, *, objective: bool = True) -> Evaluation:
        """The scores over all ranks' batches, and this rank's first `keep` images with their predictions."""
        scoring = Scoring(keep=keep, objective=objective)
        return evaluate(self.method, self.task, batches, self.device, self.precision, scoring)

    def state(self) -> dict[str, Any]:
        """All but the weights that the next step depends on; safe to read back with `torch.load(weights_only=True)`."""
        return {
            "step": self.step,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
                "numpy": _numpy_state(),
                "python": random.getstate(),
            },
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.step = state["step"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"]["torch"].cpu())
        if self.device.type == "cuda" and len(state["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([value.cpu() for value in state["random"]["cuda"]])
        name, keys, *rest = state["random"]["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
        version, numbers, gauss = state["random"]["python"]
        random.setstate((version, tuple(numbers), gauss))


def learning_rate_factor(step: int, steps: int, settings: Optimiser) -> float:
    """Share of the full learning rate at `step`: linear warm-up times (1 − step / steps)^power (RMI paper, 4.1)."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    return float(warmup * (1 - step / steps) ** settings.power)


def build_optimiser(groups: list[dict], experiment: Experiment) -> torch.optim.Optimizer:
    """The optimiser that the experiment names, over a method's parameter groups."""
    settings = experiment.optimiser
    if settings.name == "sgd":
        return torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    return torch.optim.Adam(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type the network computes in: "auto" is half precision where the GPU has it and float32 elsewhere."""
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def seed_everything(seed: int) -> None:
    """Seed torch, NumPy and Python alike."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _numpy_state() -> tuple:
    name, keys, *rest = np.random.get_state()
    return (name, [int(key) for key in keys], *rest)
