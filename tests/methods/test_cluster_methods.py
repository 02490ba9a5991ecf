"""What the methods without labels share, and IIC's views."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from miseg.interface import Batch, Task
from miseg.losses import iic_segmentation_loss
from miseg.methods import build_method
from miseg.methods.configs import InvariantInformation
from miseg.methods.unsupervised.clusters import jittered, mirrored, valid_at
from miseg.methods.unsupervised.invariant_information import InvariantInformationMethod
from miseg.networks.configs import VGG


def pictures(seed: int = 0) -> Tensor:
    return torch.randn(4, 3, 12, 14, generator=torch.Generator().manual_seed(seed))


def iic(**settings: float) -> InvariantInformationMethod:
    torch.manual_seed(0)
    method = build_method(InvariantInformation(VGG(4, normalisation="group"), displacement=2, **settings), Task(3))
    assert isinstance(method, InvariantInformationMethod)
    return method


def test_what_an_unsupervised_method_sees_of_labels() -> None:
    labels = torch.tensor([[[0, 255], [3, 255]], [[255, 255], [255, 255]]])
    batch = Batch(torch.zeros(2, 3, 2, 2), labels, masked_N=torch.tensor([True, False])).without_labels()
    assert batch.labels_NHW is None and batch.valid_NHW is not None
    # The second image has no mask that would say which of its pixels count.
    assert batch.valid_NHW.tolist() == [[[True, False], [True, False]], [[True, True], [True, True]]]
    assert batch.without_labels().valid_NHW is batch.valid_NHW
    # One whose mask leaves nothing has nothing that counts.
    masked = Batch(torch.zeros(2, 3, 2, 2), labels).without_labels()
    assert masked.valid_NHW is not None and not masked.valid_NHW[1].any()


def test_a_cell_counts_where_half_of_its_pixels_do() -> None:
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[0, 0, 0] = valid[0, :2, 2] = valid[0, 2:, :] = True
    batch = Batch(torch.zeros(1, 3, 4, 4), valid_NHW=valid)
    assert valid_at(batch, (2, 2)).tolist() == [[[False, True], [True, True]]]
    assert valid_at(Batch(torch.zeros(1, 3, 4, 4)), (2, 2)).all()


def test_colours_change_within_their_strength_and_places_do_not() -> None:
    images = pictures()
    assert jittered(images, 0.0) is images
    torch.manual_seed(1)
    changed = jittered(images, 0.3)
    assert changed.shape == images.shape and not torch.allclose(changed, images)
    # Each image has its own change, which is the same at all of its pixels: linear in the colours.
    for image, other in zip(images, changed, strict=True):
        colours = torch.cat((image.flatten(1), torch.ones(1, 12 * 14)))
        solved = torch.linalg.lstsq(colours.T, other.flatten(1).T)
        assert (colours.T @ solved.solution - other.flatten(1).T).abs().max() < 1e-4
        assert solved.solution[-1].abs().max() <= 0.3 + 0.1 + 1e-5
    grey = torch.full((1, 3, 2, 2), 0.0)
    assert jittered(grey, 0.3).abs().max() <= 0.4 + 1e-6


def test_a_mirrored_image_is_mirrored_back() -> None:
    which = torch.tensor([True, False, True, False])
    once = mirrored(pictures(), which)
    assert torch.equal(once[1], pictures()[1]) and torch.equal(once[0], pictures()[0].flip(2))
    assert torch.equal(mirrored(once, which), pictures())


def test_iic_undoes_the_flip_before_its_loss() -> None:
    method = iic(jitter=0.0, flip=1.0)
    step = method(Batch(pictures()))
    with torch.no_grad():
        losses = []
        for head in method.heads:

            def predicted(images: Tensor, head: torch.nn.Module = head) -> Tensor:
                small = head(method.trunk(images)).softmax(1)
                return torch.nn.functional.interpolate(small, (12, 14), mode="bilinear")

            second = predicted(pictures().flip(3)).flip(3)
            losses.append(iic_segmentation_loss(predicted(pictures()), second, displacement=2))
    torch.testing.assert_close(step.loss(), torch.stack(losses).mean(), rtol=1e-5, atol=1e-7)
    assert step.scalars["mutual_information"].item() == pytest.approx(-losses[0].item(), rel=1e-4)


def test_iic_trains_both_heads_in_every_step() -> None:
    method = iic()
    assert [head.out_channels for head in method.heads] == [3, 9]
    method(Batch(pictures())).loss().backward()
    assert all(head.weight.grad is not None and head.weight.grad.count_nonzero() for head in method.heads)
    assert method.predict(pictures()).shape == (4, 3, 12, 14)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"over_clusters": 1}, "over_clusters = 1"),
        ({"clusters": 5, "over_clusters": 4}, "over_clusters = 4: use at least as many as clusters"),
        ({"displacement": -1}, "displacement = -1"),
        ({"flip": 1.5}, r"flip = 1\.5"),
    ],
)
def test_settings_out_of_range(settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        InvariantInformation(**settings)


def test_a_window_must_fit_the_images() -> None:
    with pytest.raises(ValueError, match="displacement 10 needs images of more pixels a side; these are 10 x 64"):
        InvariantInformation().check_size(10, 64)
