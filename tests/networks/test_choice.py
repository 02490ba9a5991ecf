"""A network chosen by name: what is said counts, the rest stays, and what cannot be is refused."""

from __future__ import annotations

from typing import Any

import pytest

from miseg.methods.cluster_configs import InfoSeg
from miseg.methods.configs import CrossEntropy, MutualLearning, RegionMutualInformation
from miseg.networks.architectures import ARCHITECTURES
from miseg.networks.choice import NetworkChoice, network_from_options, parsed, with_network
from miseg.networks.configs import DeepLab, EncoderDecoder, UNet

OTHER = EncoderDecoder("fpn", "resnet18", "imagenet", encoder_rate=0.1)


@pytest.mark.parametrize(
    ("current", "choice", "network"),
    [
        (UNet(8), NetworkChoice(), UNet(8)),
        (UNet(8), NetworkChoice("segformer"), EncoderDecoder("segformer", "mit_b0")),
        (UNet(8), NetworkChoice("unet", "resnet18"), EncoderDecoder("unet", "resnet18")),
        (OTHER, NetworkChoice("unet", weights="a.pth"), EncoderDecoder("unet", "resnet34", "a.pth")),
        (OTHER, NetworkChoice("paper-unet"), UNet()),
        (UNet(8), NetworkChoice("paper-unet"), UNet(8)),
        (DeepLab(), NetworkChoice(encoder="resnet50"), DeepLab(encoder="resnet50")),
        (
            OTHER,
            NetworkChoice(encoder="resnet50"),
            EncoderDecoder("fpn", "resnet50", "imagenet", encoder_rate=0.1),
        ),
        (
            OTHER,
            NetworkChoice(weights="package:a"),
            EncoderDecoder("fpn", "resnet18", "package:a", encoder_rate=0.1),
        ),
    ],
)
def test_what_is_said_counts_and_the_rest_stays(current: Any, choice: NetworkChoice, network: Any) -> None:
    assert network_from_options(current, choice) == network
    assert with_network(RegionMutualInformation(current, weight=0.3), choice) == RegionMutualInformation(
        network, weight=0.3
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_an_encoder_of_its_own(name: str) -> None:
    assert network_from_options(UNet(), parsed(name)) == EncoderDecoder(
        name,  # type: ignore[arg-type]
        ARCHITECTURES[name].encoder,
    )


def test_equal_networks_are_exchanged_together() -> None:
    method = with_network(MutualLearning(), parsed("unet:resnet18"))
    assert method.networks == (EncoderDecoder("unet", "resnet18"),) * 2


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("segformer", NetworkChoice("segformer")),
        ("unet:resnet18", NetworkChoice("unet", "resnet18")),
        ("unet:resnet18.a1_in1k:imagenet", NetworkChoice("unet", "resnet18.a1_in1k", "imagenet")),
        ("unet:resnet18:package:a-b", NetworkChoice("unet", "resnet18", "package:a-b")),
    ],
)
def test_a_word_says_a_network(text: str, choice: NetworkChoice) -> None:
    assert parsed(text) == choice


@pytest.mark.parametrize(
    ("method", "choice", "message"),
    [
        (CrossEntropy(), NetworkChoice("segfomer"), "no such network; did you mean segformer"),
        (CrossEntropy(), NetworkChoice("linknet", "mit_b0"), "Linknet cannot take it"),
        (CrossEntropy(), NetworkChoice(encoder="resnet18"), "UNet, which has no encoder; give --network too"),
        (CrossEntropy(), NetworkChoice("paper-unet", weights="imagenet"), "UNet, which has no weights"),
        (CrossEntropy(), NetworkChoice("paper-deeplab", "mit_b0"), "give --network deeplabv3[+] for others"),
        (InfoSeg(), NetworkChoice("unet"), "InfoSeg has a network of its own"),
        (MutualLearning(UNet(), (DeepLab(),)), NetworkChoice("unet"), "several networks that differ"),
    ],
)
def test_what_cannot_be_is_refused(method: Any, choice: NetworkChoice, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_network(method, choice)


@pytest.mark.parametrize("text", ["unet:", ":resnet18", "unet::imagenet", ""])
def test_a_word_without_a_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give ARCHITECTURE"):
        parsed(text)
