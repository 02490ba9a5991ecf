"""For the workers of a pretend cluster, whose GPUs are a number: what would train on the GPU trains on the CPU."""

from __future__ import annotations


def use_the_cpu() -> None:
    """Ray's `worker_process_setup_hook`: hand miseg's training the CPU in place of the GPU that Ray gave it."""
    import torch

    from miseg.service import worker

    train = worker.train
    worker.train = lambda config, report, device: train(config, report, torch.device("cpu"))
