"""What a person sees of a training: the line that moves, plain lines, and the table of validations."""

from __future__ import annotations

import io
import math

import pytest

from miseg.service.terminal import display as display_module
from miseg.service.terminal.display import TrainingDisplay, clock
from miseg.service.terminal.messages import StepProgress, ValidationProgress


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the display; its entry is the time."""
    now = [0.0]
    monkeypatch.setattr(display_module.time, "monotonic", lambda: now[0])
    return now


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_plain_lines_come_twice_a_minute_and_none_is_wider_than_a_terminal(time_passes: list[float]) -> None:
    stream = io.StringIO()
    with TrainingDisplay(14_880, stream) as display:
        for step in range(10, 1000, 10):
            time_passes[0] += 1.0
            display.take(StepProgress(step, 1.23456, 1e-3, 85.25))
    lines = lines_of(stream)
    assert len(lines) == 4, "the first at once, then one in 30 s of 99"
    assert lines[1] == "step   310/14880  loss 1.235  rate 1.0e-03  85.2 images/s  24:17 left"
    assert max(map(len, lines)) <= 80


def test_the_first_message_says_no_time_left() -> None:
    stream = io.StringIO()
    with TrainingDisplay(100, stream) as display:
        display.take(StepProgress(10, 1.0, 1e-3, 3.0))
    assert lines_of(stream) == ["step  10/100  loss 1  rate 1.0e-03  3 images/s"]


def test_a_training_that_goes_on_counts_from_its_checkpoint(time_passes: list[float]) -> None:
    stream = io.StringIO()
    with TrainingDisplay(1000, stream, plain_every=0.0) as display:
        display.take(StepProgress(900, 1.0, 1e-3, 3.0))
        time_passes[0] = 50.0
        display.take(StepProgress(950, 1.0, 1e-3, 3.0))
    assert lines_of(stream)[-1].endswith("0:50 left")


def test_validations_are_a_table(time_passes: list[float]) -> None:
    stream = io.StringIO()
    with TrainingDisplay(100, stream) as display:
        display.take(StepProgress(50, 0.75, 1e-3, 3.0))
        time_passes[0] = 61.0
        display.take(ValidationProgress(50, 0.5, 0.5))
        display.take(ValidationProgress(100, 0.25, 0.25))
    assert lines_of(stream)[1:] == [
        "    step   mean IoU   objective        loss      time",
        "      50     0.5000           -        0.75      1:01  best",
        "     100     0.2500           -        0.75      1:01",
    ]


def test_an_objective_and_missing_labels_are_told_apart() -> None:
    stream = io.StringIO()
    with TrainingDisplay(100, stream) as display:
        display.take(ValidationProgress(50, 0.5, -1.25))
        display.take(ValidationProgress(100, math.nan, -1.0))
    _, first, second = lines_of(stream)
    assert first.split() == ["50", "0.5000", "-1.2500", "-", "0:00", "best"]
    assert second.split() == ["100", "-", "-1.0000", "-", "0:00", "best"]


def test_in_a_terminal_one_line_moves_and_leaves_nothing() -> None:
    stream = io.StringIO()
    with TrainingDisplay(100, stream, terminal=True) as display:
        display.take(StepProgress(10, 1.0, 1e-3, 3.0))
        display.say("warning: [bold] is no markup")
        display.take(StepProgress(20, 1.0, 1e-3, 3.0))
    text = stream.getvalue()
    assert "step  20/100" in text or "step  10/100" in text
    assert "\x1b[" in text and "warning: [bold] is no markup" in text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599.0, "59:59"), (3600.0, "1:00:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
