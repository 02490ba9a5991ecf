"""What is told of many images: how far, how fast, how long."""

from __future__ import annotations

import time

import pytest

from miseg.service.mapping.progress import MappingProgress


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_left_counts_images_that_are_not_opened_by_the_size_of_their_files(clock, capsys):
    progress = MappingProgress([10, 10, 40])
    assert progress.seconds_left is None and progress.rate == 0
    clock[0] += 7
    progress.opened(0, 1000)
    clock[0] += 1
    progress.add(0, 500, 2)
    # 500 pixels a second; 500 of the first are left, and the others are 50 bytes of 100 pixels a byte.
    assert progress.rate == 500 and progress.seconds_left == (500 + 5000) / 500
    assert "0/3 images  2 tiles  0.00 Mpixel/s  00:11 left" in capsys.readouterr().out
    progress.add(0, 500, 2)
    progress.end(0)
    assert capsys.readouterr().out == "" and progress.seconds_left == 5000 / 1000
    progress.opened(1, 3000)
    progress.end(1)  # left out: what it lacks is not waited for
    assert progress.seconds_left == 40 * 4000 / 20 / 1000
    progress.opened(2, 1000)
    clock[0] += 7199
    progress.add(2, 1000, 1)
    progress.end(2)
    assert progress.pixels == 2000 and progress.tiles == 5 and progress.seconds_left == 0
    assert "3/3 images  5 tiles  0.00 Mpixel/s  00:00 left" in capsys.readouterr().out.splitlines()[-1]
