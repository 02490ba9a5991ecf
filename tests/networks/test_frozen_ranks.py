"""Two ranks on a network with a frozen encoder, through the training loop: what one rank learns, and nothing waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from miseg.interface import Batch, Task
from miseg.methods.configs import CrossEntropy
from miseg.networks.configs import EncoderDecoder
from miseg.optimisation.configs import Optimiser
from miseg.recipes.experiment import Experiment
from miseg.service.training.loop import Loop

pytestmark = pytest.mark.slow

SHARES = (slice(0, 1), slice(1, 3))
"""Of the batch's three images."""

STEPS = 2

ROUNDING = 5e-6
"""Absolute difference of weights that rounding makes; a hundredth of what they move at least."""

EXACT = {
    "all": EncoderDecoder("fpn", "test_resnet", frozen="all"),
    "stages": EncoderDecoder("fpn", "test_resnet", frozen=2, frozen_batch_norm=True),
    "batch-norm": EncoderDecoder("fpn", "test_resnet", frozen_batch_norm=True),
    "vit": EncoderDecoder("dpt", "test_vit", frozen=2),
}
"""Networks without a batch norm that learns: FPN's decoder has group norm, and `loop_of` keeps DPT's in evaluation."""

ALIKE = {"stages-alone": EncoderDecoder("unet", "test_resnet", frozen=2)}
"""Its other batch norms see each rank's own images: ranks agree with each other, not with one rank."""


def loop_of(config: EncoderDecoder) -> Loop:
    """A training whose steps draw nothing."""
    experiment = Experiment(
        CrossEntropy(config), optimiser=Optimiser("sgd", 0.05), steps=STEPS, batch_size=3, precision="float32"
    )
    loop = Loop(experiment, Task(num_classes=3))
    for module in loop.method.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    if config.architecture == "dpt":
        for module in loop.method.modules():
            if isinstance(module, nn.BatchNorm2d):
                # An eval mode that `train` does not end.
                module.eval().train = lambda mode=True, module=module: module  # type: ignore[method-assign]
    return loop


def trained(config: EncoderDecoder, share: slice = slice(None)) -> dict[str, Tensor]:
    """The network's state after some steps on a share of each batch."""
    generator = torch.Generator().manual_seed(0)
    loop = loop_of(config)
    for _ in range(STEPS):
        images = torch.randn(3, 3, 32, 64, generator=generator)
        labels = torch.randint(0, 3, (3, 32, 64), generator=generator)
        labels[0, :20] = 255
        loop.train_step(Batch(images[share], labels[share]))
    return {name: value.clone() for name, value in loop.method.state_dict().items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save({name: trained(c, SHARES[rank]) for name, c in {**EXACT, **ALIKE}.items()}, f"{folder}/{rank}.pt")
    dist.barrier()  # gloo aborts a rank whose partner leaves first
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("frozen-ranks")
    torch.multiprocessing.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def frozen_part(config: EncoderDecoder) -> dict[str, Tensor]:
    """What does not learn of a new network, by its name in the method's state."""
    method: Any = loop_of(config).method
    learning = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    return {n: v for n, v in method.state_dict().items() if n not in learning and n.startswith("network.model.encoder")}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", EXACT)
def test_two_ranks_learn_what_one_does(name: str, two_ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    state = trained(EXACT[name])
    start = loop_of(EXACT[name]).method.state_dict()
    assert max(float((value - start[key]).abs().max()) for key, value in state.items()) > 100 * ROUNDING
    for of_rank in two_ranks:
        for key, value in state.items():
            torch.testing.assert_close(
                of_rank[name][key], value, rtol=1e-4, atol=ROUNDING, msg=lambda m, k=key: f"{k}: {m}"
            )


@pytest.mark.timeout(240)
def test_ranks_agree_where_batch_norm_sees_their_own_images(two_ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    first, second = (of_rank["stages-alone"] for of_rank in two_ranks)
    for key, value in first.items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(value, second[key]), key


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [*EXACT, *ALIKE])
def test_what_is_frozen_moves_on_no_rank(name: str, two_ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    config = {**EXACT, **ALIKE}[name]
    kept = frozen_part(config)
    names = [key for key in kept if name != "stages-alone" or ".layer" not in key]
    assert names
    for of_rank in two_ranks:
        assert all(torch.equal(of_rank[name][key], kept[key]) for key in names)
