"""Two ranks with unequal shares equal one rank with the whole batch, through DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from miseg.interface import Batch, Method, Step, combine
from miseg.methods import METHODS, build_method
from miseg.methods.configs import DeepInfoMax, MutualInformationSimilarity
from miseg.methods.unsupervised.invariant_information import InvariantInformationMethod
from tests.support.tiny_methods import PATCH, TASK, tiny, tiny_config

SHARES = (slice(0, 1), slice(1, 4))
"""Of images with labels; of pairs, and of images that are told from their neighbours, ranks have twice as many."""


def whole_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 40, generator=generator)
    labels = torch.randint(0, 3, (8, 8, 10), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    labels[0, 5:] = TASK.ignore_index
    labels[2, :, 30:] = TASK.ignore_index
    return Batch(images, labels)


def decided(method: Method) -> Method:
    """The method; clusters of IIC that are nearly even have a gradient of which rounding is a good part."""
    if isinstance(method, InvariantInformationMethod):
        for head in method.heads:
            head.weight.data.mul_(10)
    return method


def batch_of(method: Method, part: slice = slice(None)) -> Batch:
    """The whole batch's `part`: images, or pairs of patches of which a rank has twice as many."""
    batch, start, stop = whole_batch(), part.start or 0, part.stop or 4
    assert batch.labels_NHW is not None
    if method.supervision == "dense":
        return Batch(batch.images_NCHW[start:stop], batch.labels_NHW[start:stop])
    pairs = slice(2 * start, 2 * stop)
    if method.supervision == "none":
        return Batch(batch.images_NCHW[pairs], batch.labels_NHW[pairs]).without_labels()
    patches, views = torch.randn(2, 8, 3, PATCH, PATCH, generator=torch.Generator().manual_seed(0))
    return Batch(patches[pairs], views_NCHW=views[pairs])


def global_loss(step: Step) -> tuple[torch.Tensor, torch.Tensor]:
    """The trainer's rule: the loss to report, and what this rank calls backward on (gradients are averaged)."""
    total, count = step.total.detach().clone(), step.count.clone()
    dist.all_reduce(total)
    dist.all_reduce(count)
    return combine(total, count), dist.get_world_size() * combine(step.total, count)


def same_noise() -> None:
    """What a method draws, the same in each element: ranks that draw their own noise agree in distribution alone."""
    torch.randn_like = torch.rand_like = lambda values: torch.full_like(values, 0.3)
    rand, randint = torch.rand, torch.randint
    # Each rank has a shuffle of its own: that of the first must count.
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.randperm = lambda number: torch.arange(number).roll(3 + rank)
    torch.rand = lambda *size, **how: rand(*size, **how) if "generator" in how else torch.zeros_like(rand(*size)) + 0.3
    torch.randint = lambda *how, **more: randint(*how, **more) if "generator" in more else randint(*how, **more) * 0 + 2


def methods() -> Iterator[tuple[str, Method]]:
    """Every method, and those whose negatives come from the batch of all ranks, by name."""
    for config_type in METHODS:
        yield config_type.__name__, decided(tiny(config_type, features=4))
    whole_batch = replace(tiny_config(MutualInformationSimilarity, 4), negatives="batch", reduction="sum")  # type: ignore[call-arg]
    torch.manual_seed(0)
    yield OF_THE_BATCH[0], build_method(whole_batch, TASK)
    # Without the prior, whose random numbers every rank draws for itself.
    infomax = replace(tiny_config(DeepInfoMax, 4), negatives="batch", gamma=0.0)  # type: ignore[call-arg]
    torch.manual_seed(0)
    yield OF_THE_BATCH[1], build_method(infomax, TASK)


OF_THE_BATCH = ("similarity, negatives of the batch", "Deep InfoMax, negatives of the batch")
NAMES = (*(config_type.__name__ for config_type in METHODS), *OF_THE_BATCH)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = {}
    same_noise()
    for name, method in methods():
        # Kept by name: a wrapper that is collected before backward takes its synchronising hooks along.
        wrapper = DistributedDataParallel(method)
        step = wrapper(batch_of(method, SHARES[rank]))
        loss, local = global_loss(step)
        local.backward()
        gradients = {name: parameter.grad for name, parameter in method.named_parameters() if parameter.requires_grad}
        results[name] = (loss, gradients)
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.barrier()  # gloo aborts a rank whose partner leaves first
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder: Path = tmp_path_factory.mktemp("two-ranks")
    torch.multiprocessing.spawn(work, args=(str(folder),), nprocs=2)
    return torch.load(folder / "results.pt")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("of", NAMES)
def test_two_ranks_equal_one(of: str, two_ranks: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("randn_like", "rand_like", "rand", "randint", "randperm"):
        monkeypatch.setattr(torch, name, getattr(torch, name))
    same_noise()
    method = dict(methods())[of]
    loss = method(batch_of(method)).loss()
    loss.backward()
    loss_of_two, gradients_of_two = two_ranks[of]
    torch.testing.assert_close(loss_of_two, loss.detach(), rtol=1e-5, atol=1e-6)
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None
        scale = parameter.grad.abs().max().item()
        torch.testing.assert_close(
            gradients_of_two[name],
            parameter.grad,
            rtol=1e-5,
            # Of a bias in front of a normalisation little is left, and rounding is a good part of that.
            atol=5e-5 * scale,
            msg=lambda m, name=name: f"{name}: {m}",
        )
