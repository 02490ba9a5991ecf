"""Messages of Ray's worker processes to the person who started the job: lines of their output that carry a mark.

Ray brings what its workers print to the driver, among lines of its own and of other libraries. The driver tells by the
mark which are for people (`say`) and which are numbers for the line that moves (`send`); the others go to a log file.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from typing import Any

MARK = "miseg: "
"""Start of a line that is for people."""

DATA_MARK = "miseg-progress: "
"""Start of a line that holds a message as JSON."""


_TRIES = "Failed to apply UDF transform after"
"""Beginning of what Ray Data writes behind the text of an error of ours."""


@dataclass(frozen=True)
class StepProgress:
    """Progress of a training at a step.

    Attributes:
        step: optimiser steps that are made.
        loss: of the last of them.
        learning_rate: at that step, of the first group of parameters.
        images_per_second: of all workers, since the last message.
    """

    step: int
    loss: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class ValidationProgress:
    """Scores of a validation.

    Attributes:
        step: optimiser steps before it.
        mean_iou: 0..1; nan where there are no labels.
        score: what checkpoints are compared by: the mean IoU, or an objective in nats.
    """

    step: int
    mean_iou: float
    score: float


Message = StepProgress | ValidationProgress

_KINDS: dict[str, type[StepProgress] | type[ValidationProgress]] = {
    "step": StepProgress,
    "validation": ValidationProgress,
}


def say(text: str) -> None:
    """Print a text for the person who started the job, from whatever process."""
    for line in text.splitlines():
        _write(f"{MARK}{line}")


def send(message: Message) -> None:
    """Print a message for the driver."""
    kind = next(name for name, of in _KINDS.items() if isinstance(message, of))
    _write(f"{DATA_MARK}{json.dumps({'kind': kind} | asdict(message))}")


def _write(line: str) -> None:
    # Not `print`: Ray Train's workers have another one, whose lines come to the driver twice.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def received(line: str) -> Message | None:
    """The message that a line holds; None where it holds none, or is broken."""
    if not line.startswith(DATA_MARK):
        return None
    try:
        values: dict[str, Any] = json.loads(line[len(DATA_MARK) :])
        message = _KINDS[values.pop("kind")](**values)
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values.values()):
            return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return message if math.isfinite(message.step) else None


def own_text(error: BaseException) -> str:
    """Text of an error in one line, without what Ray Data adds on how often it tried."""
    text = str(getattr(error, "cause", None) or error)
    return " ".join(text.partition(_TRIES)[0].split())
