"""Settings that never take effect are told before a training starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from miseg.data.configs import Augmentation
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.registry import Embedded
from miseg.optimisation.configs import Optimiser
from miseg.optimisation.schedules import learning_rate_factor, peak_learning_rate
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.command import memory
from miseg.service.command.fitting import without_effect


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """Six images of 48x64."""
    source = Embedded({"train": 6, "val": 1, "test": 0}, height=48, width=64)
    return PackedDataset.open(pack(source, tmp_path_factory.mktemp("effects") / "embedded", ["train", "val"]).path)


@pytest.fixture
def whole() -> Experiment:
    """A training whose every setting takes effect."""
    experiment = RECIPES["embedded-ce"](seed=0)
    return replace(experiment, steps=1000, batch_size=4, augmentation=Augmentation(crop=(32, 32)))


def test_nothing_is_said_where_all_takes_effect(whole: Experiment, dataset: PackedDataset) -> None:
    assert list(without_effect(whole, dataset)) == []


@pytest.mark.parametrize(("steps", "highest"), [(20, 1.2e-4), (50, 2.8e-4), (80, 4.5e-4)])
def test_a_learning_rate_that_is_never_reached_is_told(
    steps: int, highest: float, whole: Experiment, dataset: PackedDataset
) -> None:
    experiment = replace(whole, steps=steps, optimiser=Optimiser("adam", 1e-3, warmup_steps=50, power=0.9))
    (line,) = without_effect(experiment, dataset)
    peak = peak_learning_rate(experiment.steps, experiment.optimiser)
    assert peak == pytest.approx(highest, rel=0.05)
    assert line.startswith(f"the learning rate gets to {peak:.2g} and not to its 0.001")
    assert f"takes 50 of {steps} steps" in line
    # The mend that is named is one.
    shorter = replace(experiment.optimiser, warmup_steps=max(1, steps // 20))
    assert list(without_effect(replace(experiment, optimiser=shorter), dataset)) == []


@pytest.mark.parametrize("decay_from", ["start", "warmup"])
@pytest.mark.parametrize("schedule", ["polynomial", "cosine"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (7, 3), (20, 50), (1000, 50), (1000, 900)])
def test_the_highest_rate_is_that_of_all_steps(
    steps: int, warmup: int, schedule: str, decay_from: str, whole: Experiment
) -> None:
    optimiser = Optimiser("adam", 2e-3, warmup_steps=warmup, schedule=schedule, decay_from=decay_from)  # type: ignore[arg-type]
    experiment = replace(whole, steps=steps, optimiser=optimiser)
    rates = [2e-3 * learning_rate_factor(step, steps, optimiser) for step in range(steps)]
    assert peak_learning_rate(experiment.steps, experiment.optimiser) == pytest.approx(max(rates), rel=0.02)


def test_a_step_that_no_memory_holds_is_refused(whole: Experiment, dataset: PackedDataset) -> None:
    """64 windows of 4096x4096 ended Ray's processes on a machine of 24 GiB after two minutes."""
    huge = replace(whole, batch_size=64, augmentation=Augmentation(crop=(4096, 4096)))
    assert memory.least(huge, dataset) == 64 * 4096 * 4096 * 4 * (3 + 2 * 11)
    with pytest.raises(ValueError, match=r"64 images of 4096x4096 takes 100 GiB .*, and this machine has 24: lower"):
        memory.check([whole, huge], dataset, 24 * 2**30)
    memory.check([whole, replace(huge, accumulate=8)], dataset, 24 * 2**30)
    of_its_own_size = replace(whole, augmentation=Augmentation())
    assert memory.least(of_its_own_size, dataset) == 4 * 48 * 64 * 4 * 25


def test_a_batch_larger_than_the_images_is_told(whole: Experiment, dataset: PackedDataset) -> None:
    (line,) = without_effect(replace(whole, batch_size=8), dataset)
    assert line == ("a batch of 8 holds images of the 6 to train on more than once: --batch-size 6 holds each once")
    (line,) = without_effect(replace(whole, label_budget=3), dataset)
    assert "of the 3 to train on" in line


def test_windows_larger_than_every_image_are_told(whole: Experiment, dataset: PackedDataset) -> None:
    (line,) = without_effect(replace(whole, augmentation=Augmentation(crop=(96, 128))), dataset)
    assert line.startswith("windows of 96x128 are larger than every image (48x64 at most)")
    # Scaled up, some are not.
    scaled = Augmentation(crop=(96, 128), scale=(0.5, 2.0))
    assert list(without_effect(replace(whole, augmentation=scaled), dataset)) == []
    assert list(without_effect(replace(whole, augmentation=Augmentation(crop=(40, 128))), dataset)) == []
