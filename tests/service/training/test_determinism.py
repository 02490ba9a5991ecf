"""On the CPU the same seed gives the same losses and weights bit by bit, whatever the method."""

import pytest
import torch

from miseg.methods import METHODS
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.training.loop import Loop
from tests.support.tiny_methods import TASK, learnable_batch, tiny_config

pytestmark = [pytest.mark.faults, pytest.mark.slow]

STEPS = 4

Trained = dict[str, tuple[list[dict[str, float]], dict[str, torch.Tensor]]]


SEEDS = (3, 3, 4)


def train_every_method(rank: int, folder: str) -> None:
    torch.set_num_threads(2)
    found: Trained = {}
    for kind in METHODS:
        experiment = Experiment(
            tiny_config(kind), optimiser=Optimiser(learning_rate=1e-2), steps=STEPS, seed=SEEDS[rank]
        )
        loop = Loop(experiment, TASK)
        for step in range(STEPS):
            loop.train_step(learnable_batch(loop.method, seed=step))
        found[kind.__name__] = [record.values for record in loop.flush()], loop.method.state_dict()
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Trained]:
    """By two processes from one seed, and by a third from another."""
    folder = tmp_path_factory.mktemp("trained")
    torch.multiprocessing.spawn(train_every_method, args=(str(folder),), nprocs=len(SEEDS))
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(SEEDS))]


@pytest.mark.parametrize("name", [kind.__name__ for kind in METHODS])
def test_two_processes_train_alike_to_the_last_bit(name: str, trained: list[Trained]) -> None:
    (losses, weights), (again, weights_again) = (found[name] for found in trained[:2])
    assert losses == again and len(losses) == STEPS
    assert weights.keys() == weights_again.keys()
    assert all(torch.equal(value, weights_again[key]) for key, value in weights.items())


def test_another_seed_trains_otherwise(trained: list[Trained]) -> None:
    same = {name for name in trained[0] if trained[0][name][0] == trained[2][name][0]}
    # K-means of colours draws nothing while it goes through the images.
    assert same <= {"PixelKMeans"}
