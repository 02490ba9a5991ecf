"""What complex wavelet mutual information keeps to beside what every loss of labels does (`test_label_losses`)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from miseg.losses import complex_wavelet_mutual_information_parts as cwmi_parts
from tests.support.label_losses import slow_cwmi


def example(classes: int, size: tuple[int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits that know a part of blocky labels; a corner is ignored."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(0, classes, (2, -(-size[0] // 3), -(-size[1] // 3)), generator=generator)
    labels = labels.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, : size[0], : size[1]].contiguous()
    logits = 2 * torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2)
    logits = logits + torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    labels[0, :5, :7] = 255
    return logits.to(dtype).requires_grad_(), labels


@pytest.mark.parametrize(
    ("size", "orientations"), [((17, 19), 2), ((20, 33), 4), ((32, 24), 4), ((31, 18), 4)], ids=str
)
def test_sides_of_any_factors_equal_the_slow_reference(size: tuple[int, int], orientations: int) -> None:
    logits, labels = example(2, size)
    total, count = cwmi_parts(logits, labels, orientations=orientations)
    expected, number = slow_cwmi(logits, labels, orientations=orientations)
    assert count == number == 4
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)
    (actual,), (reference,) = (torch.autograd.grad(value, logits) for value in (total, expected))
    torch.testing.assert_close(actual, reference, rtol=1e-5, atol=1e-7 * reference.abs().max().item())
    assert actual[0, :, :5, :7].count_nonzero() == 0


def test_many_classes_of_which_an_image_shows_some() -> None:
    logits, labels = example(150, (20, 25), torch.float32)
    shown = sum(len(image[image != 255].unique()) for image in labels)
    total, count = cwmi_parts(logits, labels)
    total.backward()
    assert count == shown < 300
    assert total.isfinite() and logits.grad is not None and logits.grad.isfinite().all()
    expected, _ = cwmi_parts(logits.detach().double(), labels)
    torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("confidence", [3.0, 20.0, 200.0])
def test_single_precision_is_near_double_where_the_prediction_is_right_or_a_class_is_a_pixel(confidence: float) -> None:
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[:, 20:40, 10:50] = 1
    labels[:, 50, 50] = 2
    right = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2)
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(0))
    for logits in (confidence * right, confidence * noise):
        single, _ = cwmi_parts(logits.float(), labels)
        double, _ = cwmi_parts(logits.double(), labels)
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-2)


def test_a_checkerboard_whose_frequency_no_band_has_is_finite() -> None:
    labels = (torch.arange(32)[:, None] + torch.arange(32)).remainder(2)[None]
    logits = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    total, count = cwmi_parts(logits, labels)
    total.backward()
    assert count == 2 and total.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_a_class_that_is_everywhere_does_not_count() -> None:
    logits, labels = example(3, (20, 20))
    labels[1] = 2
    assert cwmi_parts(logits, labels)[1] == len(labels[0].unique()) - 1
    total, count = cwmi_parts(logits[1:], labels[1:])
    assert total == count == 0 and torch.autograd.grad(total, logits)[0].count_nonzero() == 0


def test_nan_logits_give_a_nan_loss() -> None:
    logits, labels = example(3, (20, 20))
    with torch.no_grad():
        logits[0, 0, 10, 10] = float("nan")
    assert cwmi_parts(logits, labels)[0].isnan()


@pytest.mark.parametrize("size", [(16, 40), (40, 16)])
def test_an_image_without_the_lowest_band_is_refused(size: tuple[int, int]) -> None:
    logits, labels = example(2, size)
    with pytest.raises(ValueError, match=r"pixels has no band at level 4: use sides of 17 or more, or fewer levels"):
        cwmi_parts(logits, labels)
    assert cwmi_parts(logits, labels, levels=3)[0].isfinite()
