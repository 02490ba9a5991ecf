"""The losses beside those of segmentation-models-pytorch, where both mean the same, and where these do not."""

from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch import losses as smp
from torch import Tensor

from miseg.interface import combine
from miseg.losses import focal_parts, jaccard_parts, lovasz_softmax_parts, tversky_parts


def example(images: int = 1, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Logits, and labels that show every class, a quarter of them ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, 12, 9, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (images, 12, 9), generator=generator)
    labels[:, :3] = 255
    return logits, labels


@pytest.mark.parametrize(
    ("parts", "theirs"),
    [
        (jaccard_parts, smp.JaccardLoss("multiclass", ignore_index=255)),
        (tversky_parts, smp.TverskyLoss("multiclass", ignore_index=255, alpha=0.3, beta=0.7)),
        (lovasz_softmax_parts, smp.LovaszLoss("multiclass", ignore_index=255, per_image=True)),
    ],
    ids=["jaccard", "tversky", "lovasz"],
)
def test_one_image_with_all_classes_has_the_same_loss(parts, theirs) -> None:
    logits, labels = example()
    torch.testing.assert_close(combine(*parts(logits.float(), labels)), theirs(logits.float(), labels))


def test_the_sum_of_two_sigmoids_is_no_softmax() -> None:
    """Their focal loss of two classes takes one sigmoid a channel, and of nothing it is NaN."""
    logits, labels = example(classes=2)
    theirs = smp.FocalLoss("multiclass", ignore_index=255)
    assert theirs(logits, torch.full_like(labels, 255)).isnan() and combine(*focal_parts(logits, labels * 0 + 255)) == 0
    # A sigmoid of the difference of two logits is their softmax.
    binary = smp.FocalLoss("binary", ignore_index=255)(logits[:, 1:] - logits[:, :1], labels[:, None].double())
    torch.testing.assert_close(combine(*focal_parts(logits, labels)), binary)


def test_batches_of_theirs_do_not_add_up() -> None:
    """One loss of a whole batch is no mean of those of its halves: two ranks would train on another loss than one."""
    logits, labels = example(images=2)
    labels[1] = labels[1].clamp(max=1)
    theirs = smp.JaccardLoss("multiclass", ignore_index=255)
    halves = [theirs(logits[n : n + 1], labels[n : n + 1]) for n in range(2)]
    assert (theirs(logits, labels) - sum(halves) / 2).abs() > 1e-3
