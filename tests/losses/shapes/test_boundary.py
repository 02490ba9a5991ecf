"""What the boundary loss keeps to beside what every loss of labels does (`test_label_losses`)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from miseg import extras
from miseg.extras import MissingExtraError
from miseg.interface import combine
from miseg.losses import boundary_parts
from miseg.losses.shapes.boundary import signed_distances


def disc(radius: float, size: int = 41) -> Tensor:
    side = torch.arange(size) - size // 2
    return torch.hypot(side[:, None].double(), side.double()) <= radius


def test_distances_to_a_pixel_and_from_a_row() -> None:
    valid = torch.ones(1, 5, 6, dtype=torch.bool)
    pixel = torch.zeros(1, 5, 6, dtype=torch.bool)
    pixel[0, 1, 2] = True
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    distances = torch.hypot((rows - 1).double(), (columns - 2).double())
    torch.testing.assert_close(signed_distances(pixel, valid)[0], distances)
    rows = (torch.arange(5) < 3)[None, :, None].expand(1, 5, 6)
    expected = torch.tensor([-2.0, -1, 0, 1, 2], dtype=torch.float64)[:, None].expand(5, 6)
    torch.testing.assert_close(signed_distances(rows, valid)[0], expected)


def test_nothing_is_measured_to_a_pixel_that_does_not_count() -> None:
    truth, valid = torch.zeros(1, 1, 8, dtype=torch.bool), torch.ones(1, 1, 8, dtype=torch.bool)
    truth[0, 0, :3] = True
    valid[0, 0, 3:5] = False
    expected = torch.tensor([-4.0, -3, -2, 0, 0, 3, 4, 5], dtype=torch.float64)
    torch.testing.assert_close(signed_distances(truth, valid)[0, 0], expected)


@pytest.mark.parametrize("filled", [False, True])
def test_a_map_without_a_boundary_has_no_distances(filled: bool) -> None:
    truth = torch.full((2, 4, 4), filled)
    assert signed_distances(truth, torch.ones_like(truth)).count_nonzero() == 0
    assert signed_distances(truth[:0], truth[:0]).shape == (0, 4, 4)


def test_the_loss_is_the_mean_signed_distance_of_what_is_predicted() -> None:
    """The further out a disc is predicted than it is, the greater, to the integral of distances over the ring."""
    labels = disc(8).long()[None]
    losses = []
    for radius in (5, 7, 8, 9, 11):
        logits = 50 * torch.stack((~disc(radius), disc(radius))).double()[None]
        losses.append(combine(*boundary_parts(logits, labels)).item())
    assert losses[0] > losses[1] > losses[2] < losses[3] < losses[4]
    # Both classes' distances, 2 (r − 8) on the average, over the ring from 8 to 11.
    ring = 2 * math.pi * 2 * (11 * 9 / 2 - 27 / 6)
    assert losses[4] - losses[2] == pytest.approx(ring / labels.numel(), rel=0.1)


def test_an_image_of_one_class_has_no_gradient() -> None:
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    total, count = boundary_parts(logits, torch.ones(1, 6, 6, dtype=torch.long))
    total.backward()
    assert total == 0 and count == 36 and logits.grad is not None and logits.grad.count_nonzero() == 0


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"the boundary loss needs the extra 'networks': pip install"):
        boundary_parts(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long))
