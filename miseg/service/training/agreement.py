"""Agreement of several ranks to stop after the same step: torch alone, nothing of Ray."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from miseg.service.training.loop import Loop

ASK_S = 1.0
"""Seconds, about, between two questions where steps are slow."""


class Agreement:
    """Whether the ranks stop after this step: all of them, if one wants to.

    Every rank must call it after each step. Several ask each other about once a second, and at least once in `most`
    steps: an answer that is read stalls a GPU, and a notice leaves half a minute.

    Args:
        loop: this rank's training.
        wanted: whether this rank wants to stop.
        most: steps between two questions at most.
    """

    def __init__(self, loop: Loop, wanted: Callable[[], bool], most: int) -> None:
        self.loop, self.wanted, self.most = loop, wanted, most
        self.agreed = False
        self._asked, self._asked_at, self._next = loop.step, time.perf_counter(), loop.step

    def __call__(self) -> bool:
        """Whether to stop now."""
        step = self.loop.step
        if self.loop.world == 1:
            self.agreed = self.wanted()
        elif step >= self._next:
            now = time.perf_counter()
            shared = torch.tensor([float(self.wanted()), now - self._asked_at], device=self.loop.device)
            # The slowest rank's time is everybody's, so that all ask next after the same step.
            dist.all_reduce(shared, dist.ReduceOp.MAX)
            stop, seconds = shared.tolist()
            self.agreed = bool(stop)
            a_step = seconds / max(1, step - self._asked)
            self._next = step + max(1, min(self.most, int(ASK_S / max(a_step, 1e-9))))
            self._asked, self._asked_at = step, now
        return self.agreed
