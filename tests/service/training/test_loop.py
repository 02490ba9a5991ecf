"""The training loop in this process: resumes, broken losses, learning rates, evaluation."""

from __future__ import annotations

import copy
import io
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from miseg.evaluation import ConfusionMatrix, match_clusters
from miseg.interface import Batch, Method, Step, combine
from miseg.methods.configs import (
    BinaryCrossEntropy,
    CrossEntropy,
    InfoSeg,
    MethodConfig,
    PixelKMeans,
)
from miseg.networks.configs import InfoSegNetwork, UNet
from miseg.optimisation.averaging import WeightAverage
from miseg.optimisation.compilation import networks_of
from miseg.optimisation.schedules import learning_rate_factor
from miseg.recipes.experiment import Optimiser
from miseg.service.checkpoints import checkpoint
from miseg.service.checkpoints.checkpoint_files import CheckpointError
from miseg.service.training import loop as loop_module
from miseg.service.training.loop import SKIPS_IN_A_ROW, Loop
from miseg.service.training.records import NonFiniteLossError
from tests.support.loops import EXPERIMENT, METHODS, NETWORK, TASK, batch_of, broken, every_method, losses, run

# Resuming


def through_memory(stopped: Loop, fresh: Loop, folder: Path) -> None:
    weights, state = copy.deepcopy((stopped.evaluated.state_dict(), stopped.state()))
    fresh.evaluated.load_state_dict(weights)
    fresh.load_state(state)


def through_disk(stopped: Loop, fresh: Loop, folder: Path) -> None:
    checkpoint.save(folder / "checkpoint", stopped, {})
    checkpoint.load(folder / "checkpoint", fresh)


ADAMW = Optimiser("adamw", 1e-2, weight_decay=0.1, warmup_steps=3, schedule="cosine", decayed="weights")


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": Optimiser(learning_rate=1e-2, warmup_steps=3)},
        {"optimiser": Optimiser("sgd", learning_rate=1e-2, weight_decay=1e-3, clip=0.5)},
        {"optimiser": ADAMW},
        {"optimiser": replace(ADAMW, ema_decay=0.9)},
        {"optimiser": replace(ADAMW, clip=0.5), "accumulate": 2},
        {"optimiser": replace(ADAMW, ema_decay=0.9), "accumulate": 4, "non_finite": "skip"},
    ],
    ids=["adam", "sgd", "adamw", "average", "parts", "average and parts"],
)
@pytest.mark.parametrize(
    ("transfer", "stop", "normalisation"),
    [(through_memory, 3, "group"), (through_disk, 1, "batch"), (through_disk, 7, "batch")],
)
def test_a_resumed_run_equals_one_never_stopped_bit_for_bit(
    settings: dict[str, Any],
    transfer: Callable[..., None],
    stop: int,
    normalisation: Literal["batch", "group"],
    tmp_path: Path,
) -> None:
    experiment = replace(EXPERIMENT, method=CrossEntropy(UNet(2, normalisation)), **settings)
    whole = Loop(experiment, TASK)
    expected = run(whole, 8)

    stopped = Loop(experiment, TASK)
    first = run(stopped, stop)
    resumed = Loop(replace(experiment), TASK)
    transfer(stopped, resumed, tmp_path)
    second = run(resumed, 8)

    assert [record.step for record in first + second] == list(range(8))
    assert first + second == expected
    for of_whole, of_resumed in ((whole.method, resumed.method), (whole.evaluated, resumed.evaluated)):
        weights = of_resumed.state_dict()
        differing = [name for name, value in of_whole.state_dict().items() if not torch.equal(value, weights[name])]
        assert not differing
    assert len(set(losses(expected))) == 8, "a loss that never changes would prove nothing"


def test_random_numbers_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        # The second normal number comes from the state's own store, in NumPy and in Python.
        return [torch.rand(()).item(), np.random.rand(), np.random.randn(), random.random(), random.gauss()]

    loop = Loop(EXPERIMENT, TASK)
    draw()
    file = io.BytesIO()
    torch.save(loop.state(), file)
    expected = [draw(), draw()]
    file.seek(0)
    fresh = Loop(replace(EXPERIMENT, seed=6), TASK)
    assert [draw(), draw()] != expected
    fresh.load_state(torch.load(file, weights_only=True))
    assert [draw(), draw()] == expected


