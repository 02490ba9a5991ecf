"""Display of one training in the terminal: a line that moves, and a table of validations above it."""

from __future__ import annotations

import math
import sys
import threading
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from miseg.service.terminal.messages import Message, StepProgress, ValidationProgress

PLAIN_EVERY = 30.0
"""Seconds between two lines on the steps where the output is no terminal."""

HEADING = f"{'step':>8}  {'mean IoU':>9}  {'objective':>10}  {'loss':>10}  {'time':>8}"


class TrainingDisplay:
    """Shows, as a context, where a training is.

    In a terminal one line moves; elsewhere, such as in a file or a job's log, a plain line comes twice a minute.

    Args:
        steps: optimiser steps of the whole training.
        stream: where to; default: the standard output of the moment.
        terminal: whether that is a terminal; None: as it says itself.
        plain_every: seconds between two plain lines.
    """

    def __init__(
        self,
        steps: int,
        stream: TextIO | None = None,
        terminal: bool | None = None,
        plain_every: float = PLAIN_EVERY,
    ) -> None:
        self.steps, self.plain_every = steps, plain_every
        out = sys.stdout if stream is None else stream
        self._console = Console(
            file=out, force_terminal=terminal, highlight=False, soft_wrap=True, emoji=False, markup=False
        )
        self._moves = self._console.is_terminal and not self._console.is_dumb_terminal
        self._started = time.monotonic()
        self._first: tuple[int, float] | None = None
        self._last: StepProgress | None = None
        self._best = -math.inf
        self._shown_at = -math.inf
        self._headed = False
        self._complete = threading.Event()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> TrainingDisplay:
        self._started = time.monotonic()
        if self._moves:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=16), console=self._console, transient=True
            )
            self._task = self._progress.add_task("the workers start", total=self.steps)
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def wait_for_last(self, seconds: float) -> None:
        """Wait for the last validation, which is still on its way when the training has ended, so long at most."""
        if self._last is not None or self._headed:
            self._complete.wait(seconds)

    def say(self, text: str) -> None:
        """Print a line above the one that moves."""
        self._console.print(text)

    def take(self, message: Message) -> None:
        """Show what a worker sent."""
        if isinstance(message, ValidationProgress):
            self._validated(message)
        else:
            self._stepped(message)

    def _stepped(self, message: StepProgress) -> None:
        now = time.monotonic()
        if self._first is None or message.step < self._first[0]:
            # A training that goes on begins at the step of its checkpoint, and its first steps are slow.
            self._first = (message.step, now)
        self._last = message
        text = self._line(message, now)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text, completed=message.step)
        elif now - self._shown_at >= self.plain_every:
            self._shown_at = now
            self._console.print(text)

    def _line(self, message: StepProgress, now: float) -> str:
        width = len(str(self.steps))
        return (
            f"step {message.step:>{width}}/{self.steps}  loss {message.loss:.4g}  rate {message.learning_rate:.1e}  "
            f"{message.images_per_second:.3g} images/s{self._left(message.step, now)}"
        )

    def _left(self, step: int, now: float) -> str:
        """Time left by all that was timed here, validations among it; "" before there is a second message."""
        assert self._first is not None
        first, at = self._first
        if step <= first:
            return ""
        return f"  {clock((now - at) / (step - first) * (self.steps - step))} left"

    def _validated(self, message: ValidationProgress) -> None:
        if not self._headed:
            self._headed = True
            self._console.print(HEADING)
        best = message.score > self._best
        self._best = max(self._best, message.score)
        labelled = not math.isnan(message.mean_iou)
        mean_iou = f"{message.mean_iou:.4f}" if labelled else "-"
        objective = "-" if message.score in (message.mean_iou, 0.0) else f"{message.score:.4f}"
        loss = "-" if self._last is None else f"{self._last.loss:.4g}"
        elapsed = clock(time.monotonic() - self._started)
        row = f"{message.step:>8}  {mean_iou:>9}  {objective:>10}  {loss:>10}  {elapsed:>8}"
        self._console.print(f"{row}  best" if best else row)
        if message.step >= self.steps:
            self._complete.set()


def clock(seconds: float) -> str:
    """A duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
