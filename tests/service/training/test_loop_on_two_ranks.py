"""Two ranks with uneven shares train as one with the whole batch, and stop together."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from miseg.interface import Batch
from miseg.methods.configs import CrossEntropy, MethodConfig
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Optimiser
from miseg.service.training.agreement import Agreement
from miseg.service.training.loop import Loop
from miseg.service.training.records import NonFiniteLossError
from miseg.service.training.scoring import Evaluation
from tests.support.loops import EXPERIMENT, METHODS, TASK, batch_of, broken, every_method, losses, run

SHARES = (slice(0, 1), slice(1, 4))
RANK_STEPS = 5
AVERAGED = Optimiser("sgd", learning_rate=1e-2, warmup_steps=0, ema_decay=0.9)
WANTED_AT = 4
"""The step at which one rank alone learns that it is preempted."""


def share_of(batch: Batch, rank: int) -> Batch:
    assert batch.labels_NHW is not None
    part = SHARES[rank]
    return Batch(batch.images_NCHW[part], batch.labels_NHW[part], batch.ids[part])


def half_of(batch: Batch, rank: int) -> Batch:
    return batch.parts(2)[rank]


def _further(evaluation: Evaluation) -> tuple[float, float, int, int]:
    """Image mean IoU, calibration error, and the images and pixels that they are of."""
    assert evaluation.image_iou is not None and evaluation.calibration is not None
    images, calibration = evaluation.image_iou, evaluation.calibration
    return images.mean(), calibration.error(), int(images.sums[1]), int(calibration.sums[0].sum())


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for method in METHODS:
        loop = Loop(replace(EXPERIMENT, method=method), TASK)
        for step in range(RANK_STEPS):
            loop.train_step(share_of(batch_of(step), rank))
        records = loop.flush()
        evaluation = loop.evaluate([share_of(batch_of(77), rank)], keep=1)
        matrix, kept = evaluation.matrix, evaluation.samples
        weights = copy.deepcopy(loop.method.state_dict())
        # Rank 1 holds the broken image (third of the batch); rank 0 must know of it.
        loop.train_step(share_of(broken(batch_of(RANK_STEPS), 2), rank))
        try:
            loop.flush()
            message = "no error"
        except NonFiniteLossError as error:
            message = str(error)
        found[type(method).__name__] = (losses(records), matrix.counts, weights, kept[0][0].ids, message)
        found[f"{type(method).__name__} of images"] = _further(evaluation)
        found[f"{type(method).__name__} loss"] = evaluation.loss
    loop = Loop(replace(EXPERIMENT, non_finite="skip"), TASK)
    loop.train_step(share_of(broken(batch_of(0), 2), rank))
    loop.train_step(share_of(batch_of(1), rank))
    found["skip"] = (loop.flush(), copy.deepcopy(loop.method.state_dict()))
    loop = Loop(replace(EXPERIMENT, accumulate=2, optimiser=AVERAGED), TASK)
    for step in range(RANK_STEPS):
        loop.train_step(half_of(batch_of(step), rank))
    found["parts"] = (losses(loop.flush()), *copy.deepcopy((loop.method.state_dict(), loop.evaluated.state_dict())))
    batch_norm = replace(EXPERIMENT, method=CrossEntropy(UNet(2, "batch")), optimiser=AVERAGED)
    loop = Loop(batch_norm, TASK)
    loop.train_step(half_of(batch_of(0), rank))
    before = copy.deepcopy(loop.evaluated.state_dict())
    loop.share_buffers()
    found["buffers"] = (before, loop.evaluated.state_dict())
    loop = Loop(replace(EXPERIMENT, steps=40), TASK)
    stop = Agreement(loop, lambda: rank == 1 and loop.step >= WANTED_AT, most=10)
    while not stop():
        loop.train_step(share_of(batch_of(loop.step), rank))
    found["stopped"] = (loop.step, len(loop.flush()))
    torch.save(found, f"{folder}/rank-{rank}.pt")
    dist.barrier()  # gloo aborts a rank whose partner leaves first
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two-ranks")
    torch.multiprocessing.spawn(one_of_two, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.slow
@every_method
def test_two_ranks_with_uneven_shares_equal_one_with_the_whole_batch(
    method: MethodConfig, two_ranks: list[dict[str, Any]]
) -> None:
    one = Loop(replace(EXPERIMENT, method=method), TASK)
    expected = losses(run(one, RANK_STEPS))
    evaluation = one.evaluate([batch_of(77)])
    matrix, further = evaluation.matrix, _further(evaluation)
    for rank, found in enumerate(two_ranks):
        assert found[f"{type(method).__name__} loss"] == pytest.approx(evaluation.loss, rel=1e-4)
        of_both = found[f"{type(method).__name__} of images"]
        assert of_both[2:] == further[2:] == (len(batch_of(77).ids), matrix.counts.sum())
        assert of_both[:2] == pytest.approx(further[:2], abs=0.01)
        of_rank, counts, weights, kept, _ = found[type(method).__name__]
        # Adam's first updates have the size of the learning rate however small a gradient is: rounding grows with them.
        assert of_rank[:4] == pytest.approx(expected[:4], rel=1e-5)
        assert of_rank == pytest.approx(expected, rel=1e-3)
        # Over both ranks every pixel counts once; a prediction on the edge between two classes may fall either way.
        assert counts.sum(1).tolist() == matrix.counts.sum(1).tolist()
        assert (counts - matrix.counts).abs().sum() <= 0.01 * matrix.counts.sum()
        assert kept == batch_of(77).ids[SHARES[rank]]
        for name, value in two_ranks[0][type(method).__name__][2].items():
            assert torch.equal(value, weights[name]), f"the ranks differ in {name}"


@pytest.mark.slow
@every_method
def test_every_rank_stops_at_a_broken_image_and_names_the_whole_batch(
    method: MethodConfig, two_ranks: list[dict[str, Any]]
) -> None:
    first, second = (found[type(method).__name__][4] for found in two_ranks)
    assert first == second
    assert f"at step {RANK_STEPS} " in first and ", ".join(batch_of(RANK_STEPS).ids) in first


@pytest.mark.slow
def test_both_ranks_leave_out_the_step_of_one_rank_s_broken_image(two_ranks: list[dict[str, Any]]) -> None:
    one = Loop(replace(EXPERIMENT, non_finite="skip"), TASK)
    one.train_step(broken(batch_of(0), 2))
    one.train_step(batch_of(1))
    expected = one.flush()
    (records, weights), (others, other_weights) = (found["skip"] for found in two_ranks)
    assert records == others
    assert [record.skipped for record in records] == [record.skipped for record in expected]
    assert expected[0].skipped and records[1].values["train/loss"] == pytest.approx(losses(expected[1:])[0], rel=1e-5)
    assert all(torch.equal(value, other_weights[name]) for name, value in weights.items())


@pytest.mark.slow
def test_two_ranks_whose_shares_are_cut_equal_one_with_the_whole_batch(two_ranks: list[dict[str, Any]]) -> None:
    one = Loop(replace(EXPERIMENT, optimiser=AVERAGED), TASK)
    expected = losses(run(one, RANK_STEPS))
    (first, weights, average), (second, others, other_average) = (found["parts"] for found in two_ranks)
    assert first == pytest.approx(expected, rel=1e-5) and second == first
    for of_first, of_second, of_one in ((weights, others, one.method), (average, other_average, one.evaluated)):
        for name, value in of_one.state_dict().items():
            assert torch.equal(of_first[name], of_second[name]), f"the ranks differ in {name}"
            torch.testing.assert_close(of_first[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_ranks_evaluate_with_the_statistics_of_the_first(two_ranks: list[dict[str, Any]]) -> None:
    (own, shared), (other, other_shared) = (found["buffers"] for found in two_ranks)
    statistics = [name for name in own if name.endswith("running_mean")]
    assert statistics and all(not torch.equal(own[name], other[name]) for name in statistics)
    assert all(
        torch.equal(value, shared[name]) and torch.equal(value, other_shared[name]) for name, value in own.items()
    )


@pytest.mark.slow
def test_both_ranks_stop_after_the_same_step_where_one_is_preempted(two_ranks: list[dict[str, Any]]) -> None:
    first, second = (found["stopped"] for found in two_ranks)
    assert first == second
    assert WANTED_AT <= first[0] <= WANTED_AT + 10 and first[1] == first[0]
