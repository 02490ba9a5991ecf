"""What a method is measured by does not depend on the order of a split's images, on their batches or on ranks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from miseg.evaluation import BoundaryIoU
from miseg.interface import Batch, HeldOut, Method
from miseg.methods import METHODS
from miseg.methods.configs import InfoSeg, InvariantInformation
from miseg.methods.unsupervised.infoseg import InfoSegMethod
from miseg.methods.unsupervised.invariant_information import InvariantInformationMethod
from miseg.methods.unsupervised.k_means import KMeansMethod
from miseg.methods.unsupervised.partners import ImageSample, partners_of
from miseg.service.training.scoring import Counted, Scoring, evaluate
from tests.support.tiny_methods import TASK, tiny, with_examples

IMAGES = 6
ORDERS = ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2])

every_method = pytest.mark.parametrize("config_type", METHODS, ids=lambda kind: kind.__name__)
without_labels = pytest.mark.parametrize(
    "config_type", [kind for kind in METHODS if METHODS[kind].supervision == "none"], ids=lambda kind: kind.__name__
)


def split(size_HW: tuple[int, int] = (32, 32)) -> Batch:
    """Images of their own brightness, neighbours nearly alike, as the frames of two clips are."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(2, 3, *size_HW, generator=generator).repeat_interleave(3, 0)
    images = clips + 0.2 * torch.randn(IMAGES, 3, *size_HW, generator=generator)
    labels = torch.randint(0, 3, (IMAGES, size_HW[0] // 8, size_HW[1] // 8), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[1, :8] = TASK.ignore_index
    return Batch(images, labels, tuple(f"image-{number}" for number in range(IMAGES)), groups=tuple("aaabbb"))


def decided(method: Method) -> Method:
    """The method; untrained heads of IIC give clusters that are nearly even, and tell hardly anything."""
    if isinstance(method, InvariantInformationMethod):
        for head in method.heads:
            head.weight.data.mul_(10)
    return method


def in_batches(order: list[int], size: int) -> Iterator[Batch]:
    batch = split()
    assert batch.labels_NHW is not None
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        of_rows = (tuple(values[row] for row in rows) for values in (batch.ids, batch.groups))
        ids, groups = of_rows
        yield Batch(batch.images_NCHW[rows], batch.labels_NHW[rows], ids, groups=groups)


class Scores(NamedTuple):
    """Pixels by class, those of each image, the objective (0 where there is none), pixels of outlines and the scores
    of images and probabilities (0 of clusters)."""

    counts: Tensor
    of_images: dict[str, Tensor]
    objective: float
    outlines: Tensor
    image_iou: float
    calibration_error: float


def scores(method: Method, order: list[int], size: int) -> Scores:
    shapes = (BoundaryIoU(TASK.num_classes),) if method.emits == "classes" else ()
    counted: Counted = []
    result = evaluate(
        method, TASK, in_batches(order, size), torch.device("cpu"), scoring=Scoring(0, shapes, image_counts=counted)
    )
    return Scores(
        result.matrix.counts,
        {name: matrix.counts for name, matrix in counted},
        result.objective or 0.0,
        shapes[0].unions if shapes else torch.zeros(0),
        result.image_iou.mean() if result.image_iou else 0.0,
        result.calibration.error() if result.calibration else 0.0,
    )


@every_method
def test_scores_depend_neither_on_the_order_of_the_images_nor_on_their_batches(config_type: type) -> None:
    method = decided(with_examples(tiny(config_type)))
    first = scores(method, ORDERS[0], 4)
    assert (first.objective != 0) == (method.emits == "clusters")
    assert (first.image_iou != 0) == (method.emits == "classes")
    assert (first.calibration_error != 0) == (method.supervision == "dense")
    for order, size in ((ORDERS[1], 4), (ORDERS[2], 1), (ORDERS[2], 6)):
        other = scores(method, order, size)
        # A pixel on the edge between two classes may fall either way by rounding.
        assert (first.counts - other.counts).abs().sum() <= 0.002 * first.counts.sum()
        assert (first.outlines - other.outlines).abs().sum() <= 0.002 * first.outlines.sum()
        assert all((first.of_images[name] - other.of_images[name]).abs().sum() <= 4 for name in first.of_images)
        assert other.objective == pytest.approx(first.objective, rel=2e-5, abs=1e-6)
        assert other.image_iou == pytest.approx(first.image_iou, abs=2e-3)
        assert other.calibration_error == pytest.approx(first.calibration_error, abs=2e-3)


def held_out_loss(method: Method, batches: list[Batch]) -> float:
    held_out = method.eval().held_out()
    with torch.no_grad():
        for batch in batches:
            held_out.update(batch.without_labels())
    return held_out.loss()


@without_labels
def test_ranks_that_share_a_split_have_the_loss_of_one(config_type: type) -> None:
    method = decided(tiny(config_type))
    batches = list(in_batches(ORDERS[0], 2))
    expected = held_out_loss(method, batches)
    ranks = [method.held_out() for _ in range(3)]
    with torch.no_grad():
        # The last rank has no image.
        for rank, batch in zip((0, 1, 0), batches, strict=True):
            ranks[rank].update(batch.without_labels())
    assert losses_of(ranks) == pytest.approx([expected] * 3, rel=1e-5)


def losses_of(ranks: list[HeldOut]) -> list[float]:
    """The ranks' losses, each in a thread that meets the others where it gathers."""
    barrier = threading.Barrier(len(ranks), timeout=30)
    values: list[Any] = [None] * len(ranks)
    losses = [float("nan")] * len(ranks)

    def work(rank: int) -> None:
        def gather(value: Any) -> list[Any]:
            barrier.wait()
            values[rank] = value
            barrier.wait()
            return list(values)

        losses[rank] = ranks[rank].loss(gather)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return losses


@without_labels
def test_the_objective_leaves_the_random_state_as_it_was(config_type: type) -> None:
    method = tiny(config_type)
    before = torch.random.get_rng_state()
    held_out_loss(method, list(in_batches(ORDERS[0], 3)))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "config_type", [kind for kind in METHODS if issubclass(METHODS[kind], KMeansMethod)], ids=lambda kind: kind.__name__
)
def test_centres_depend_neither_on_the_order_of_the_images_nor_on_their_batches(config_type: type) -> None:
    centres = []
    for order, size in ((ORDERS[0], 4), (ORDERS[1], 4), (ORDERS[2], 1)):
        method = tiny(config_type)
        # Fewer than there are, so that some are drawn.
        method.samples = 200
        torch.manual_seed(3)
        method.fit_support(batch.without_labels() for batch in in_batches(order, size))
        centres.append(method.centres_KD.detach().clone())
    torch.testing.assert_close(centres[1], centres[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(centres[2], centres[0], rtol=1e-4, atol=1e-5)


def reference_bound(method: InfoSegMethod, batch: Batch) -> float:
    """The bound over a split, an image and a partner at a time, every patch of each."""
    joint, marginal = [], []
    groups = dict(zip(batch.ids, batch.groups, strict=True))
    features = {name: method.network(image[None]) for name, image in zip(batch.ids, batch.images_NCHW, strict=True)}
    valid = dict(zip(batch.ids, batch.without_labels().valid_NHW[:, ::4, ::4], strict=True))  # type: ignore[index]
    for name, (local, high) in features.items():
        own = torch.einsum("nphw,nkp->nkhw", local, high)
        joint.append(torch.log1p(torch.exp(-(method.assignment(own) * own).sum(1)))[0][valid[name]])
        for other in partners_of(name, groups):
            assert groups[other] != groups[name]
            weights = method.assignment(torch.einsum("nphw,nkp->nkhw", *features[other]))
            assigned = torch.einsum("nkhw,nkp->nphw", weights, features[other].high_NKP)
            both = valid[name] & valid[other]
            marginal.append(torch.log1p(torch.exp((local * assigned).sum(1)))[0][both])
    return -(torch.cat(joint).mean() + torch.cat(marginal).mean()).item()


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_infosegs_objective_is_the_bound_with_partners_of_other_groups(assignment: str) -> None:
    method = tiny(InfoSeg).eval()
    assert isinstance(method, InfoSegMethod)
    object.__setattr__(method.config, "assignment", assignment)
    with torch.no_grad():
        expected = reference_bound(method, split())
    assert -held_out_loss(method, [split()]) == pytest.approx(expected, rel=1e-5)


def test_infosegs_images_of_two_sizes_meet_at_the_same_share_of_height_and_width() -> None:
    method = tiny(InfoSeg)
    small = split((16, 32))
    batches = [Batch(split().images_NCHW, ids=tuple("abcdef")), Batch(small.images_NCHW, ids=tuple("uvwxyz"))]
    assert held_out_loss(method, batches) == pytest.approx(held_out_loss(method, batches[::-1]), rel=1e-6)


def test_iics_objective_is_that_of_all_images_in_one_table() -> None:
    """Where the second view is the first nothing is drawn: it is the training loss of the split as one batch."""
    method = decided(tiny(InvariantInformation)).eval()
    object.__setattr__(method.config, "jitter", 0.0)
    object.__setattr__(method.config, "flip", 0.0)
    with torch.no_grad():
        expected = method(split().without_labels()).loss().item()
    assert held_out_loss(method, list(in_batches(ORDERS[2], 2))) == pytest.approx(expected, rel=1e-4)


def test_partners_are_other_images_and_of_other_groups_where_there_are_any() -> None:
    groups = {f"image-{number}": "one" if number < 20 else "two" for number in range(40)} | {"unknown": ""}
    partners = partners_of("image-0", groups)
    assert len(set(partners)) == 8 and "image-0" not in partners
    assert all(groups[name] != "one" for name in partners)
    assert partners == partners_of("image-0", dict(reversed(groups.items())))
    assert partners != partners_of("image-1", groups)
    assert "unknown" not in partners_of("unknown", groups)
    of_one_clip = dict.fromkeys("abc", "one")
    assert sorted(partners_of("a", of_one_clip)) == ["b", "c"]
    assert partners_of("a", {"a": "one"}) == []


def test_a_sample_is_drawn_by_the_images_ids() -> None:
    names = [f"image-{number}" for number in range(300)]
    samples = []
    for listing in (names, names[::-1]):
        sample = ImageSample[int](20)
        for name in listing:
            if sample.wants(name):
                sample.add(name, "", 0)
        samples.append(set(sample.kept))
    assert samples[0] == samples[1] and len(samples[0]) == 20
    # Over the whole split, and not its beginning.
    numbers = sorted(names.index(name) for name in samples[0])
    assert numbers[0] < 60 and numbers[-1] > 240