def test_the_seed_alone_decides_the_weights() -> None:
    first, second, other = (Loop(replace(EXPERIMENT, seed=seed), TASK).method for seed in (1, 1, 2))
    assert torch.equal(first.network.head.weight, second.network.head.weight)
    assert not torch.equal(first.network.head.weight, other.network.head.weight)


# A loss that is not finite


@every_method
def test_a_broken_image_is_found_at_the_next_flush_and_named(method: MethodConfig) -> None:
    optimiser = Optimiser(learning_rate=1e-2, warmup_steps=0, power=0)
    loop = Loop(replace(EXPERIMENT, method=method, optimiser=optimiser), TASK)
    before = run(loop, 3)
    assert [record.step for record in before] == [0, 1, 2] and np.isfinite(losses(before)).all()
    loop.train_step(batch_of(3))
    loop.train_step(broken(batch_of(4), 1))
    loop.train_step(batch_of(5))
    with pytest.raises(NonFiniteLossError) as stopped:
        loop.flush()
    text = str(stopped.value)
    assert "the loss is nan at step 4 (learning rate 0.01, images image-4-0, image-4-1, image-4-2, image-4-3)" in text
    assert "lower the learning rate" in text and "image-5" not in text
    assert [record.step for record in stopped.value.records] == [3]


@every_method
def test_a_broken_image_s_step_is_left_out_where_that_is_asked_for(method: MethodConfig) -> None:
    experiment = replace(EXPERIMENT, method=method, non_finite="skip")
    loop, other = Loop(experiment, TASK), Loop(experiment, TASK)
    run(loop, 3)
    before = copy.deepcopy((loop.method.state_dict(), loop.optimiser.state_dict()["state"]))
    loop.train_step(broken(batch_of(3), 1))
    torch.testing.assert_close((loop.method.state_dict(), loop.optimiser.state_dict()["state"]), before, rtol=0, atol=0)
    (left_out,) = loop.flush()
    assert left_out.values == {"train/skipped": 1.0} and left_out.step == 3
    assert "the loss is nan at step 3 (learning rate" in left_out.skipped
    assert "image-3-0, image-3-1, image-3-2, image-3-3): the step is left out" in left_out.skipped
    # The steps after it are those of a training that had no such step.
    run(other, 3)
    other.step = 4
    assert losses(run(loop, 6)) == losses(run(other, 6))


