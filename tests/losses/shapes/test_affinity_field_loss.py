"""The affinity field loss against a slow reference written from the paper, and its edges."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from miseg.losses import AffinityFieldLoss, affinity_field_parts
from miseg.losses.shapes.affinity_field import decay

NEIGHBOURS = [offset for offset in itertools.product((-1, 0, 1), repeat=2) if offset != (0, 0)]


def slow_loss(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Pair by pair and class by class at full resolution, as the paper's equations 3 to 5 sum them."""
    images, classes, height, width = logits.shape
    probabilities = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    edges, regions = [], []
    for n, row, column in itertools.product(range(images), range(height), range(width)):
        own = labels[n, row, column].item()
        for down, right in NEIGHBOURS:
            y, x = row + down, column + right
            if not (0 <= y < height and 0 <= x < width):
                continue
            other = labels[n, y, x].item()
            if not (0 <= own < classes and 0 <= other < classes):
                continue
            for k in range(classes):
                p, p_other = probabilities[n, k, row, column], probabilities[n, k, y, x]
                q, q_other = (1 - p).clamp(1e-4, 1), (1 - p_other).clamp(1e-4, 1)
                p, p_other = p.clamp(1e-4, 1), p_other.clamp(1e-4, 1)
                kl = p_other * torch.log(p_other / p) + q_other * torch.log(q_other / q)
                if (own == k) != (other == k):
                    edges.append(torch.clamp(margin - kl, min=0))
                else:
                    regions.append(kl)
    return sum(torch.stack(found).mean() if found else logits.sum() * 0 for found in (edges, regions))


def example(classes: int = 3, height: int = 4, width: int = 5, scale: float = 2.0, seed: int = 0) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, classes, height, width, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.15] = 255
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("margin", [0.5, 3.0])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("scale", [1.0, 6.0, 30.0])
def test_value_and_gradient_equal_the_reference(margin: float, classes: int, scale: float) -> None:
    logits, labels = example(classes, scale=scale)
    loss = AffinityFieldLoss(classes, margin, stride=1)(logits, labels)
    expected = slow_loss(logits, labels, margin)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-12)


def slow_published(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Pair by pair and class by class as the RMI paper's code counts them: the border and what is ignored too."""
    images, classes, height, width = logits.shape
    softmax = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)

    def pixel(n: int, k: int, row: int, column: int) -> tuple[Tensor, bool]:
        inside = 0 <= row < height and 0 <= column < width
        label = labels[n, row, column].item() if inside else 255
        p = softmax[n, k, row, column] if inside and label < classes else logits.new_zeros(())
        return p.clamp(1e-4, 1), label == k

    edges, regions = [], []
    for n, k, row, column in itertools.product(range(images), range(classes), range(height), range(width)):
        p, own = pixel(n, k, row, column)
        for down, right in NEIGHBOURS:
            p_other, other = pixel(n, k, row + down, column + right)
            q, q_other = 1 - p + 1e-4, 1 - p_other + 1e-4
            kl = p_other * torch.log(p_other / p) + q_other * torch.log(q_other / q)
            if own != other:
                edges.append(torch.clamp(margin - kl, min=0))
            else:
                regions.append(kl)
    return torch.stack(edges).mean() + torch.stack(regions).mean()


@pytest.mark.parametrize("margin", [0.5, 3.0])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_published_pairs_are_those_of_the_rmi_papers_code(margin: float, scale: float) -> None:
    logits, labels = example(3, scale=scale)
    loss = AffinityFieldLoss(3, margin, stride=1, pairs="published")(logits, labels)
    expected = slow_published(logits, labels, margin)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    (gradient,), (slope,) = (torch.autograd.grad(value, logits) for value in (loss, expected))
    torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-12)
    (counted,) = torch.autograd.grad(AffinityFieldLoss(3, margin, stride=1)(logits, labels), logits)
    assert (gradient - counted).norm() > 0.1 * counted.norm(), "it is another loss"


def test_published_logits_are_shrunk_with_what_is_ignored() -> None:
    logits, labels = example(3, 16, 24)
    small = F.interpolate(logits, (4, 6), mode="bilinear", align_corners=True)
    small_labels = F.interpolate(labels[:, None].double(), (4, 6), mode="nearest")[:, 0].long()
    found = AffinityFieldLoss(3, stride=4, pairs="published")(logits, labels)
    torch.testing.assert_close(found, slow_published(small, small_labels, 3.0), rtol=1e-8, atol=1e-10)


def test_the_gradient_is_the_losss_own() -> None:
    logits, labels = example(2, 3, 4, scale=1.0)
    assert torch.autograd.gradcheck(AffinityFieldLoss(2, stride=1), (logits, labels))


