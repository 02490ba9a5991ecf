"""The compiled loops of CWMI beside PyTorch in double precision, and their edges."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from miseg.losses import complex_wavelet_mutual_information_parts as cwmi_parts
from miseg.losses.information import compiled, wavelet_spectra
from tests.losses.information.test_complex_wavelet import example

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler on this machine")


def value_and_gradient(logits: Tensor, labels: Tensor, **settings: int) -> tuple[Tensor, Tensor]:
    """The sum, and three times its gradient, in double precision."""
    logits = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    total, _ = cwmi_parts(logits, labels, **settings)
    (3 * total).backward()
    # Of one image its stride is anything.
    assert logits.grad is not None and logits.grad.stride()[1:] == logits.stride()[1:]
    return total.detach().double(), logits.grad.double()


def assert_near_double(logits: Tensor, labels: Tensor, **settings: int) -> None:
    assert compiled.available() and logits.dtype == torch.float32
    value, slope = value_and_gradient(logits, labels, **settings)
    expected, reference = value_and_gradient(logits.double(), labels, **settings)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(slope, reference, rtol=1e-3, atol=1e-4 * reference.abs().max().item())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels-last"])
@pytest.mark.parametrize("ignored", [False, True], ids=["all-count", "ignored"])
@pytest.mark.parametrize(
    ("classes", "size", "orientations"),
    [(2, (40, 33), 4), (3, (48, 40), 4), (5, (33, 50), 3), (4, (65, 70), 2), (2, (64, 64), 8)],
    ids=str,
)
def test_value_and_gradient_are_near_those_of_double_precision(
    classes: int, size: tuple[int, int], orientations: int, ignored: bool, layout: torch.memory_format
) -> None:
    logits, labels = example(classes, size, torch.float32)
    if not ignored:
        labels[0, :5, :7] = 0
    labels[1] = labels[1].clamp(max=classes - 2) if classes > 2 else labels[1]
    logits = logits.detach().to(memory_format=layout)
    assert_near_double(logits, labels, orientations=orientations, levels=3)


def test_maps_taken_two_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = example(5, (40, 36), torch.float32)
    at_once = value_and_gradient(logits, labels)
    monkeypatch.setattr(wavelet_spectra, "_PIXELS", 2 * 40 * 36)
    torch.testing.assert_close(value_and_gradient(logits, labels), at_once, rtol=1e-6, atol=1e-6)


def test_however_many_threads_it_is_the_same_number() -> None:
    logits, labels = example(4, (40, 36), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(value_and_gradient(logits, labels))
    finally:
        torch.set_num_threads(threads)
    # Transforms may be split otherwise, sums are not.
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)


def test_without_a_compiler_it_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = example(3, (40, 33), torch.float32)
    value, slope = value_and_gradient(logits, labels)
    monkeypatch.setenv("MISEG_COMPILER", "")
    assert not compiled.available()
    expected, reference = value_and_gradient(logits, labels)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(slope, reference, rtol=1e-3, atol=1e-4 * reference.abs().max().item())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_pixels_hold_that_do_not_count_changes_nothing(value: float) -> None:
    logits, labels = example(3, (24, 20), torch.float32)
    other = logits.detach().clone()
    other[0, :, :5, :7] = value
    expected, actual = (value_and_gradient(values, labels) for values in (logits, other))
    assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])
    assert actual[1][0, :, :5, :7].count_nonzero() == 0


def test_a_nan_is_told_and_stays_in_its_image() -> None:
    logits, labels = example(3, (24, 20), torch.float32)
    with torch.no_grad():
        logits[0, 1, 20, 10] = float("nan")
    value, slope = value_and_gradient(logits, labels)
    assert value.isnan() and slope[0].isnan().any() and slope[1].isfinite().all()


def test_of_two_classes_that_all_count_one_map_stands_for_both() -> None:
    """A pixel that does not count brings the second map back; of one in ten thousand the value hardly changes."""
    logits, labels = example(2, (100, 100), torch.float32)
    labels[0, :5, :7] = 0
    whole, _ = value_and_gradient(logits, labels)
    labels[0, 99, 99] = 255
    nearly, _ = value_and_gradient(logits, labels)
    torch.testing.assert_close(whole, nearly, rtol=0.02, atol=0)


def test_no_gradient_is_made_where_none_is_wanted() -> None:
    logits, labels = example(3, (24, 20), torch.float32)
    with torch.no_grad():
        total, count = cwmi_parts(logits, labels)
    assert not total.requires_grad and count == 6
    torch.testing.assert_close(total.double(), value_and_gradient(logits, labels)[0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels-last"])
def test_a_graph_that_is_retained_gives_its_gradient_twice(layout: torch.memory_format) -> None:
    logits, labels = example(3, (24, 20), torch.float32)
    logits = logits.detach().to(memory_format=layout).requires_grad_()
    total, _ = cwmi_parts(logits, labels)
    first, second = (torch.autograd.grad(factor * total, logits, retain_graph=True)[0] for factor in (1.0, 3.0))
    assert first.abs().max() > 0
    torch.testing.assert_close(second, 3 * first, rtol=1e-5, atol=1e-6)


def test_an_image_of_one_class_adds_nothing() -> None:
    logits, labels = example(3, (24, 20), torch.float32)
    labels[0] = 1
    value, slope = value_and_gradient(logits, labels)
    alone, _ = value_and_gradient(logits[1:], labels[1:])
    torch.testing.assert_close(value, alone)
    assert slope[0].count_nonzero() == 0 and slope[1].count_nonzero() > 0
