"""The scheduler stops weak trials at its rungs and none at its last step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from miseg.service.tuning.callbacks import Halving


def decisions(steps: int, grace: int, scores: list[float], every: int) -> list[list[str]]:
    """What is said to each trial at each validation; the trials run one after the other."""
    scheduler, said = Halving(steps, grace), []
    for number, score in enumerate(scores):
        trial = SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(None, trial)
        said.append([])
        for step in range(every, steps + 1, every):
            said[-1].append(scheduler.on_trial_result(None, trial, {"step": step, "score": score}))
            if said[-1][-1] == Halving.STOP:
                break
    return said


def test_a_trial_that_is_worse_than_those_before_stops_at_the_first_rung() -> None:
    first, *others = decisions(100, 25, [0.9, 0.1, 0.2], every=25)
    assert first == [Halving.CONTINUE] * 4
    assert others == [[Halving.STOP], [Halving.STOP]]


@pytest.mark.parametrize("steps", [50, 75, 100, 225])
def test_no_trial_stops_at_its_last_step(steps: int) -> None:
    # 75 and 225 are rungs too: 25 · 3 and 25 · 9.
    for said in decisions(steps, 25, [0.5, 0.6, 0.55, 0.1, 0.7], every=25):
        assert len(said) < steps // 25 or said[-1] == Halving.CONTINUE
    assert decisions(steps, steps, [0.5, 0.1], every=steps) == [[Halving.CONTINUE]] * 2


def test_a_grace_longer_than_the_trial_is_cut() -> None:
    assert decisions(10, 100, [0.5, 0.1], every=10) == [[Halving.CONTINUE]] * 2
