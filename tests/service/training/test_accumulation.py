"""A step whose batch is cut into parts is the step of the whole batch."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from miseg.interface import Batch, combine
from miseg.methods import METHODS
from miseg.methods.configs import (
    CoOccurrence,
    CrossEntropy,
    DeepInfoMax,
    InfoSeg,
    InvariantInformation,
    MethodConfig,
    PatchAutoencoder,
    PixelKMeans,
    RelativePosition,
)
from miseg.methods.dense.cross_entropy import CrossEntropyMethod
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.training.loop import Loop
from tests.support.loops import EXPERIMENT, batch_of, broken, every_method, run
from tests.support.loops import METHODS as DENSE
from tests.support.loops import TASK as DENSE_TASK
from tests.support.tiny_methods import TASK, learnable_batch, tiny_config

ONE_STEP = Optimiser("sgd", learning_rate=1.0, momentum=0.0, warmup_steps=0, power=0)
"""The step is the gradient."""

OF_THE_WHOLE_BATCH = {InvariantInformation}
DRAWS = {RelativePosition, CoOccurrence, DeepInfoMax, PatchAutoencoder}
"""Methods whose parts have random draws of their own, which the whole batch's are not."""
LEARNS_NOTHING = {PixelKMeans}
"""No gradient: centres are found after the training."""

CUT = [kind for kind in METHODS if kind not in OF_THE_WHOLE_BATCH | LEARNS_NOTHING]


def config_of(kind: type) -> MethodConfig:
    config: Any = tiny_config(kind)
    return replace(config, jitter=0.0) if kind is InfoSeg else config


def loop_of(kind: type, accumulate: int, **settings: Any) -> Loop:
    """A training in float64, so that a difference is more than rounding."""
    experiment = Experiment(config_of(kind), optimiser=ONE_STEP, batch_size=8, accumulate=accumulate)
    loop = Loop(replace(experiment, **settings), TASK)
    loop.method.double()
    return loop


def batch_for(loop: Loop) -> Batch:
    """Eight images, or pairs of patches, in whose parts different numbers of pixels count."""
    scenes = [learnable_batch(loop.method, seed) for seed in (1, 2, 3, 4)]
    if loop.method.pairs:
        scenes = scenes[:1]
    values: dict[str, Any] = {}
    for name in ("images_NCHW", "labels_NHW", "views_NCHW", "valid_NHW"):
        tensors = [getattr(scene, name) for scene in scenes]
        values[name] = None if tensors[0] is None else torch.cat(tensors)
        if name in ("images_NCHW", "views_NCHW") and values[name] is not None:
            values[name] = values[name].double()
    if values["labels_NHW"] is not None:
        for index, labels_HW in enumerate(values["labels_NHW"]):
            labels_HW[: 3 * index] = TASK.ignore_index
    if values["valid_NHW"] is not None:
        for index, valid_HW in enumerate(values["valid_NHW"]):
            valid_HW[: 3 * index] = False
    return Batch(ids=tuple("abcdefgh"), **values)


def gradient(loop: Loop, batch: Batch) -> list[Tensor]:
    """The gradient of a step, which is taken."""
    before = [parameter.detach().clone() for parameter in loop.method.parameters()]
    loop.train_step(batch)
    loop.flush()
    return [old - new.detach() for new, old in zip(loop.method.parameters(), before, strict=True)]


def assert_equal(found: list[Tensor], expected: list[Tensor], rel: float) -> None:
    size = torch.cat([value.flatten() for value in expected]).norm()
    difference = torch.cat([(a - b).flatten() for a, b in zip(found, expected, strict=True)]).norm()
    assert size > 0 and difference <= rel * size


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("kind", [kind for kind in CUT if kind not in DRAWS], ids=lambda kind: kind.__name__)
def test_the_gradient_is_that_of_the_undivided_step(kind: type, accumulate: int) -> None:
    whole = loop_of(kind, 1)
    batch = batch_for(whole)
    expected = gradient(whole, batch)
    found = gradient(loop_of(kind, accumulate), batch)
    # Those without masks compute their scores in single precision whatever the network does.
    assert_equal(found, expected, rel=1e-10 if METHODS[kind].supervision == "dense" else 1e-5)


@pytest.mark.parametrize("kind", CUT, ids=lambda kind: kind.__name__)
def test_the_gradient_is_that_of_all_parts_together(kind: type) -> None:
    """With the same draws: the sums of all parts, divided by the counts of all, differentiated at once."""
    loop, other = loop_of(kind, 4), loop_of(kind, 4)
    batch = batch_for(loop)
    other.method.train()
    seen = batch.without_labels() if other.method.supervision == "none" else batch
    steps = [other._forward(other.method, seen.parts(4), number) for number in range(4)]
    total, count = (torch.stack([getattr(step, name) for step in steps]).sum(0) for name in ("total", "count"))
    learned = [p for p in other.method.parameters() if p.requires_grad]
    expected = torch.autograd.grad(combine(total, count), learned, allow_unused=True)
    loop.train_step(batch)
    (record,) = loop.flush()
    assert record.values["train/loss"] == pytest.approx(combine(total, count).item(), rel=1e-6)
    found = [old - new for old, new in zip(other.method.parameters(), loop.method.parameters(), strict=True)]
    moved = [value.detach() for value, p in zip(found, other.method.parameters(), strict=True) if p.requires_grad]
    assert_equal(moved, [torch.zeros_like(p) if g is None else g for g, p in zip(expected, learned, strict=True)], 1e-5)


