"""Checkpoints of one weight, which is their step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from miseg.interface import Task
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint
from miseg.service.checkpoints.checkpoint_store import CheckpointStore


def writer(step: int, score: float | None) -> Callable[[Path], object]:
    """What writes a checkpoint whose one weight is its step; without a score, as a preemption leaves it."""
    taken = checkpoint.Snapshot(step, Experiment(), Task(2, 3, ("a", "b")), {"weight": torch.tensor([step])}, {})
    return partial(checkpoint.write, taken=taken, metrics={"step": step} | ({} if score is None else {"score": score}))


def weight(folder: Path) -> int:
    return int(load_file(folder / "weights.safetensors")["weight"])


def filled(store: CheckpointStore, **scores: float | None) -> CheckpointStore:
    for name, score in scores.items():
        step = int(name.removeprefix("step"))
        store.add(step, writer(step, score))
    return store
