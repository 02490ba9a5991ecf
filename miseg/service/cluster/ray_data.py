"""Settings of Ray Data's pipelines.

Ray ships them to every task, the classes by their names: this module imports no torch, so that a decoding task starts
in 2.4 s of a processor in place of 6.3 (two cores), and with the memory that torch would take.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import ray.data

from miseg.service.cluster.ray_internals import ExecutionCallback

PAUSE = 0.01
"""Seconds that a pipeline's executor rests after each turn of its loop."""


class Pause(ExecutionCallback):
    """Lets the executor's loop rest.

    While finished outputs wait for a consumer that is slower, the loop turns without pause and takes the interpreter
    from the training thread, 5 ms at a time: a step of many small operations took 580 ms in place of 145 (two cores).
    """

    def on_execution_step(self, executor: Any) -> None:
        """After each turn of the loop."""
        time.sleep(PAUSE)


def quiet_data_context() -> None:
    """Pipelines of this process keep order, rest between turns, and print nothing: what Ray does is in its own logs."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    context.custom_execution_callback_classes = [Pause]
