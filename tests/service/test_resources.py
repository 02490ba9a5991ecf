"""How many trials run at a time where nobody says."""

from __future__ import annotations

import pytest

from miseg.service.cluster import default_concurrency

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
