"""The points that the RMI loss compares, by themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from miseg.interface import IGNORE_INDEX
from miseg.losses import region_mutual_information_parts, region_vectors


def maps(ignored: bool = False) -> tuple[Tensor, Tensor]:
    """Logits and labels of two images of 24x20 pixels and three classes."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 3, 24, 20), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 24, 20), generator=generator)
    if ignored:
        labels[0, 3:9, 4:11] = IGNORE_INDEX
    return logits, labels


@pytest.mark.parametrize("downsampling", ["average", "max", "interpolation"])
@pytest.mark.parametrize(("factor", "region_size"), [(1, 1), (1, 3), (3, 2), (4, 3)])
def test_they_are_what_the_loss_is_of(downsampling: str, factor: int, region_size: int) -> None:
    logits, labels = maps(ignored=True)
    settings = {"region_size": region_size, "downsampling_factor": factor, "downsampling": downsampling}
    truth, found, _ = region_vectors(logits.sigmoid(), labels, **settings)  # type: ignore[arg-type]
    total = 0.0
    for y, p in zip(truth.flatten(0, 1), found.flatten(0, 1), strict=True):
        d = region_size**2
        y, p = y - y.mean(1, keepdim=True), p - p.mean(1, keepdim=True)
        ridge = 5e-4 * torch.eye(d, dtype=torch.float64)
        left = y @ y.T - y @ p.T @ torch.linalg.inv(p @ p.T + ridge) @ p @ y.T
        total += 0.5 * math.log(torch.linalg.det(left + ridge)) / d
    parts = region_mutual_information_parts(logits, labels, **settings)  # type: ignore[arg-type]
    # The loss adds 1e-6 to probabilities, which counts where padding brings zeros.
    assert float(parts.rmi_sum) == pytest.approx(total, rel=1e-4)


def test_regions_with_ignored_pixels_or_padding_are_told() -> None:
    logits, labels = maps(ignored=True)
    _, _, whole = region_vectors(logits.sigmoid(), labels, region_size=2, downsampling_factor=1)
    expected = torch.ones(2, 23, 19, dtype=torch.bool)
    # A region of 2x2 whose upper left corner is at (r, c) meets rows 3..8 and columns 4..10 from 2..8 and 3..10.
    expected[0, 2:9, 3:11] = False
    assert torch.equal(whole.view(2, 23, 19), expected)
    # The pooling's padding of 2 at DF 4 makes the first cells' averages smaller.
    _, _, whole = region_vectors(*maps(), region_size=1, downsampling_factor=4)
    expected = torch.ones(2, 7, 6, dtype=torch.bool)
    expected[:, [0, -1]] = False
    expected[:, :, [0, -1]] = False
    assert torch.equal(whole.view(2, 7, 6), expected)


def test_truth_is_one_hot_in_the_order_of_a_region() -> None:
    _, labels = maps()
    truth, _, whole = region_vectors(torch.zeros(2, 3, 24, 20), labels, region_size=2, downsampling_factor=1)
    assert whole.all() and truth.shape == (2, 3, 4, 23 * 19)
    region = labels[1, 5:7, 8:10].flatten()
    assert torch.equal(truth[1, :, :, 5 * 19 + 8].argmax(0), region)


def test_a_setting_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match="region_size = 0"):
        region_vectors(*maps(), region_size=0)
    with pytest.raises(ValueError, match="holds no region"):
        region_vectors(*maps(), region_size=9, downsampling_factor=4)
