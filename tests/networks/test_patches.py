"""Patch networks: what they give for a patch is what they give for the whole image there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from miseg.networks import patches
from miseg.networks.configs import PatchEncoder as Config
from miseg.networks.patches import PatchEncoder, StatisticsNetwork

SMALL = Config(patch=7, features=(6, 5), representation=4)


def trained(config: Config = SMALL, bands: int = 3) -> PatchEncoder:
    """An encoder whose batch norm has seen data, in float64 and evaluation mode."""
    torch.manual_seed(0)
    encoder = PatchEncoder(config, bands).double()
    for _ in range(5):
        encoder(2 + 3 * torch.randn(16, bands, config.patch, config.patch, dtype=torch.float64))
    return encoder.eval()


@pytest.mark.parametrize("patch", [5, 7, 9, 13])
def test_shapes(patch: int) -> None:
    encoder = PatchEncoder(replace(SMALL, patch=patch), in_channels=4)
    local, z = encoder(torch.randn(2, 4, patch, patch))
    assert local.shape == (2, 5, patch - 4, patch - 4) and z.shape == (2, 4)
    assert SMALL.local_size == 3


@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_maps_of_an_image_are_the_results_of_its_patches(normalisation: str) -> None:
    encoder = trained(replace(SMALL, normalisation=normalisation))
    image = torch.randn(1, 3, 12, 15, dtype=torch.float64)
    with torch.no_grad():
        local_map, z_map = encoder.maps(image)
        assert local_map.shape == (1, 5, 8, 11) and z_map.shape == (1, 4, 6, 9)
        for row in range(6):
            for column in range(9):
                local, z = encoder(image[..., row : row + 7, column : column + 7])
                torch.testing.assert_close(local_map[..., row : row + 3, column : column + 3], local)
                torch.testing.assert_close(z_map[..., row, column], z)


@pytest.mark.parametrize("window", [1, 3])
def test_the_split_first_layer_is_the_layer_on_what_is_concatenated(window: int) -> None:
    torch.manual_seed(0)
    network = StatisticsNetwork(5, window, 4, 8).double()
    local, z = torch.randn(2, 5, 3, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    assert isinstance(network.of_window, torch.nn.Conv2d) and isinstance(network.of_representation, torch.nn.Linear)
    places = 4 - window
    for n in range(2):
        for row in range(places):
            for column in range(places):
                seen = local[n, :, row : row + window, column : column + window].flatten()
                weights = torch.cat([network.of_window.weight.flatten(1), network.of_representation.weight], 1)
                hidden = weights @ torch.cat([seen, z[n]]) + network.of_window.bias
                expected = network.head(hidden)[0]
                torch.testing.assert_close(network(local, z)[n, row, column], expected)


def test_the_dot_product_is_that_of_the_encodings() -> None:
    torch.manual_seed(0)
    network = StatisticsNetwork(5, 3, 4, 8, "dot")
    local, z = torch.randn(2, 5, 3, 3), torch.randn(2, 4)
    expected = (network.of_window(local).flatten(1) * network.of_representation(z)).sum(1) / 8**0.5
    torch.testing.assert_close(network(local, z).flatten(), expected)


@pytest.mark.parametrize("discriminator", ["concatenate", "dot"])
@pytest.mark.parametrize("windows", [1, 6, 23, 24])
def test_scores_of_all_pairs_are_those_of_each(
    discriminator: str, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "TILE", 3)
    torch.manual_seed(0)
    network = StatisticsNetwork(5, 1, 4, 8, discriminator).double()
    local, z = torch.randn(1, 5, 1, windows, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    with torch.no_grad():
        encoded = network.of_window(local)[0].flatten(1).T
        expected = torch.stack([network(local, one[None]).flatten() for one in z])
    torch.testing.assert_close(network.score_each(encoded, z), expected, rtol=1e-12, atol=1e-12)
    # A model in half precision under autocast hands over half windows; the scores keep the weights' precision.
    with torch.autocast("cpu", torch.bfloat16):
        rough = network.float().score_each(encoded.bfloat16(), z.bfloat16())
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 8}, "patch = 8: use an odd number"),
        ({"patch": 3}, "patch = 3"),
        ({"features": (4,)}, "give two numbers"),
        ({"features": (4, 0)}, "each 1 or more"),
        ({"representation": 0}, "representation = 0"),
    ],
)
def test_bad_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_a_patch_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="patches of 9 x 8 pixels: this encoder takes 7 a side"):
        trained()(torch.randn(1, 3, 9, 8, dtype=torch.float64))