@pytest.mark.parametrize("kind", CUT, ids=lambda kind: kind.__name__)
def test_what_a_method_says_it_counts_is_what_it_counts(kind: type) -> None:
    loop = loop_of(kind, 4)
    for part in batch_for(loop).parts(4):
        said = loop.method.counts(part)
        if METHODS[kind].supervision == "dense":
            assert said is not None, "labels are enough"
        if said is not None:
            torch.testing.assert_close(said.double(), loop.method(part).count.double())


@pytest.mark.parametrize("kind", sorted(OF_THE_WHOLE_BATCH, key=lambda kind: kind.__name__))
def test_a_loss_of_the_whole_batch_is_not_cut(kind: type) -> None:
    with pytest.raises(ValueError, match=r"accumulate = 2: the loss of .* is one of the whole batch"):
        loop_of(kind, 2)


def test_batch_norm_sees_a_part_at_a_time() -> None:
    """The one difference that is left: it is said, and is no fault of the sums."""
    experiment = replace(EXPERIMENT, method=CrossEntropy(UNet(2, "batch")), optimiser=ONE_STEP)
    whole, cut = Loop(experiment, DENSE_TASK), Loop(replace(experiment, accumulate=2), DENSE_TASK)
    batch = batch_of(0)
    expected, found = gradient(whole, batch), gradient(cut, batch)
    with pytest.raises(AssertionError):
        assert_equal(found, expected, rel=1e-3)
    tracked = "network.encoders.0.1.num_batches_tracked"
    assert (whole.method.state_dict()[tracked], cut.method.state_dict()[tracked]) == (1, 2)


def test_counting_by_a_forward_pass_leaves_no_trace_in_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = replace(EXPERIMENT, method=CrossEntropy(UNet(2, "batch")), accumulate=2)
    one, other = Loop(experiment, DENSE_TASK), Loop(experiment, DENSE_TASK)
    run(one, 2)
    monkeypatch.setattr(CrossEntropyMethod, "counts", lambda self, batch: None)
    run(other, 2)
    for name, value in one.method.state_dict().items():
        assert torch.equal(value, other.method.state_dict()[name]), name


def test_a_method_that_says_other_counts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrossEntropyMethod, "counts", lambda self, batch: torch.tensor([7.0]))
    loop = Loop(replace(EXPERIMENT, method=DENSE[0], accumulate=2), DENSE_TASK)
    loop.train_step(batch_of(0))
    with pytest.raises(ValueError, match=r"CrossEntropyMethod.counts says other numbers .* \(step 0\): .* return None"):
        loop.flush()


@every_method
@pytest.mark.parametrize("index", [0, 3])
def test_a_broken_part_leaves_the_whole_step_out(method: MethodConfig, index: int) -> None:
    experiment = replace(EXPERIMENT, method=method, non_finite="skip", accumulate=2)
    loop = Loop(experiment, DENSE_TASK)
    run(loop, 2)
    before = copy.deepcopy((loop.method.state_dict(), loop.optimiser.state_dict()["state"]))
    loop.train_step(broken(batch_of(2), index))
    torch.testing.assert_close((loop.method.state_dict(), loop.optimiser.state_dict()["state"]), before, rtol=0, atol=0)
    (left_out,) = loop.flush()
    assert "the loss is nan at step 2" in left_out.skipped
    assert "image-2-0, image-2-1, image-2-2, image-2-3" in left_out.skipped


@pytest.mark.parametrize("clip", [1e-3, None])
def test_the_norm_that_is_clipped_is_the_whole_steps(clip: float | None) -> None:
    batch = batch_of(0)
    settings = replace(EXPERIMENT, optimiser=replace(ONE_STEP, clip=clip))
    whole, cut = (gradient(Loop(replace(settings, accumulate=n), DENSE_TASK), batch) for n in (1, 4))
    assert_equal(cut, whole, rel=1e-3)
    if clip is not None:
        assert nn.utils.get_total_norm(cut).item() == pytest.approx(clip, rel=1e-2)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_parts_hold_every_image_once_in_order(number: Literal[1, 2, 3, 4]) -> None:
    batch = batch_of(0)
    parts = batch.parts(number)
    assert len(parts) == {1: 1, 2: 2, 3: 2, 4: 4}[number]
    assert sum((part.ids for part in parts), ()) == batch.ids
    assert torch.equal(torch.cat([part.images_NCHW for part in parts]), batch.images_NCHW)
    assert all(part.views_NCHW is None for part in parts)
