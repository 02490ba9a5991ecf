"""Tiles and their blending: the same map tiled or whole, wherever a tile saw enough."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from miseg.evaluation import tiled
from miseg.evaluation.tiled import Piece, Tiling, blended, decided, enlarged

SIZES = [(9, 50), (32, 32), (33, 40), (47, 131), (150, 95)]


def image_of(size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, *size, generator=generator), torch.rand(size, generator=generator) > 0.1


def reader(image: Tensor, valid: Tensor) -> Callable:
    def read(window: tiled.Window) -> tuple[Tensor, Tensor]:
        row, column, height, width = window
        part = slice(row, row + height), slice(column, column + width)
        return image[:, *part], valid[part]

    return read


def assembled(pieces, size: tuple[int, int], classes: int) -> Piece:
    """The pieces put together; each pixel must come just once."""
    values, valid, times = torch.zeros(classes, *size), torch.zeros(size, dtype=torch.bool), torch.zeros(size)
    for (row, column, height, width), probabilities, known in pieces:
        part = slice(row, row + height), slice(column, column + width)
        values[:, *part], valid[part] = probabilities, known
        times[part] += 1
    assert (times == 1).all()
    return Piece((0, 0, *size), values, valid)


def of_pixels(images: Tensor) -> Tensor:
    mix = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, 1.0], [-1.0, 0.2, -0.4], [0.0, 0.7, -2.0]])
    return torch.einsum("kc,nchw->nkhw", mix, images).softmax(1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("overlap", "margin", "batch"), [(0, 0, 1), (8, 0, 3), (16, 7, 2)])
def test_what_depends_on_the_pixel_alone_gives_the_same_map_tiled_or_whole(size, overlap, margin, batch):
    image, valid = image_of(size)
    whole = of_pixels(image[None])[0]
    tiling = Tiling(32, overlap, batch, margin)
    found = assembled(blended(size, reader(image, valid), of_pixels, tiling), size, 4)
    torch.testing.assert_close(found.probabilities_KHW, whole, rtol=0, atol=1e-6)
    assert torch.equal(found.valid_HW, valid)
    classes, confidence = decided(found.probabilities_KHW, found.valid_HW)
    expected = decided(whole, valid)
    assert np.array_equal(classes, expected[0])
    np.testing.assert_allclose(confidence, expected[1], atol=1e-5)


class Halving(nn.Module):
    """Four halvings and back between two convolutions: a pixel sees at most `REACH` around it, on a grid of 16."""

    REACH = 16 + 3

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(12, 4, 3, padding=1)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = pad(images, (0, -width % 16, 0, -height % 16))
        fine = self.first(padded)
        coarse = nn.functional.max_pool2d(fine, 16)
        both = torch.cat((fine, interpolate(coarse, fine.shape[-2:], mode="nearest")), 1)
        return (3 * self.last(both)).softmax(1)[..., :height, :width]


@pytest.mark.parametrize("size", [(100, 128), (200, 333), (129, 400)])
def test_a_network_gives_what_it_gives_for_the_whole_image_where_it_saw_enough(size):
    image, valid = image_of(size)
    network = Halving()
    whole = network(image[None])[0]
    read = reader(image, valid)
    tiling = Tiling(128, 64, 2)
    found = assembled(blended(size, read, network, tiling), size, 4)
    shared = [torch.zeros(length, dtype=torch.bool) for length in size]
    for axis, length in enumerate(size):
        spans = tiling.spans(length)
        for (start, _), (before, number) in zip(spans[1:], spans[:-1], strict=True):
            shared[axis][start : before + number] = True
    beside = ~shared[0][:, None] & ~shared[1]
    torch.testing.assert_close(found.probabilities_KHW[:, beside], whole[:, beside], rtol=0, atol=1e-5)
    # A margin as wide as what a pixel sees: the same everywhere, up to the image's border.
    tiling = Tiling(128, 64, 2, margin=Halving.REACH)
    exact = assembled(blended(size, read, network, tiling), size, 4)
    torch.testing.assert_close(exact.probabilities_KHW, whole, rtol=0, atol=1e-5)
    if max(size) > 128:
        assert (found.probabilities_KHW - whole).abs().max() > 1e-3, "else the test would see no seam"


def test_tiles_cover_a_side_evenly_and_begin_on_the_grid():
    for tile, overlap in ((32, 0), (64, 32), (512, 64), (48, 10)):
        tiling = Tiling(tile, overlap)
        for length in (*range(1, 300), 511, 512, 513, 20_000):
            spans = tiling.spans(length)
            assert spans[0][0] == 0 and sum(spans[-1]) == length
            assert all(start % 16 == 0 and 0 < number <= tile for start, number in spans)
            shared = [before + number - start for (before, number), (start, _) in itertools.pairwise(spans)]
            assert all(overlap <= one < tile for one in shared)
    assert Tiling().count((20_000, 20_000)) == 45**2 and Tiling().count((360, 480)) == 1


def test_weights_of_two_tiles_add_up_to_one_over_just_the_overlap():
    tiling = Tiling(64, 16, margin=2)
    spans = tiling.spans(64 + 48)
    assert spans == [(0, 64), (48, 64)]
    total = torch.zeros(112)
    for start, number in spans:
        weights = tiling.weights((start, number), 112)
        total[start : start + number] += weights
        assert weights[:2].eq(0).all() == (start > 0)
    torch.testing.assert_close(total, torch.ones(112))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((500, 64), "tile = 500: use a multiple of 16"),
        ((16, 0), "tile = 16: use a multiple of 16 pixels, 32 or more"),
        ((64, 33), r"overlap = 33: use 0\.\.32"),
        ((64, -1), "overlap = -1"),
        ((64, 8, 0), "batch = 0"),
        ((64, 8, 1, 4), "overlap = 8: this method needs 9 or more"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        Tiling(*settings)


@pytest.mark.parametrize("target", [(90, 80), (300, 41), (20, 200), (47, 131)])
def test_enlarged_pieces_are_the_whole_interpolated(target, monkeypatch):
    monkeypatch.setattr(tiled, "STRIP_PIXELS", 1000)
    size = (47, 131)
    image, _ = image_of(size)
    valid = torch.ones(size, dtype=torch.bool)
    pieces = blended(size, reader(image, valid), of_pixels, Tiling(32, 8))
    found = assembled(enlarged(pieces, size, target), target, 4)
    whole = interpolate(of_pixels(image[None]), target, mode="bilinear", align_corners=False)[0]
    # torch takes the places in single precision.
    torch.testing.assert_close(found.probabilities_KHW, whole, rtol=0, atol=1e-4)
    assert found.valid_HW.all()


def test_of_equal_classes_the_first_is_taken_and_where_there_is_no_data_none():
    probabilities = torch.tensor([[[0.4, 0.1, 0.0]], [[0.4, 0.6, 0.0]], [[0.2, 0.3, 0.0]]])
    classes, confidence = decided(probabilities, torch.tensor([[True, False, True]]))
    assert classes.tolist() == [[0, 255, 0]] and classes.dtype == np.uint8
    np.testing.assert_allclose(confidence, [[0, 0.3 / 0.9, 0]], atol=1e-6)
