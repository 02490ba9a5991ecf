"""The Porto study's recipes say what its code did, or treat every method alike."""

from dataclasses import replace

import pytest

from miseg.methods.configs import MutualLearning, RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes import porto

DATA = pytest.mark.parametrize("data", porto.TRAINING_IMAGES)


@DATA
def test_by_default_only_the_method_differs(data: str) -> None:
    ce, rmi, mutual = (porto.RECIPES[f"porto-{data}-{name}"](seed=3) for name in ("ce", "rmi", "mutual"))
    assert replace(rmi, method=ce.method) == ce == replace(mutual, method=ce.method)
    assert (ce.batch_size, ce.optimiser.learning_rate, ce.data, ce.seed) == (8, 1e-3, data, 3)
    assert rmi.method == RegionMutualInformation(UNet(32))
    assert mutual.method.target == "probabilities"


@DATA
def test_as_published_is_what_the_code_ran(data: str) -> None:
    rmi = porto.RECIPES[f"porto-{data}-rmi-as-published"]()
    method = rmi.method
    assert isinstance(method, RegionMutualInformation)
    assert (method.downsampling_factor, method.region_size, method.weight) == (1, 3, 0.5)
    assert (rmi.batch_size, rmi.optimiser.learning_rate) == (2, 1e-4)
    mutual = porto.RECIPES[f"porto-{data}-mutual-as-published"]()
    assert isinstance(mutual.method, MutualLearning)
    assert (mutual.method.target, mutual.batch_size, mutual.optimiser.learning_rate) == ("logits", 10, 1e-4)
    student, teacher = mutual.method.networks
    assert isinstance(student, UNet) and (teacher.version, teacher.encoder) == ("v3", "resnet50")


def test_every_recipe_takes_two_hundred_epochs() -> None:
    # PyTorch's DataLoader keeps the last, smaller batch of an epoch.
    assert porto.RECIPES["porto-voc-ce"]().steps == 200 * 183
    assert porto.RECIPES["porto-voc-rmi-as-published"]().steps == 200 * 732
    assert porto.RECIPES["porto-cityscapes-mutual-as-published"]().steps == 200 * 298
    assert porto.RECIPES["porto-ade20k-rmi-as-published"]().steps == 200 * 10_105


def test_as_published_has_a_description_of_its_own() -> None:
    doc = porto.RECIPES["porto-voc-rmi-as-published"].__doc__ or ""
    assert "`porto-voc-rmi-as-published`" in doc and "as the study's code ran it" in doc
