"""Ray Train's trainers, without its own handler for Ctrl-C."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

ABORTED_WITHIN_S = 30.0
"""Seconds in which Train's controller ends its workers."""


def trainer_of(workers: int) -> Callable[..., Any]:
    """A trainer that joins workers in a process group; for a worker alone one without.

    The former takes torch into the driver and the controller of every run: 4 of their 9 and 7 s to start, one after the
    other (two cores).
    """
    if workers == 1:
        return stoppable(DataParallelTrainer)
    # It brings torch along, which one worker does without.
    from ray.train.torch import TorchTrainer

    return stoppable(TorchTrainer)


def stoppable(trainer: type[Any]) -> type[Any]:
    """A kind of trainer that leaves Ctrl-C to its caller, who calls `abort` then.

    Train's own handler would end the workers amid a step, and stays in the process after the training.
    """

    class Stoppable(trainer):
        controller: Any = None

        def _register_sigint_handler(self, controller: Any) -> None:
            self.controller = controller

        def abort(self) -> None:
            """End the training's workers and its controller."""
            if self.controller is not None:
                # It ends itself, and so gives no answer.
                with contextlib.suppress(RayError):
                    ray.get(self.controller.abort.remote(), timeout=ABORTED_WITHIN_S)

    return Stoppable
