"""What soft clDice keeps to beside what every loss of labels does (`test_label_losses`)."""

from __future__ import annotations

import torch
from torch import Tensor

from miseg.losses import cl_dice_parts
from miseg.losses.shapes.cl_dice import soft_skeleton


def logits_of(prediction: Tensor, confidence: float = 20.0) -> Tensor:
    """Logits [1, 2, H, W] of a mask [H, W]."""
    return confidence * torch.stack((1 - prediction, prediction)).unsqueeze(0).double()


def line(height: int, *, width: int = 3, size: int = 24) -> Tensor:
    """int64 [size, size]: a horizontal line around the row `height`."""
    mask = torch.zeros(size, size, dtype=torch.long)
    mask[height - width // 2 : height + width // 2 + 1] = 1
    return mask


def test_a_line_is_its_own_skeleton_and_a_thick_one_has_its_middle() -> None:
    for width in (1, 3, 5):
        skeleton = soft_skeleton(line(12, width=width)[None].double(), iterations=width // 2)
        assert torch.equal(skeleton[0], line(12, width=1).double())
    assert soft_skeleton(line(12, width=5)[None].double(), iterations=1).count_nonzero() == 0


def test_a_gap_costs_more_by_centre_lines_than_the_same_pixels_at_the_edge() -> None:
    labels = line(12)
    gap, narrow = labels.clone(), labels.clone()
    gap[:, 10:14] = 0
    narrow[11, :12] = 0
    assert gap.sum() == narrow.sum()

    def loss(prediction: Tensor, alpha: float) -> float:
        logits = logits_of(prediction)
        return cl_dice_parts(logits, labels[None], alpha=alpha, iterations=3)[0].item()

    assert abs(loss(gap, 0.0) - loss(narrow, 0.0)) < 1e-6
    assert loss(gap, 1.0) > 2 * loss(narrow, 1.0)


def test_what_is_ignored_is_to_a_skeleton_as_the_outside_is() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 12, 15, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (1, 12, 15), generator=generator)
    ignored = labels.clone()
    ignored[:, :, 11:] = 255
    whole = cl_dice_parts(logits, ignored, iterations=3)
    torch.testing.assert_close(whole, cl_dice_parts(logits[..., :11], labels[..., :11], iterations=3))


def test_maps_taken_a_few_at_a_time_give_the_same(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 5, 9, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 5, (2, 9, 8), generator=generator)
    at_once, count = cl_dice_parts(logits, labels)
    (slope,) = torch.autograd.grad(at_once, logits)
    monkeypatch.setattr("miseg.losses.shapes.cl_dice._PIXELS", 3 * 72)
    total, _ = cl_dice_parts(logits, labels)
    assert count == 10
    torch.testing.assert_close(total, at_once)
    torch.testing.assert_close(torch.autograd.grad(total, logits)[0], slope)
    with torch.no_grad():
        torch.testing.assert_close(cl_dice_parts(logits, labels)[0], at_once.detach())
