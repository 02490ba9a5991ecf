"""The loss against a slow reference written from the equations, and its edges."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from miseg.losses import RegionMutualInformationLoss, region_mutual_information_parts
from miseg.losses.information import compiled, pooled_sigmoid

MANNERS = ("average", "max", "interpolation")


@pytest.fixture(autouse=True, params=["compiled", "by PyTorch"])
def way(request, monkeypatch) -> str:
    """Every test is of both: loops in C, and what a machine without a compiler computes."""
    if request.param == "by PyTorch":
        monkeypatch.setenv("MISEG_COMPILER", "")
    else:
        monkeypatch.delenv("MISEG_COMPILER", raising=False)
        if compiled._compiler(None) is None:
            pytest.skip("no compiler on this machine")
    assert compiled.available() == (request.param == "compiled")
    return request.param


def slow_pool(image_HW: Tensor, factor: int, manner: str, *, labels: bool) -> Tensor:
    """One map downsampled pixel by pixel."""
    height, width = image_HW.shape
    if factor == 1:
        return image_HW
    if manner == "interpolation":
        rows, columns = height // factor, width // factor
    else:
        rows, columns = ((side + 2 * (factor // 2) - factor) // factor + 1 for side in (height, width))
    pixels = []
    for row, column in itertools.product(range(rows), range(columns)):
        if manner == "interpolation" and labels:
            pixels.append(image_HW[math.floor(row * height / rows), math.floor(column * width / columns)])
        elif manner == "interpolation":
            pixels.append(slow_bilinear(image_HW, row, column, rows, columns))
        else:
            top, left = row * factor - factor // 2, column * factor - factor // 2
            window = image_HW[max(top, 0) : top + factor, max(left, 0) : left + factor]
            pixels.append(window.sum() / factor**2 if manner == "average" else window.max())
    return torch.stack(pixels).reshape(rows, columns)


def slow_bilinear(image_HW: Tensor, row: int, column: int, rows: int, columns: int) -> Tensor:
    height, width = image_HW.shape
    y = row * (height - 1) / (rows - 1) if rows > 1 else 0.0
    x = column * (width - 1) / (columns - 1) if columns > 1 else 0.0
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    above = image_HW[y0, x0] * (1 - x + x0) + image_HW[y0, x1] * (x - x0)
    below = image_HW[y1, x0] * (1 - x + x0) + image_HW[y1, x1] * (x - x0)
    return above * (1 - y + y0) + below * (y - y0)


def slow_points(image_HW: Tensor, size: int) -> Tensor:
    """Centred [points, d], one region after the other."""
    rows, columns = image_HW.shape
    points = [
        image_HW[row : row + size, column : column + size].reshape(-1)
        for row, column in itertools.product(range(rows - size + 1), range(columns - size + 1))
    ]
    stacked = torch.stack(points)
    return stacked - stacked.sum(0) / len(points)


def slow_loss(logits: Tensor, labels: Tensor, size: int, factor: int, manner: str, weight: float) -> Tensor:
    """λ · BCE + (1 − λ) · RMI, image by image and class by class, in the precision of the logits."""
    images, classes = logits.shape[:2]
    probabilities = 1 / (1 + torch.exp(-logits))
    mask = ((labels >= 0) & (labels < classes) & (labels != 255)).to(logits.dtype)
    bce, rmi = logits.new_zeros(()), logits.new_zeros(())
    ridge = 5e-4 * torch.eye(size**2, dtype=logits.dtype)
    for n, k in itertools.product(range(images), range(classes)):
        truth, p = (labels[n] == k).to(logits.dtype) * mask[n], probabilities[n, k]
        bce = bce - (mask[n] * (truth * torch.log(p) + (1 - truth) * torch.log(1 - p))).sum()
        y = slow_points(slow_pool(truth, factor, manner, labels=True), size)
        x = slow_points(slow_pool(p * mask[n] + 1e-6, factor, manner, labels=False), size)
        m = y.T @ y - y.T @ x @ torch.inverse(x.T @ x + ridge) @ x.T @ y
        log_det = 2 * torch.log(torch.linalg.cholesky(m + ridge).diagonal() + 1e-8).sum()
        rmi = rmi + log_det / 2 / size**2
    return weight * bce / (mask.sum() + 1) + (1 - weight) * rmi / images


def example(
    images: int, classes: int, height: int, width: int, ignored: float = 0.2, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, classes, height, width, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (images, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits.requires_grad_(), labels


GRID = [
    # images, classes, height, width, R, DF, λ, share ignored
    (2, 3, 13, 17, 3, 1, 0.5, 0.2),
    (1, 2, 16, 16, 5, 1, 0.0, 0.0),
    (2, 2, 15, 22, 4, 2, 0.3, 0.5),
    (1, 3, 19, 23, 2, 3, 1.0, 0.1),
    (2, 3, 25, 31, 3, 4, 0.5, 0.2),
    (1, 4, 33, 40, 3, 4, 0.0, 0.9),
    (2, 2, 27, 35, 5, 5, 0.7, 0.2),
    (1, 2, 37, 38, 3, 6, 0.5, 0.3),
    (3, 5, 7, 9, 1, 3, 0.5, 0.2),
    (1, 1, 11, 12, 1, 1, 0.4, 0.0),
]


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("case", GRID, ids=str)
def test_value_and_gradient_equal_the_slow_reference(case: tuple, manner: str) -> None:
    images, classes, height, width, size, factor, weight, ignored = case
    logits, labels = example(images, classes, height, width, ignored)
    slow = slow_loss(logits, labels, size, factor, manner, weight)
    (slow_gradient,) = torch.autograd.grad(slow, logits)
    loss = RegionMutualInformationLoss(classes, size, factor, manner, weight)(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, slow, rtol=1e-6, atol=1e-12)
    scale = slow_gradient.abs().max().item()
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("layout", ["classes first", "channels last", "every second column", "one image for all"])
@pytest.mark.parametrize("case", GRID, ids=str)
def test_single_precision_equals_the_slow_reference_in_every_layout(case: tuple, layout: str) -> None:
    images, classes, height, width, size, factor, weight, ignored = case
    logits, labels = example(images, classes, height, width, ignored)
    logits = logits.detach().float()
    if layout == "channels last":
        logits = logits.contiguous(memory_format=torch.channels_last)
    elif layout == "every second column":
        logits = logits.repeat_interleave(2, 3)[..., ::2]
    elif layout == "one image for all":
        logits = logits[:1].expand(images, -1, -1, -1)
    logits.requires_grad_()
    double = logits.detach().double().requires_grad_()
    slow = slow_loss(double, labels, size, factor, "average", weight)
    (slow_gradient,) = torch.autograd.grad(slow, double)
    loss = RegionMutualInformationLoss(classes, size, factor, weight=weight)(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(slow.item(), rel=1e-6)
    scale = slow_gradient.abs().max().item()
    torch.testing.assert_close(gradient.double(), slow_gradient, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("manner", MANNERS)
def test_one_image_with_channels_last_has_the_gradient_of_classes_first(manner: str) -> None:
    # Its maps can be seen as [classes, H, W] without a copy, and then do not lie one after the other.
    logits, labels = example(1, 4, 21, 26)
    loss = RegionMutualInformationLoss(4, downsampling=manner)
    (expected,) = torch.autograd.grad(loss(logits, labels), logits)
    last = logits.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    (found,) = torch.autograd.grad(loss(last, labels), last)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("confidence", [0.0, 5.0, 20.0, 60.0, 100.0])
def test_cross_entropy_of_confident_logits_keeps_its_digits(confidence: float) -> None:
    """Of a right prediction it is a sum of e^-x, far below the rounding of 1 + e^-x."""
    _, labels = example(2, 3, 17, 22)
    right = torch.nn.functional.one_hot(labels.clamp(max=2), 3).permute(0, 3, 1, 2).double()
    logits = ((2 * right - 1) * confidence).float()
    parts = region_mutual_information_parts(logits, labels)
    expected = int((labels != 255).sum()) * 3 * math.log1p(math.exp(-confidence))
    # Below e^-87 single precision holds nothing.
    assert parts.bce_sum.item() == pytest.approx(expected, rel=2e-6, abs=1e-34)


def test_backward_twice_gives_the_same_gradient_twice() -> None:
    logits, labels = example(2, 3, 20, 24)
    single = logits.detach().float().requires_grad_()
    loss = RegionMutualInformationLoss(3)(single, labels)
    gradients = [torch.autograd.grad(loss, single, retain_graph=True)[0] for _ in range(2)]
    assert torch.equal(*gradients)


def test_the_number_of_threads_changes_no_bit_of_what_is_compiled(way: str) -> None:
    logits, labels = example(3, 4, 30, 41)
    single = logits.detach().float().requires_grad_()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 50):
            torch.set_num_threads(threads)
            loss = RegionMutualInformationLoss(4)(single, labels)
            found.append((loss.detach(), *torch.autograd.grad(loss, single)))
    finally:
        torch.set_num_threads(before)
    for loss, gradient in found[1:]:
        if way == "compiled":
            assert torch.equal(loss, found[0][0]) and torch.equal(gradient, found[0][1])
        torch.testing.assert_close(gradient, found[0][1])


@pytest.mark.parametrize("manner", MANNERS)
def test_gradcheck(manner: str) -> None:
    logits, labels = example(1, 2, 6, 7)
    loss = RegionMutualInformationLoss(2, 2, 2, manner)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_near_double(dtype: torch.dtype) -> None:
    logits, labels = example(2, 3, 32, 32)
    rounded = logits.detach().to(dtype)
    loss = RegionMutualInformationLoss(3)
    single = loss(rounded, labels)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), loss(rounded.double(), labels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sign", [-1e4, 1e4])
def test_huge_half_precision_logits_stay_finite_under_autocast(dtype: torch.dtype, sign: float) -> None:
    logits, labels = example(2, 3, 32, 40)
    huge = (sign * logits.detach().sign()).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        loss = RegionMutualInformationLoss(3)(huge, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite() and huge.grad is not None and huge.grad.isfinite().all()


def test_autocast_changes_nothing() -> None:
    logits, labels = example(1, 3, 24, 24)
    single = logits.detach().float()
    loss = RegionMutualInformationLoss(3, downsampling="interpolation")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(single, labels)
    assert torch.equal(inside, loss(single, labels))


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("nothing", [255, -1, 7])
def test_no_valid_pixel_gives_finite_loss_and_zero_gradient(manner: str, nothing: int) -> None:
    logits, labels = example(2, 3, 16, 20)
    loss = RegionMutualInformationLoss(3, downsampling=manner)(logits, torch.full_like(labels, nothing))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None and logits.grad.count_nonzero() == 0


def test_labels_outside_the_classes_count_as_ignored() -> None:
    logits, labels = example(2, 3, 16, 20)
    odd = labels.clone()
    odd[labels == 255] = 9
    loss = RegionMutualInformationLoss(3)
    assert torch.equal(loss(logits, odd), loss(logits, labels))


def test_ignore_index_may_be_one_of_the_classes_values() -> None:
    logits, labels = example(1, 3, 16, 20, ignored=0.0)
    moved = torch.where(labels == 0, 255, labels)
    torch.testing.assert_close(
        RegionMutualInformationLoss(3, ignore_index=0)(logits, labels), RegionMutualInformationLoss(3)(logits, moved)
    )


@pytest.mark.parametrize("manner", MANNERS)
def test_order_of_classes_and_images_does_not_matter(manner: str) -> None:
    logits, labels = example(3, 4, 17, 21)
    loss = RegionMutualInformationLoss(4, downsampling=manner)
    expected = loss(logits, labels)
    order = torch.tensor([2, 0, 3, 1])
    renamed = torch.where(labels == 255, labels, order.argsort()[labels.clamp_max(3)])
    torch.testing.assert_close(loss(logits[:, order], renamed), expected)
    torch.testing.assert_close(loss(logits[[2, 0, 1]], labels[[2, 0, 1]]), expected)


@pytest.mark.parametrize(
    ("manner", "factor", "size_HW"), [("average", 3, (20, 17)), ("max", 5, (21, 26)), ("average", 1, (11, 14))]
)
@pytest.mark.parametrize("axis", [1, 2])
def test_flipping_image_and_labels_changes_nothing_where_pooling_is_symmetric(
    manner: str, factor: int, size_HW: tuple[int, int], axis: int
) -> None:
    # Sides one above a multiple of an odd factor: the windows cover the padding of both borders in full.
    height, width = (factor * (side // factor) + 1 for side in size_HW)
    logits, labels = example(2, 3, height, width)
    loss = RegionMutualInformationLoss(3, 2, factor, manner)
    torch.testing.assert_close(loss(logits.flip(axis + 1), labels.flip(axis)), loss(logits, labels))


@pytest.mark.parametrize("label", [0, 2])
def test_one_class_everywhere_is_finite(label: int) -> None:
    logits, labels = example(2, 3, 32, 32)
    constant = torch.full_like(labels, label)
    for logits_ in (logits, torch.zeros_like(logits, requires_grad=True), (logits.detach() * 1e3).requires_grad_()):
        loss = RegionMutualInformationLoss(3, downsampling_factor=1)(logits_, constant)
        (gradient,) = torch.autograd.grad(loss, logits_)
        assert loss.isfinite() and gradient.isfinite().all()


def test_prediction_equal_to_the_labels_of_a_large_image_does_not_fail() -> None:
    """Issue 12 of the authors' code: the Cholesky of a matrix that is singular but for the diagonal."""
    labels = torch.zeros(1, 256, 256, dtype=torch.int64)
    labels[:, :, 100:] = 1
    perfect = (20 * torch.nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2) - 10).float().requires_grad_()
    loss = RegionMutualInformationLoss(2, downsampling_factor=1)(perfect, labels)
    loss.backward()
    assert loss.isfinite() and loss < 0
    assert perfect.grad is not None and perfect.grad.isfinite().all()


