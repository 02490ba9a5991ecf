"""Weights of timm's hub by the loading code of timm and huggingface_hub themselves, from a cache as they lay it out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from miseg.methods.configs import CrossEntropy
from miseg.networks import build_network
from miseg.networks.configs import EncoderDecoder
from miseg.networks.encoder_decoder import check_weights
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints.pretrained import augmentation_of, sentences

REVISION = "0123456789abcdef0123456789abcdef01234567"

ARCHITECTURES: Mapping[str, Any] = {"test_resnet": "unet", "test_efficientnet": "fpn", "test_vit": "dpt"}
"""Of an encoder whose features timm extracts by layers, by names, and of a ViT."""


class Photos:
    """Images of red, green and blue in 8 bits."""

    channels, full_scale = 3, 255


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the hub's cache; the hub itself is not asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def put(cache: Path, repository: str, state: Mapping[str, Tensor], revision: str = REVISION) -> None:
    """Lay weights down as huggingface_hub does what it fetched."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    (snapshot / "config.json").write_text("{}")
    save_file({name: value.contiguous() for name, value in state.items()}, snapshot / "model.safetensors")


def drawn(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 7
        for name, value in state.items()
    }


def letters(name: str) -> str:
    return name.replace(".", "_")


def put_timm(cache: Path, encoder: str) -> dict[str, Tensor]:
    state = drawn(timm.create_model(encoder).state_dict())
    settings: Any = timm.get_pretrained_cfg(encoder)
    put(cache, settings.hf_hub_id, state)
    return state


@pytest.mark.parametrize("name", [*ARCHITECTURES, "test_resnet.r160_in1k"])
def test_an_encoder_starts_from_the_hub_s_weights(cache: Path, name: str) -> None:
    encoder = name.partition(".")[0]
    state = {letters(tensor): value for tensor, value in put_timm(cache, encoder).items()}
    network: Any = build_network(EncoderDecoder(ARCHITECTURES[encoder], name, "imagenet"), 3, 2)
    loaded = network.model.encoder.model.state_dict()
    assert len(loaded) > 20
    for tensor, value in loaded.items():
        assert torch.equal(value, state[letters(tensor)]), tensor


def test_the_first_convolution_of_the_hub_s_weights_is_adapted(cache: Path) -> None:
    state = put_timm(cache, "test_resnet")
    first = state["conv1.0.weight" if "conv1.0.weight" in state else "conv1.weight"]
    config = EncoderDecoder("unet", "test_resnet", "imagenet")
    for channels in (1, 2, 4):
        network: Any = build_network(config, channels, 2)
        own = next(iter(network.model.encoder.model.state_dict().values()))
        expected = first.sum(1, keepdim=True)
        if channels > 1:
            expected = torch.stack([first[:, channel % 3] * 3 / channels for channel in range(channels)], 1)
        torch.testing.assert_close(own, expected)
    assert "hub; its first convolution is adapted to 4 channels: repeated and scaled by 3 / 4" in check_weights(
        config, 4
    )


def test_segmentation_models_own_encoder_starts_from_its_hub_s_weights(cache: Path) -> None:
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders["mit_b0"]["pretrained_settings"]["imagenet"]
    state = drawn(smp.encoders.get_encoder("mit_b0", weights=None).state_dict())
    put(cache, settings["repo_id"], state, settings["revision"])
    network: Any = build_network(EncoderDecoder("segformer", "mit_b0", "imagenet"), 3, 2)
    loaded = network.model.encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


@pytest.mark.parametrize(("encoder", "mean"), [("test_resnet", 0.5), ("test_efficientnet", 0.485)])
def test_images_are_standardised_as_the_hub_s_weights_saw_theirs(encoder: str, mean: float) -> None:
    settings: Any = timm.get_pretrained_cfg(encoder)
    experiment = Experiment(CrossEntropy(EncoderDecoder("unet", encoder, "imagenet")))
    augmentation = augmentation_of(experiment, Photos())
    assert (augmentation.mean, augmentation.std) == (settings.mean, settings.std)
    assert augmentation.mean is not None and augmentation.mean[0] == mean
    said = list(sentences(experiment, Photos()))
    assert said[0] == f"{encoder} starts from the weights of timm's hub" and "trained on: mean 0." in said[1]


def test_what_the_cache_does_not_hold_is_told_with_the_mend(cache: Path) -> None:
    put_timm(cache, "test_resnet")
    with pytest.raises(ValueError, match=r"could not fetch test_vit from the hub; .* give weights=FILE or"):
        build_network(EncoderDecoder("dpt", "test_vit", "imagenet"), 3, 2)
    cut = next(cache.glob("*/snapshots/*/model.safetensors"))
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"weights = 'imagenet': .*test_resnet"):
        build_network(EncoderDecoder("unet", "test_resnet", "imagenet"), 3, 2)