def test_a_gradient_that_is_not_finite_is_left_out_though_the_loss_is(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(replace(EXPERIMENT, method=METHODS[0], non_finite="skip"), TASK)
    weight = loop.method.network.head.weight
    before = weight.detach().clone()
    hook = weight.register_hook(lambda gradient: gradient * torch.inf)
    loop.train_step(batch_of(0))
    hook.remove()
    assert torch.equal(weight, before)
    assert "the gradient is not finite at step 0" in loop.flush()[0].skipped


def test_a_network_that_has_no_finite_loss_any_more_ends_the_training_all_the_same() -> None:
    loop = Loop(replace(EXPERIMENT, method=METHODS[0], non_finite="skip", steps=100), TASK)
    for step in range(SKIPS_IN_A_ROW):
        loop.train_step(broken(batch_of(step), 0))
    assert len(loop.flush()) == SKIPS_IN_A_ROW
    loop.train_step(broken(batch_of(SKIPS_IN_A_ROW), 0))
    with pytest.raises(NonFiniteLossError, match=f"at step {SKIPS_IN_A_ROW} "):
        loop.flush()


@every_method
def test_a_batch_in_which_no_pixel_counts_is_named_and_breaks_nothing(method: MethodConfig) -> None:
    loop = Loop(replace(EXPERIMENT, method=method), TASK)
    empty = batch_of(0)
    assert empty.labels_NHW is not None
    before = copy.deepcopy(loop.method.state_dict())
    loop.train_step(replace(empty, labels_NHW=torch.full_like(empty.labels_NHW, TASK.ignore_index)))
    assert all(torch.equal(value, before[name]) for name, value in loop.method.state_dict().items())
    first, *others = run(loop, 8)
    ids = "image-0-0, image-0-1, image-0-2, image-0-3"
    assert first.empty == f"no pixel counts at step 0 (images {ids}): it teaches nothing"
    assert not any(record.empty for record in others) and np.isfinite(losses([first, *others])).all()


@every_method
def test_classes_without_a_pixel_break_nothing(method: MethodConfig) -> None:
    loop = Loop(replace(EXPERIMENT, method=method), TASK)
    for step in range(4):
        batch = batch_of(step)
        assert batch.labels_NHW is not None
        loop.train_step(replace(batch, labels_NHW=torch.where(batch.labels_NHW == 255, 255, 1)))
    assert np.isfinite(losses(loop.flush())).all()
    assert all(value.isfinite().all() for value in loop.method.state_dict().values())


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_cholesky_that_fails_is_named_with_its_step_and_images(
    policy: Literal["stop", "skip"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sums that are not positive definite, as no image gives them: those of step 1 are turned negative."""
    loop = Loop(replace(EXPERIMENT, non_finite=policy), TASK)
    real = torch.linalg.cholesky_ex

    def fails(sums_BDD: Tensor) -> Any:
        return real(-sums_BDD if loop.step == 1 else sums_BDD)

    monkeypatch.setattr("miseg.losses.information.region_covariance.torch.linalg.cholesky_ex", fails)
    named = r"the loss is nan at step 1 \(learning rate .*, images image-1-0, image-1-1, image-1-2, image-1-3\)"
    if policy == "stop":
        with pytest.raises(NonFiniteLossError, match=named):
            run(loop, 3)
        return
    records = run(loop, 4)
    assert re.match(named, records[1].skipped) and [bool(record.skipped) for record in records] == [0, 1, 0, 0]
    assert all(value.isfinite().all() for value in loop.method.state_dict().values())


def test_an_exploding_learning_rate_is_found() -> None:
    optimiser = Optimiser("sgd", learning_rate=1e12, warmup_steps=0)
    loop = Loop(replace(EXPERIMENT, method=BinaryCrossEntropy(NETWORK), optimiser=optimiser), TASK)
    with pytest.raises(NonFiniteLossError, match=r"at step \d \(learning rate \d+(\.\d+)?e\+1[12]"):
        run(loop, 8)


def test_a_flush_without_steps_is_empty() -> None:
    loop = Loop(EXPERIMENT, TASK)
    assert loop.flush() == []
    assert len(run(loop, 1)) == 1
    assert loop.flush() == []


def test_records_carry_the_losss_parts_and_the_learning_rate() -> None:
    (record,) = run(Loop(EXPERIMENT, TASK), 1)
    assert set(record.values) == {"train/loss", "train/learning_rate", "train/bce", "train/rmi"}
    expected = 0.5 * record.values["train/bce"] + 0.5 * record.values["train/rmi"]
    assert record.values["train/loss"] == pytest.approx(expected, rel=1e-5)


# Learning rate and gradient


def test_training_follows_the_schedule() -> None:
    rates = [record.values["train/learning_rate"] for record in run(Loop(EXPERIMENT, TASK), 8)]
    expected = [1e-2 * learning_rate_factor(step, 8, EXPERIMENT.optimiser) for step in range(8)]
    assert rates == pytest.approx(expected, rel=1e-12)


def change_of_first_step(clip: float | None) -> float:
    optimiser = Optimiser("sgd", learning_rate=1.0, momentum=0.0, warmup_steps=0, power=0, clip=clip)
    loop = Loop(replace(EXPERIMENT, optimiser=optimiser), TASK)
    before = [parameter.detach().clone() for parameter in loop.method.parameters()]
    loop.train_step(batch_of(0))
    changes = [new.detach() - old for new, old in zip(loop.method.parameters(), before, strict=True)]
    return nn.utils.get_total_norm(changes).item()


def test_clip_bounds_the_update() -> None:
    free = change_of_first_step(None)
    assert change_of_first_step(free / 10) == pytest.approx(free / 10, rel=1e-3)
    assert change_of_first_step(free * 10) == pytest.approx(free, rel=1e-6)


# The average of the weights

AVERAGED = replace(
    EXPERIMENT,
    method=CrossEntropy(UNet(2, "batch")),
    optimiser=Optimiser(learning_rate=3e-2, warmup_steps=0, ema_decay=0.9),
    steps=100,
)


def test_the_average_is_what_is_evaluated_kept_and_served(tmp_path: Path) -> None:
    without = replace(AVERAGED.optimiser, ema_decay=None)
    loop, plain = Loop(AVERAGED, TASK), Loop(replace(AVERAGED, optimiser=without), TASK)
    by_hand = WeightAverage(loop.method, 0.9)
    for step in range(12):
        loop.train_step(batch_of(step))
        by_hand.update(loop.method)
    assert losses(loop.flush()) == losses(run(plain, 12)), "training itself sees nothing of the average"
    checkpoint.save(tmp_path / "checkpoint", loop, {})
    served, *_ = checkpoint.open_method(tmp_path / "checkpoint")
    trained = loop.method.state_dict()
    for name, value in by_hand.module.state_dict().items():
        assert torch.equal(value, served.state_dict()[name]) and torch.equal(value, loop.evaluated.state_dict()[name])
        assert name.endswith("num_batches_tracked") or not torch.equal(value, trained[name])
    batches = [batch_of(7), batch_of(8)]
    expected = ConfusionMatrix(3)
    with torch.no_grad():
        for batch in batches:
            assert batch.labels_NHW is not None
            images = batch.images_NCHW.contiguous(memory_format=torch.channels_last)
            expected.update(served.predict(images).argmax(1), batch.labels_NHW)
    assert torch.equal(loop.evaluate(batches).matrix.counts, expected.counts)
    assert not torch.equal(plain.evaluate(batches).matrix.counts, expected.counts)


def test_a_step_that_is_left_out_leaves_the_average_as_it_was() -> None:
    loop = Loop(replace(AVERAGED, non_finite="skip"), TASK)
    run(loop, 3)
    before, updates = copy.deepcopy(loop.evaluated.state_dict()), loop.average and loop.average.updates
    loop.train_step(broken(batch_of(3), 1))
    assert loop.flush()[0].skipped
    assert all(torch.equal(value, before[name]) for name, value in loop.evaluated.state_dict().items())
    assert updates == 3 and loop.average is not None and loop.average.updates == 3


def test_a_checkpoint_without_the_average_cannot_go_on_with_one(tmp_path: Path) -> None:
    plain = Loop(replace(AVERAGED, optimiser=Optimiser(learning_rate=1e-2)), TASK)
    checkpoint.save(tmp_path / "checkpoint", plain, {})
    with pytest.raises(CheckpointError, match="resume it with the settings it had"):
        checkpoint.load(tmp_path / "checkpoint", Loop(AVERAGED, TASK))


@pytest.mark.parametrize(
    "method", [PixelKMeans(samples=100), InfoSeg(InfoSegNetwork(8, 2))], ids=["k-means", "infoseg"]
)
def test_clusters_are_those_of_the_average(method: MethodConfig) -> None:
    loop = Loop(replace(AVERAGED, method=method), TASK)
    run(loop, 2)
    trained = copy.deepcopy(loop.method.state_dict())
    loop.evaluated.fit_support([batch_of(7).without_labels()])
    assert all(torch.equal(value, trained[name]) for name, value in loop.method.state_dict().items())
    score = loop.evaluate([batch_of(7)], keep=4)
    assert score.clusters is not None and score.objective is not None and np.isfinite(score.objective)
    with torch.no_grad():
        expected = loop.evaluated.predict(batch_of(7).images_NCHW).argmax(1)
    match_K = match_clusters(score.clusters.counts)
    assert torch.equal(score.samples[0][1], match_K[expected])


# What a method may see


class Spy(Method):
    """Keeps what it is given."""

    supervision: ClassVar[Literal["dense", "few", "none"]] = "none"
    emits: ClassVar[Literal["classes", "clusters"]] = "clusters"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.seen: list[Batch] = []

    def forward(self, batch: Batch) -> Step:
        self.seen.append(batch)
        return Step(self.layer(batch.images_NCHW).square().sum().view(1), torch.ones(1))

    def predict(self, images_NCHW: Tensor) -> Tensor:
        return self.layer(images_NCHW).softmax(1)


class LabelledSpy(Spy):
    supervision: ClassVar[Literal["dense", "few", "none"]] = "dense"


@pytest.mark.parametrize(("kind", "labelled"), [(Spy, False), (LabelledSpy, True)])
def test_a_method_without_supervision_gets_no_labels(
    kind: type[Spy], labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "build_method", lambda config, task, pretrained=True: kind())
    loop = Loop(EXPERIMENT, TASK)
    run(loop, 2)
    assert isinstance(loop.method, kind) and len(loop.method.seen) == 2
    assert [batch.labels_NHW is not None for batch in loop.method.seen] == [labelled, labelled]
    assert loop.method.seen[0].ids == batch_of(0).ids


# Evaluation


@every_method
def test_the_loss_on_held_out_images_is_the_training_loss_and_takes_no_pass_of_its_own(method: MethodConfig) -> None:
    loop = Loop(replace(EXPERIMENT, method=method), TASK)
    run(loop, 2)
    batches, passes = [batch_of(5), batch_of(6)], []
    networks = list(networks_of(loop.method))
    for network in networks:
        network.forward = _counted(network.forward, passes)  # type: ignore[method-assign]
    found = loop.evaluate(batches)
    assert len(passes) == len(batches) * len(networks)
    loop.method.eval()
    with torch.no_grad():
        steps = [loop.method(batch) for batch in batches]
    total, count = (sum(getattr(step, name).double() for step in steps) for name in ("total", "count"))
    assert found.loss == pytest.approx(combine(total, count).item(), rel=1e-5)
    assert len(passes) == 2 * len(batches) * len(networks), "the networks are as they were"


def _counted(forward: Callable[..., Any], passes: list[None]) -> Callable[..., Any]:
    def counting(*args: Any) -> Any:
        passes.append(None)
        return forward(*args)

    return counting


def test_a_loss_that_is_not_defined_on_validation_images_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = Loop(EXPERIMENT, TASK)

    def refuse(batch: Batch) -> Step:
        raise ValueError("images of 8x8 leave no region")

    monkeypatch.setattr(loop.method, "forward", refuse)
    found = loop.evaluate([batch_of(5), batch_of(6)])
    assert found.loss is None and found.matrix.counts.sum() > 0
    assert capsys.readouterr().out.count("leave no region") == 1


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_equals_a_direct_count_and_restores_the_training_mode(training: bool) -> None:
    loop = Loop(replace(EXPERIMENT, method=CrossEntropy(UNet(2, "batch"))), TASK)
    run(loop, 2)
    loop.method.train(training)
    weights = copy.deepcopy(loop.method.state_dict())
    unlabelled = batch_of(9).without_labels()
    found = loop.evaluate([batch_of(7), batch_of(8), unlabelled]).matrix
    assert all(module.training is training for module in loop.method.modules())
    assert all(torch.equal(value, weights[name]) for name, value in loop.method.state_dict().items())

    expected = ConfusionMatrix(3)
    loop.method.eval()
    with torch.no_grad():
        for batch in (batch_of(7), batch_of(8)):
            assert batch.labels_NHW is not None
            images = batch.images_NCHW.contiguous(memory_format=torch.channels_last)
            expected.update(loop.method.predict(images).argmax(1), batch.labels_NHW)
    assert torch.equal(found.counts, expected.counts) and found.counts.sum() > 0


@pytest.mark.parametrize(("keep", "batches"), [(0, 0), (1, 1), (4, 1), (5, 2), (99, 3)])
def test_evaluation_keeps_the_first_images_with_their_predictions(keep: int, batches: int) -> None:
    loop = Loop(EXPERIMENT, TASK)
    samples = loop.evaluate((batch_of(step) for step in (7, 8, 9)), keep=keep).samples
    assert [batch.ids for batch, _ in samples] == [batch_of(step).ids for step in (7, 8, 9)][:batches]
    for batch, prediction_NHW in samples:
        assert prediction_NHW.shape == (4, 32, 32) and prediction_NHW.dtype == torch.int64
        assert batch.labels_NHW is not None and batch.images_NCHW.shape == (4, 3, 32, 32)
