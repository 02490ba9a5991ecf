"""How many trials run at a time where nobody says, and what a user is told of decoded images."""

from __future__ import annotations

import os

import pytest

from miseg.service.cluster import ray_cluster
from miseg.service.cluster.ray_cluster import default_concurrency
from miseg.service.command.start import too_large

GB = 2**30


@pytest.mark.parametrize(
    ("cpus", "gpus", "memory", "workers", "expected"),
    [
        (2, 0, 16 * GB, 1, 2),
        (8, 0, 5 * GB, 1, 1),
        (8, 0, 13 * GB, 1, 4),
        (8, 0, 13 * GB, 2, 2),
        (64, 0, 400 * GB, 1, 8),
        (1, 0, 1 * GB, 4, 1),
        (64, 4, 1 * GB, 1, 4),
        (64, 4, 1 * GB, 2, 2),
        (64, 32, 1 * GB, 1, 8),
    ],
)
def test_the_scarcest_resource_decides(cpus: float, gpus: float, memory: float, workers: int, expected: int) -> None:
    assert default_concurrency(cpus, gpus, memory, workers) == expected


def test_a_user_is_told_which_budget_would_hold_the_training_images(small, tiny) -> None:
    needed = small.decoded_bytes("train")
    assert too_large(small, [tiny], needed) == "" and too_large(small, [tiny], 0) == ""
    line = too_large(small, [tiny], needed - 1)
    assert "decoded, more than" in line and "--decoded-gib 0.1 keeps them" in line and "\n" not in line


def test_a_ray_that_does_not_start_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(**options: object) -> None:
        raise Exception(message)  # as Ray does

    monkeypatch.setattr(ray_cluster.ray, "init", busy)
    before = dict(os.environ)
    message = "The current node timed out during startup. This could happen because some of the raylet failed"
    with pytest.raises(ValueError, match=r"Ray did not start within its 30 seconds.*try again"):
        ray_cluster._start_here(show_workers=False)
    message = "another fault"
    with pytest.raises(Exception, match="another fault"):
        ray_cluster._start_here(show_workers=False)
    assert dict(os.environ) == before


def test_the_cause_of_an_actor_s_death_is_one_plain_line():
    """Of one that failed as it was made, Ray begins with ten words on that, in colour, and a trace."""
    made = (
        "The actor died because of an error raised in its creation task, \x1b[36mray::C.__init__()\x1b[39m (pid=1)\n"
        '  File "storage.py", line 438, in _create\nOSError: Timeout was reached\n'
    )
    assert ray_cluster.cause_of_death(RuntimeError(made)) == "OSError: Timeout was reached"
    assert (
        ray_cluster.cause_of_death(RuntimeError("\x1b[36mIts node has died.\x1b[39m\n\nMore")) == "Its node has died."
    )
    assert ray_cluster.cause_of_death(RuntimeError("")) != ""
