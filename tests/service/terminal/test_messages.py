"""Lines of workers that carry a mark: what is sent is what is received, and nothing else is."""

from __future__ import annotations

import math

import pytest

from miseg.service.terminal.messages import DATA_MARK, MARK, StepProgress, ValidationProgress, received, say, send


@pytest.mark.parametrize(
    "message",
    [StepProgress(7, 0.5, 1e-3, 12.5), ValidationProgress(8, 0.25, -1.5), StepProgress(1, math.inf, 0.0, 1.0)],
)
def test_what_is_sent_is_received(message: StepProgress | ValidationProgress, capsys: pytest.CaptureFixture) -> None:
    send(message)
    (line,) = capsys.readouterr().out.splitlines()
    assert received(line) == message


def test_missing_labels_are_received(capsys: pytest.CaptureFixture) -> None:
    send(ValidationProgress(8, math.nan, 0.0))
    message = received(capsys.readouterr().out.strip())
    assert isinstance(message, ValidationProgress) and math.isnan(message.mean_iou)


def test_each_line_for_people_carries_the_mark(capsys: pytest.CaptureFixture) -> None:
    say("warning: a\nb")
    assert capsys.readouterr().out == f"{MARK}warning: a\n{MARK}b\n"


@pytest.mark.parametrize(
    "line",
    [
        "step 3",
        f"{MARK}warning",
        f"{DATA_MARK}{{",
        f"{DATA_MARK}[]",
        f"{DATA_MARK}null",
        f'{DATA_MARK}{{"kind": "step"}}',
        f'{DATA_MARK}{{"kind": "other", "step": 1}}',
        f'{DATA_MARK}{{"kind": "validation", "step": "1", "mean_iou": 0.5, "score": 0.5}}',
        f'{DATA_MARK}{{"kind": "validation", "step": NaN, "mean_iou": 0.5, "score": 0.5}}',
        f'{DATA_MARK}{{"kind": "validation", "step": true, "mean_iou": 0.5, "score": 0.5}}',
        f'{DATA_MARK}{{"kind": ["step"], "step": 1}}',
        DATA_MARK + "[" * 100_000,
    ],
)
def test_what_is_no_message_is_none(line: str) -> None:
    assert received(line) is None
