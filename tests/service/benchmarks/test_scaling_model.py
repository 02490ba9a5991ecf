"""The model of many workers against cases that are worked out by hand, and a ring that is played through."""

import itertools

import pytest

from miseg.service.benchmarks import scaling_model
from miseg.service.benchmarks.scaling_model import Cluster, Work

CLUSTER = Cluster(operations_per_second=1e12, bytes_per_second=1e9, latency=1e-3)
WORK = Work(operations=5e10, parameters=5e7, image_bytes=1e6, log_bytes=0)


def ring(size: float, workers: int, cluster: Cluster) -> float:
    """A ring message by message: every part goes round once to be summed and once more to be known."""
    parts = {(worker, part): {worker} for worker, part in itertools.product(range(workers), repeat=2)}
    seconds = 0.0
    while any(len(known) < workers for known in parts.values()):
        sent = {}
        for worker in range(workers):
            part = max(
                (part for part in range(workers) if parts[worker, part] - parts[(worker + 1) % workers, part]),
                key=lambda part: (len(parts[worker, part]), -((part - worker) % workers)),
            )
            sent[(worker + 1) % workers, part] = parts[worker, part]
        for place, known in sent.items():
            parts[place] = parts[place] | known
        seconds += size / workers / cluster.bytes_per_second + cluster.latency
    return seconds


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 8])
def test_a_sum_takes_as_long_as_a_ring_played_through(workers: int) -> None:
    assert scaling_model.seconds_of_a_sum(2e8, workers, CLUSTER) == pytest.approx(ring(2e8, workers, CLUSTER))


def test_a_step_by_hand() -> None:
    assert scaling_model.seconds_a_step(WORK, 16, 1, CLUSTER) == pytest.approx(0.8)
    # 8 images a worker take 0.4 s; half of 200 MB there and back at 1 GB/s 0.2 s, and two messages 2 ms.
    assert scaling_model.seconds_a_step(WORK, 16, 2, CLUSTER) == pytest.approx(0.602)
    found = dict(scaling_model.efficiencies(WORK, 16, CLUSTER, a_worker=False))
    assert found[1] == 1 and found[2] == pytest.approx(0.8 / 2 / 0.602)
    found = dict(scaling_model.efficiencies(WORK, 16, CLUSTER, a_worker=True))
    assert found[1] == 1 and found[2] == pytest.approx(0.8 / 1.002)


def test_a_sum_behind_the_backward_pass_costs_what_sticks_out() -> None:
    # Backwards is 0.267 s of 0.4, and the sum of 0.202 s hides behind it; with four it is 0.133 s, the sum 0.306.
    step = scaling_model.seconds_a_step
    assert step(WORK, 16, 2, CLUSTER, overlap=True) == pytest.approx(0.4)
    assert step(WORK, 16, 4, CLUSTER, overlap=True) == pytest.approx(0.2 / 3 + 0.306)


def test_images_that_the_network_cannot_bring_are_waited_for() -> None:
    heavy = Work(operations=5e10, parameters=5e7, image_bytes=1e9, log_bytes=0)
    assert scaling_model.seconds_a_step(heavy, 16, 2, CLUSTER) == pytest.approx(8.0)


def test_the_last_worker_that_helps_is_where_steps_stop_getting_shorter() -> None:
    best = scaling_model.last_that_helps(WORK, 64, Cluster(1e12, 1e9, 0.03))
    steps = [scaling_model.seconds_a_step(WORK, 64, n, Cluster(1e12, 1e9, 0.03)) for n in range(1, 65)]
    assert 1 < best < 64 and steps[best - 1] == min(steps) and steps[best] > steps[best - 1]
    assert scaling_model.last_that_helps(WORK, 64, Cluster(1e12, 1e15, 0)) == 64
