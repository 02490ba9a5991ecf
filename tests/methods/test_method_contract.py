"""What every method of METHODS keeps to; a new one is covered once it is registered."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from miseg.interface import Batch, Method, Step
from miseg.losses import RegionMutualInformationLoss
from miseg.methods import METHODS, build_method, registry
from miseg.methods.configs import BinaryCrossEntropy, CrossEntropy, InfoSeg, RegionMutualInformation
from miseg.methods.ranges import changed
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.recipes.spaces import FixedTrial
from tests.support.tiny_methods import TASK, learnable_batch, tiny, tiny_config, with_examples

every_method = pytest.mark.parametrize("config_type", METHODS, ids=lambda kind: kind.__name__)
every_method_with_labels = pytest.mark.parametrize(
    "config_type", [kind for kind in METHODS if METHODS[kind].supervision == "dense"], ids=lambda kind: kind.__name__
)


def train(method: Method, batch: Batch, steps: int) -> list[float]:
    optimiser = torch.optim.Adam(method.param_groups(1e-2))
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = method(batch).loss()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@every_method
def test_says_what_it_learns_from_and_gives(config_type: type) -> None:
    assert issubclass(METHODS[config_type], Method)
    assert METHODS[config_type].supervision in ("dense", "few", "none")
    assert METHODS[config_type].emits in ("classes", "clusters")
    experiment = Experiment(config_type())
    assert (experiment.supervision, experiment.learns_from_pairs) == (
        METHODS[config_type].supervision,
        METHODS[config_type].pairs,
    ), "what is read from the settings, before the method is built, is what the method does"


@every_method
def test_a_description_comes_back_from_its_plain_form(config_type: type) -> None:
    """As checkpoints, MLflow and worker processes hold it."""
    experiment = Experiment(tiny_config(config_type), data="nowhere")
    again = from_dict(json.loads(json.dumps(to_dict(experiment))))
    assert again == experiment and again.id == experiment.id
    assert type(again.method) is config_type


@every_method
def test_is_registered_as_it_is(config_type: type) -> None:
    """Its default space begins at the settings themselves, and no end of it is out of range."""
    method = registry.registered()[config_type]
    experiment = Experiment(tiny_config(config_type))
    found = method.space(FixedTrial(method.point(experiment)), experiment)
    if config_type is InfoSeg:  # its point holds the temperature that counts where the settings leave it out
        found = changed(found, {"method.temperature": None})
    assert found == experiment
    assert [corner.id for _, _, corner in method.space.corners(experiment)]


@every_method
def test_forward_gives_a_step(config_type: type) -> None:
    method = tiny(config_type)
    step = method(learnable_batch(method))
    assert isinstance(step, Step)
    assert step.total.ndim == 1 and step.total.shape == step.count.shape
    assert step.total.requires_grad and not step.count.requires_grad
    assert step.total.dtype == step.count.dtype == torch.float32
    assert step.total.isfinite().all() and step.count.isfinite().all() and (step.count >= 0).all()
    assert all(value.ndim == 0 and not value.requires_grad for value in step.scalars.values())
    assert step.loss().ndim == 0


@every_method
@pytest.mark.parametrize("size_HW", [(32, 32), (29, 43)])
def test_predict_gives_probabilities_at_input_resolution(config_type: type, size_HW: tuple[int, int]) -> None:
    method = with_examples(tiny(config_type)).eval()
    with torch.inference_mode():
        probabilities = method.predict(torch.randn(2, TASK.in_channels, *size_HW))
    assert probabilities.shape[0] == 2 and probabilities.shape[2:] == size_HW
    assert method.emits == "clusters" or probabilities.shape[1] == TASK.num_classes
    assert probabilities.min() >= 0 and probabilities.max() <= 1


@every_method
def test_some_steps_on_one_batch_reduce_the_loss_and_learn_the_colours(config_type: type) -> None:
    method = tiny(config_type)
    batch = learnable_batch(method)
    losses = train(method, batch, steps=100 if method.supervision == "none" else 30)
    # Some draw other pairs in every step: the last ones together tell more than one of them.
    assert sum(losses[-5:]) / 5 < losses[0] - 0.2 * abs(losses[0])
    if batch.labels_NHW is None:
        return
    method.eval()
    with torch.inference_mode():
        predicted = method.predict(batch.images_NCHW).argmax(1)
    counted = batch.labels_NHW != TASK.ignore_index
    assert (predicted == batch.labels_NHW)[counted].float().mean() > 0.9


@every_method_with_labels
def test_all_ignored_labels_are_finite_with_zero_gradient(config_type: type) -> None:
    method = tiny(config_type)
    batch = learnable_batch(method)
    assert batch.labels_NHW is not None
    step = method(replace(batch, labels_NHW=torch.full_like(batch.labels_NHW, TASK.ignore_index)))
    step.loss().backward()
    assert step.loss().isfinite() and all(value.isfinite() for value in step.scalars.values())
    assert all(p.grad is not None and p.grad.count_nonzero() == 0 for p in method.parameters())


@every_method_with_labels
def test_refuses_a_batch_without_the_labels_it_needs(config_type: type) -> None:
    method = tiny(config_type)
    with pytest.raises(ValueError, match="without labels"):
        method(learnable_batch(method).without_labels())


@every_method
def test_one_seed_gives_the_same_losses_bit_by_bit(config_type: type) -> None:
    def losses() -> list[float]:
        method = tiny(config_type, seed=3)
        return train(method, learnable_batch(method), steps=4)

    assert losses() == losses()


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_finite_under_autocast(config_type: type, dtype: torch.dtype) -> None:
    method = with_examples(tiny(config_type))
    with torch.autocast("cpu", dtype=dtype):
        step = method(learnable_batch(method))
        probabilities = method.predict(torch.randn(1, TASK.in_channels, 32, 32))
    step.loss().backward()
    assert step.total.dtype == probabilities.dtype == torch.float32
    assert step.loss().isfinite()
    learned = (p for p in method.parameters() if p.requires_grad)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learned)


def test_cross_entropy_is_the_mean_over_valid_pixels() -> None:
    method = tiny(CrossEntropy)
    batch = learnable_batch(method)
    expected = torch.nn.functional.cross_entropy(method.network(batch.images_NCHW), batch.labels_NHW, ignore_index=255)
    torch.testing.assert_close(method(batch).loss(), expected)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_region_mutual_information_equals_its_loss_on_one_rank(weight: float) -> None:
    torch.manual_seed(0)
    network = UNet(initial_features=8, normalisation="group")
    config = RegionMutualInformation(network, weight=weight, downsampling_factor=2, region_size=2, downsampling="max")
    method = build_method(config, TASK)
    batch = learnable_batch(method)
    step = method(batch)
    loss = RegionMutualInformationLoss(3, 2, 2, "max", weight)
    torch.testing.assert_close(step.loss(), loss(method.network(batch.images_NCHW), batch.labels_NHW))
    parts = weight * step.scalars["bce"] + (1 - weight) * step.scalars["rmi"]
    torch.testing.assert_close(step.loss().detach(), parts)


def test_binary_cross_entropy_is_region_mutual_information_with_weight_1() -> None:
    bce, rmi = tiny(BinaryCrossEntropy), tiny(RegionMutualInformation)
    rmi.config = replace(rmi.config, weight=1.0)
    batch = learnable_batch(bce)
    torch.testing.assert_close(bce(batch).loss(), rmi(batch).loss())


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="type int; METHODS holds CrossEntropy"):
        build_method(7, TASK)
