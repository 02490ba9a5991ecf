"""Estimators that train: the settings that all have, samples held out, and a training that stops by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from miseg.information.results import Estimate, TracePoint
from miseg.information.samples import Estimator, continuous


@dataclass(frozen=True)
class Fitting:
    """Settings that every estimator that trains has.

    Attributes:
        hidden: widths of the hidden layers of each network.
        batch_size: pairs a step, 2 or more.
        learning_rate: of Adam, above 0.
        max_steps: optimiser steps at most, 0 or more.
        held_out: share of the samples, in 0..1, that are never trained on. They choose the step and give the estimate,
            which that choice raises a little.
        check_every: steps between two looks at the held-out samples.
        patience: looks without improvement after which training stops.
        seed: of the split, the weights and the batches.
        device: where torch computes. On the CPU the same seed gives the same estimate.
    """

    hidden: tuple[int, ...] = (64, 64)
    batch_size: int = 128
    learning_rate: float = 1e-3
    max_steps: int = 5000
    held_out: float = 0.3
    check_every: int = 50
    patience: int = 10
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden = {self.hidden}: use one width above 0 or more, such as {type(self)().hidden}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate = {self.learning_rate}: use a number above 0, such as 1e-3")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out = {self.held_out}: use a share between 0 and 1, such as 0.3")
        for name, least in (("batch_size", 2), ("max_steps", 0), ("check_every", 1), ("patience", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}: use {least} or more")


class Split(NamedTuple):
    """Pairs to train on and pairs held out: [x_ND, y_ND] each, float32."""

    trained: list[Tensor]
    tested: list[Tensor]


class FittingResult(NamedTuple):
    """Result of a training: the best look at the held-out samples, and every look in turn."""

    best: TracePoint
    trace: tuple[TracePoint, ...]


def shown_signature(kind: type[Fitting], own: Iterable[Parameter] = ()) -> Signature:
    """Signature of an estimator (x_ND, y_ND) with its own settings first, then those that `kind` adds, then common."""
    pair = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("x_ND", "y_ND")]
    common = {field.name for field in fields(Fitting)}
    ordered = sorted(fields(kind), key=lambda field: field.name in common)
    settings = [Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default) for field in ordered]
    return Signature([*pair, *own, *settings], return_annotation=Estimate)


def fitted(kind: type[Fitting]) -> Callable[[Callable[[np.ndarray, np.ndarray, Any], Estimate]], Estimator]:
    """The estimator of a function of checked samples and settings of this `kind`; each setting is a keyword of it."""

    def made(function: Callable[[np.ndarray, np.ndarray, Any], Estimate]) -> Estimator:
        @continuous
        @wraps(function)
        def estimator(x_ND: np.ndarray, y_ND: np.ndarray, **settings: Any) -> Estimate:
            return function(x_ND, y_ND, kind(**settings))

        estimator.__signature__ = shown_signature(kind)  # type: ignore[attr-defined]
        return estimator

    return made


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's draws from a seed; the caller's random state stays as it was, and its no_grad stops no training."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        yield


def split(x_ND: np.ndarray, y_ND: np.ndarray, settings: Fitting) -> Split:
    """Pairs in an order drawn by torch, the first `held_out` of them held out.

    Raises:
        ValueError: too few samples.
    """
    samples, held = len(x_ND), round(settings.held_out * len(x_ND))
    if held < 2 or samples - held < 2:
        raise ValueError(
            f"{samples} samples of which {settings.held_out:g} are held out: at least 2 to train on and 2 held out are "
            "needed"
        )
    order = torch.randperm(samples)
    pairs = [torch.from_numpy(values).float()[order].to(settings.device) for values in (x_ND, y_ND)]
    return Split([part[held:] for part in pairs], [part[:held] for part in pairs])


def fit(
    module: nn.Module,
    loss: Callable[..., Tensor],
    look: Callable[[int], TracePoint],
    trained: list[Tensor],
    settings: Fitting,
) -> FittingResult:
    """Descend `loss` by Adam until the looks' objective no longer rises; `module` then has the best look's weights.

    Args:
        module: what is trained.
        loss: of a batch, one tensor for each of `trained`. One that is no number ends the training.
        look: at the held-out samples after that many steps, without gradients.
        trained: samples to train on, [N, …] each.
        settings: of the training.
    """
    optimiser = torch.optim.Adam(module.parameters(), settings.learning_rate)
    with torch.no_grad():
        trace = [look(0)]
    best, weights = trace[0], _weights(module)
    looks_left = settings.patience
    for step in range(1, settings.max_steps + 1):
        chosen = torch.randperm(len(trained[0]))[: settings.batch_size].to(trained[0].device)
        value = loss(*(part[chosen] for part in trained))
        if not torch.isfinite(value):
            break
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        if step % settings.check_every and step < settings.max_steps:
            continue
        with torch.no_grad():
            trace.append(look(step))
        if trace[-1].objective > best.objective:
            best, weights, looks_left = trace[-1], _weights(module), settings.patience
        else:
            looks_left -= 1
            if not looks_left:
                break
    module.load_state_dict(weights)
    return FittingResult(best, tuple(trace))


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: values.detach().clone() for name, values in module.state_dict().items()}