def test_better_prediction_has_lower_loss() -> None:
    _, labels = example(2, 3, 32, 32, ignored=0.0)
    one_hot = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).double()
    loss = RegionMutualInformationLoss(3, weight=0.0)
    values = [loss(strength * (one_hot - 0.5), labels).item() for strength in (0.0, 1.0, 4.0, 16.0)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_nan_logits_give_a_nan_loss(weight: float) -> None:
    logits, labels = example(2, 3, 16, 16)
    with torch.no_grad():
        logits[0, 0, 5, 5] = torch.nan
    labels[0, 5, 5] = 0
    assert RegionMutualInformationLoss(3, weight=weight)(logits, labels).isnan()


@pytest.mark.parametrize("labelled", ["everywhere", "not everywhere"])
@pytest.mark.parametrize("factor", [1, 3, 4])
def test_channels_last_and_large_images_change_nothing(labelled: str, factor: int, monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 5, 23, 30), generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 5, (2, 23, 30), generator=generator)
    if labelled == "not everywhere":
        labels[:, 4:9, 5:11] = 255
    loss = RegionMutualInformationLoss(5, downsampling_factor=factor)
    expected = loss(logits, labels)
    (gradient,) = torch.autograd.grad(expected, logits)
    last = logits.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    # So small that every class is taken alone, as of images of 513 x 513.
    for copy, slab in ((last, 1 << 18), (logits.detach().clone().requires_grad_(), 1)):
        monkeypatch.setattr(pooled_sigmoid, "_SLAB", slab)
        found = loss(copy, labels)
        found.backward()
        assert copy.grad is not None
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)
        torch.testing.assert_close(copy.grad, gradient, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_type_are_the_same_labels(kind: torch.dtype) -> None:
    logits, labels = example(2, 4, 20, 24, ignored=0.2)
    losses = [RegionMutualInformationLoss(4)(logits, found) for found in (labels, labels.to(kind))]
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    assert losses[0].item() == losses[1].item() and torch.equal(*gradients)


def test_parts_of_two_halves_add_up_to_the_whole() -> None:
    logits, labels = example(4, 3, 20, 20, ignored=0.5)
    whole = region_mutual_information_parts(logits, labels)
    halves = [region_mutual_information_parts(logits[i : i + 2], labels[i : i + 2]) for i in (0, 2)]
    for whole_part, *half_parts in zip(whole, *halves, strict=True):
        torch.testing.assert_close(torch.as_tensor(sum(half_parts)), torch.as_tensor(whole_part))
    module = RegionMutualInformationLoss(3, weight=0.25)(logits, labels)
    bce, rmi = whole.bce_sum / (whole.valid_pixels + 1), whole.rmi_sum / whole.images
    torch.testing.assert_close(module, 0.25 * bce + 0.75 * rmi)


def test_diagonal_is_a_setting() -> None:
    logits, labels = example(1, 2, 16, 16)
    assert RegionMutualInformationLoss(2, diagonal=1e-2)(logits, labels) > RegionMutualInformationLoss(2)(
        logits, labels
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 1.5}, "weight .* = 1.5: it lies in 0..1"),
        ({"weight": math.nan}, "weight .* = nan"),
        ({"region_size": 0}, "region_size = 0: use 1 or more"),
        ({"downsampling_factor": 0}, "downsampling_factor = 0: use 1"),
        ({"downsampling": "median"}, "'median': use one of average, max, interpolation"),
        ({"diagonal": 0.0}, "diagonal = 0.0: use a value above 0"),
        ({"num_classes": 0}, "num_classes = 0"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegionMutualInformationLoss(**{"num_classes": 3} | settings)


def test_wrong_shapes() -> None:
    logits, labels = example(2, 3, 16, 16)
    with pytest.raises(ValueError, match="3 channels for 4 classes"):
        RegionMutualInformationLoss(4)(logits, labels)
    with pytest.raises(ValueError, match=r"labels of shape \(2, 16, 15\).*expected \[N, H, W\] = \[2, 16, 16\]"):
        RegionMutualInformationLoss(3)(logits, labels[..., :15])
    with pytest.raises(ValueError, match="expected integers"):
        RegionMutualInformationLoss(3)(logits, labels.float())
    with pytest.raises(ValueError, match=r"expected floating \[N, K, H, W\]"):
        RegionMutualInformationLoss(3)(logits[0], labels)


@pytest.mark.parametrize("manner", MANNERS)
def test_smallest_image(manner: str) -> None:
    for side in range(1, 20):
        logits, labels = example(1, 2, side, 24)
        loss = RegionMutualInformationLoss(2, 3, 4, manner)
        regions = side // 4 + (manner != "interpolation")
        if regions < 3:
            with pytest.raises(ValueError, match=rf"{side} x 24 pixels is .*3 x 3.*12 x 12"):
                loss(logits, labels)
        else:
            assert loss(logits, labels).isfinite()


@pytest.mark.gpu
@pytest.mark.parametrize("manner", MANNERS)
def test_cuda_equals_cpu(manner: str) -> None:
    logits, labels = example(2, 3, 61, 45)
    loss = RegionMutualInformationLoss(3, downsampling=manner)
    on_cpu = loss(logits, labels)
    on_cuda = loss(logits.cuda(), labels.cuda())
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=1e-6, atol=1e-9)
    (expected,) = torch.autograd.grad(on_cpu, logits)
    (gradient,) = torch.autograd.grad(on_cuda, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())
