"""What a training on many workers waits for: a model on paper, which the benchmark's row `scaling` is beside.

python -m miseg.service.benchmarks.scaling_model

prints the table of README. A step is a worker's share of the arithmetic, and then the sum of the gradients over all
workers by a ring: each sends and receives 2 (n − 1) / n times the gradient, in 2 (n − 1) messages one after the other.
With nothing overlapped it is a bound from below of what a cluster reaches; with the sum behind the backward pass, two
thirds of the arithmetic, which is what DistributedDataParallel tries, one from above. Images come beside it: they are
read ahead, and cost nothing as long as they need less of the network than there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

WORKERS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Cluster:
    """Workers of one GPU each, alike, and the network between them.

    Attributes:
        operations_per_second: that a GPU does in training.
        bytes_per_second: that a worker sends, and receives at the same time.
        latency: seconds from one worker to the next.
    """

    operations_per_second: float
    bytes_per_second: float
    latency: float


@dataclass(frozen=True)
class Work:
    """A training.

    Attributes:
        operations: of an image, forwards and backwards.
        parameters: of the network; the gradient of each is summed in four bytes.
        image_bytes: of an image and its labels as they are streamed.
        log_bytes: that a step writes, on one worker alone.
    """

    operations: float
    parameters: float
    image_bytes: float
    log_bytes: float


def seconds_of_a_sum(size: float, workers: int, cluster: Cluster) -> float:
    """Seconds in which `workers` add up `size` bytes by a ring."""
    return 2 * (workers - 1) * (size / workers / cluster.bytes_per_second + cluster.latency)


def seconds_a_step(work: Work, images: float, workers: int, cluster: Cluster, *, overlap: bool = False) -> float:
    """Seconds of a step of `images` images over all workers: the slower of what the GPUs do and what images need."""
    compute = images / workers * work.operations / cluster.operations_per_second
    streamed = (images / workers * work.image_bytes + work.log_bytes) / cluster.bytes_per_second
    summed = seconds_of_a_sum(4 * work.parameters, workers, cluster)
    return max(compute / 3 + max(2 * compute / 3, summed) if overlap else compute + summed, streamed)


def efficiencies(
    work: Work, images: float, cluster: Cluster, *, a_worker: bool, overlap: bool = False
) -> Iterator[tuple[int, float]]:
    """(workers, efficiency) for `images` images a step in all, or for so many on each worker."""
    alone = seconds_a_step(work, images, 1, cluster)
    for workers in WORKERS:
        total = images * workers if a_worker else images
        step = seconds_a_step(work, total, workers, cluster, overlap=overlap)
        yield workers, alone / step / (1 if a_worker else workers)


def last_that_helps(work: Work, images: int, cluster: Cluster) -> int:
    """The number of workers, up to one an image, beyond which another makes a step of `images` images no faster."""
    steps = [seconds_a_step(work, images, workers, cluster) for workers in range(1, images + 1)]
    return 1 + steps.index(min(steps))


def main() -> None:
    """Print the table for RMI's published setting: DeepLabv3+ on ResNet-101, 16 images of 513 x 513."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from miseg.networks import build_network
    from miseg.networks.configs import DeepLab

    network = build_network(DeepLab(), 3, 21).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 513, 513))
    parameters = sum(p.numel() for p in network.parameters())
    # Backwards is twice forwards: a product for the inputs and one for the weights.
    work = Work(3.0 * counter.get_total_flops(), parameters, 513 * 513 * 4, 4_000)
    print(f"{work.operations / 1e9:.0f} GFLOP an image, {parameters / 1e6:.1f} M parameters")
    for name, bandwidth in (("25 Gbit/s", 25e9 / 8), ("400 Gbit/s", 400e9 / 8)):
        cluster = Cluster(300e12, bandwidth, 20e-6)
        for a_worker, overlap in itertools.product((False, True), (False, True)):
            found = efficiencies(work, 16, cluster, a_worker=a_worker, overlap=overlap)
            cells = " | ".join(f"{value:.2f}" for _, value in found)
            hidden = ", sum behind backward" if overlap else ""
            print(f"| 16 {'a worker' if a_worker else 'in all'}, {name}{hidden} | {cells} |")
        print(f"16 in all, {name}, nothing overlapped: fastest on {last_that_helps(work, 16, cluster)}")


if __name__ == "__main__":
    main()