@pytest.mark.parametrize("size", [(16, 24), (20, 22)])
def test_with_a_stride_it_is_the_loss_of_the_shrunken_maps(size: tuple[int, int]) -> None:
    logits, labels = example(3, *size)
    small = (size[0] // 4, size[1] // 4)
    counted = (labels != 255).double().unsqueeze(1)
    weights = F.interpolate(counted, small, mode="bilinear", align_corners=True)
    small_logits = F.interpolate(logits * counted, small, mode="bilinear", align_corners=True) / weights
    rows = [math.floor(i * size[0] / small[0]) for i in range(small[0])]
    columns = [math.floor(j * size[1] / small[1]) for j in range(small[1])]
    assert ((weights > 0.1) & (weights < 0.9)).any(), "means over the counted pixels are others than over all"
    # Where none of the four around is counted, nothing is known.
    small_labels = labels[:, rows][:, :, columns].where(weights[:, 0] > 1e-3, 255)
    expected = slow_loss(small_logits, small_labels, 3.0)
    torch.testing.assert_close(AffinityFieldLoss(3, stride=4)(logits, labels), expected, rtol=1e-8, atol=1e-10)


def test_parts_add_up_over_images() -> None:
    logits, labels = example()
    whole = affinity_field_parts(logits, labels, stride=1)
    halves = [affinity_field_parts(logits[i : i + 1], labels[i : i + 1], stride=1) for i in range(2)]
    for name in whole._fields:
        torch.testing.assert_close(getattr(whole, name), sum(getattr(half, name) for half in halves))
    assert whole.edges > 0 and whole.regions > 0 and not whole.edges.requires_grad


@pytest.mark.parametrize("flip", [(2,), (3,), (2, 3)])
def test_mirrored_images_have_the_same_loss(flip: tuple[int, ...]) -> None:
    logits, labels = example()
    loss = AffinityFieldLoss(3, stride=1)
    mirrored = loss(logits.flip(flip), labels.flip([axis - 1 for axis in flip]))
    torch.testing.assert_close(mirrored, loss(logits, labels))


def test_ignored_pixels_have_no_gradient_and_no_say() -> None:
    logits, labels = example()
    loss = AffinityFieldLoss(3, stride=1)
    first = loss(logits, labels)
    (gradient,) = torch.autograd.grad(first, logits)
    ignored = (labels == 255).unsqueeze(1).expand_as(logits)
    assert ignored.any() and gradient[ignored].count_nonzero() == 0
    changed = torch.where(ignored, torch.randn_like(logits), logits)
    torch.testing.assert_close(loss(changed, labels), first)
    outside = torch.where(labels == 255, 77, labels)
    torch.testing.assert_close(loss(logits, outside), first)


@pytest.mark.parametrize("labels_value", [255, -1])
def test_without_a_valid_pair_it_is_zero_with_zero_gradient(labels_value: int) -> None:
    logits, labels = example()
    loss = AffinityFieldLoss(3, stride=2)(logits, torch.full_like(labels, labels_value))
    loss.backward()
    assert loss == 0 and logits.grad.count_nonzero() == 0


def test_perfect_flat_segments_cost_nothing_inside() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    logits = 50 * F.one_hot(labels, 2).permute(0, 3, 1, 2).double()
    assert AffinityFieldLoss(2, stride=1)(logits, labels) == 0
    labels[..., 4:] = 1
    sharp = 50 * F.one_hot(labels, 2).permute(0, 3, 1, 2).double()
    blurred = 0.02 * sharp
    loss = AffinityFieldLoss(2, stride=1)
    assert loss(sharp, labels) == 0 < loss(blurred, labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    logits, labels = example(scale=40.0)
    half = logits.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = AffinityFieldLoss(3, stride=1)(half, labels)
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad.isfinite().all()
    torch.testing.assert_close(loss.double(), slow_loss(half.detach().double(), labels, 3.0), rtol=1e-5, atol=1e-6)


def test_the_decay_falls_to_a_twentieth() -> None:
    assert decay(0) == 1 and math.isclose(decay(1), 0.05) and math.isclose(decay(0.5), 20**-0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 0}, "num_classes = 0"),
        ({"num_classes": 3, "pairs": "all"}, "pairs = 'all': use one of counted, published"),
        ({"num_classes": 3, "margin": 0.0}, "margin = 0.0: use a value above 0"),
        ({"num_classes": 3, "stride": 0}, "stride = 0: use 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AffinityFieldLoss(**settings)


def test_wrong_shapes_are_refused() -> None:
    logits, labels = example()
    with pytest.raises(ValueError, match="2 classes"):
        AffinityFieldLoss(2)(logits, labels)
    with pytest.raises(ValueError, match=r"expected \[N, H, W\]"):
        AffinityFieldLoss(3)(logits, labels[:, :3])
