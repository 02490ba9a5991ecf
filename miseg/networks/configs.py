"""Settings of the networks. No torch here: a command line's --help must not wait for it."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal

from miseg.networks.architectures import ARCHITECTURES, ArchitectureName, check
from miseg.networks.encoders.table import Colours, standardisation
from miseg.networks.registry import Network, register_network
from miseg.settings import ADDED_LATER


@register_network("miseg.networks.unet:UNet")
@dataclass(frozen=True)
class UNet(Network):
    """The U-Net of Buda, Saha and Mazurowski (2019): four halvings, transposed convolutions, logits out."""

    initial_features: int = 32
    """Feature maps at full resolution; each of the four halvings doubles them."""
    normalisation: Literal["batch", "group"] = "batch"
    """Batch norm as published; group norm where a worker's batch is small or ranks must agree exactly."""

    def __post_init__(self) -> None:
        if self.initial_features < 1:
            raise ValueError(f"initial_features = {self.initial_features}: use 1 or more (published: 32)")


@register_network("miseg.networks.deeplab:DeepLab")
@dataclass(frozen=True)
class DeepLab(Network):
    """DeepLabV3 (Chen et al. 2017) or DeepLabV3+ (Chen et al. 2018) on a ResNet, dilated to its output stride."""

    PACKAGES: ClassVar = ("segmentation-models-pytorch", "timm")
    """Distributions that it needs beside torch."""

    version: Literal["v3", "v3+"] = "v3+"
    """v3+ adds a decoder that sees features at a quarter of the resolution."""
    encoder: Literal["resnet18d", "resnet50", "resnet50d", "resnet101", "resnet101d", "resnet101s"] = "resnet101d"
    """The ResNet by timm's name; d and s: three 3x3 convolutions in place of the 7x7 one, as the RMI paper has it. Of
    the two s is the one of the paper's code, in the sizes of the three and in shortcuts that do not average."""
    weights: str | None = None
    """imagenet (fetched from the hub), a file of this encoder's weights, package:NAME for a Python package that carries
    one, or random ones if left out."""
    output_stride: Literal[8, 16] = 16
    """Input pixels for each pixel of the encoder's last features, in training and inference."""
    decoder_rate: float = 1.0
    """Learning rate of everything after the encoder, as a multiple of the encoder's, above 0."""
    batch_norm_momentum: float = 0.1
    """Share of a new batch in the running statistics of batch norm, 0..1."""

    def __post_init__(self) -> None:
        if not 0 < self.decoder_rate < math.inf:
            raise ValueError(f"decoder_rate = {self.decoder_rate}: use a value above 0; the RMI code uses 5 or 10")
        if not 0 < self.batch_norm_momentum <= 1:
            raise ValueError(
                f"batch_norm_momentum = {self.batch_norm_momentum}: it lies in 0..1, 0 excluded; the RMI code uses 0.05"
            )


@register_network("miseg.networks.encoder_decoder:EncoderDecoder")
@dataclass(frozen=True)
class EncoderDecoder(Network):
    """A network of segmentation-models-pytorch on an encoder of timm: docs/networks.md says which take which."""

    PACKAGES: ClassVar = ("segmentation-models-pytorch", "timm")
    """Distributions that it needs beside torch."""

    architecture: ArchitectureName = "unet"
    """The decoder with its head."""
    encoder: str = "resnet34"
    """The encoder by timm's name, with the tag of its weights or without (resnet50, resnet50.a1_in1k), or mit_b0 to
    mit_b5, those of SegFormer."""
    weights: str | None = None
    """Weights of the encoder: imagenet (from timm's hub), a file, package:NAME for a Python package that carries one,
    or random ones if left out."""
    output_stride: Literal[8, 16, 32] | None = None
    """Input pixels for each pixel of the encoder's last features, of DeepLabV3, DeepLabV3+ and PAN. Default: 8, 16 and
    16; others have 32."""
    encoder_rate: float = 1.0
    """Learning rate of the encoder, as a multiple of that of everything after it, above 0."""
    frozen: int | Literal["all"] = 0
    """Halvings of the image from the first, up to which the encoder keeps its weights and the statistics of its batch
    norm (of a ViT, quarters of its blocks), or all of the encoder."""
    frozen_batch_norm: bool = False
    """Whether every batch norm of the encoder keeps its weights and statistics."""

    def __post_init__(self) -> None:
        for name in ("architecture", "output_stride"):
            choices = ARCHITECTURES if name == "architecture" else (None, 8, 16, 32)
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} = {getattr(self, name)!r}: use one of {', '.join(map(str, choices))}")
        check(self.architecture, self.encoder, self.output_stride)
        if not 0 < self.encoder_rate < math.inf:
            raise ValueError(f"encoder_rate = {self.encoder_rate}: use a value above 0, or frozen=all for none")
        if self.frozen != "all" and self.frozen not in range(6):
            raise ValueError(f"frozen = {self.frozen!r}: use 0 (nothing) to 5 halvings, or all")

    @property
    def colours(self) -> Colours | None:
        """Mean and deviation of the images that the weights were trained on; None for random weights."""
        return None if self.weights is None else standardisation(self.encoder)


@dataclass(frozen=True)
class PatchEncoder:
    """Two 3x3 convolutions without padding, whose second output is the local map, and a dense layer to a vector."""

    patch: int = 9
    """Pixels of a patch's side, odd: the papers take 9 for Sentinel-2 and 13 for Potsdam."""
    features: tuple[int, int] = (64, 128)
    """Feature maps of the two convolutions."""
    representation: int = 10
    """Size of the vector that stands for a patch; the papers take 10 and 32."""
    normalisation: Literal["batch", "none"] = "batch"
    """Batch norm after each convolution (folded into it where a whole image is mapped), or none."""

    def __post_init__(self) -> None:
        if self.patch < 5 or self.patch % 2 == 0:
            raise ValueError(f"patch = {self.patch}: use an odd number of pixels, 5 or more; the papers use 9 and 13")
        if len(self.features) != 2 or min(self.features) < 1:
            raise ValueError(f"features = {self.features}: give two numbers of feature maps, each 1 or more")
        if self.representation < 1:
            raise ValueError(f"representation = {self.representation}: use 1 or more; the papers use 10 and 32")

    @property
    def local_size(self) -> int:
        """Pixels of the local map's side."""
        return self.patch - 4


@dataclass(frozen=True)
class VGG:
    """IIC's trunk for segmentation: six 3x3 convolutions, one halving, the last two dilated by 2."""

    width: int = 64
    """Feature maps of the first convolution; the last have eight times as many."""
    sobel: bool = True
    """Whether the network sees the image's edges beside its colours."""
    normalisation: Literal["batch", "group"] = "batch"
    """Batch norm as published, or group norm, which does not depend on the batch."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width = {self.width}: use 1 or more (published: 64)")


INFOSEG_GRID = 8
"""Positions a side of a flattened map of InfoSeg: what is left of 128 pixels after four halvings."""


@dataclass(frozen=True)
class InfoSegNetwork:
    """InfoSeg's network: three blocks to local features, two more to the features of the whole image."""

    features: int = 2048
    """P, the length of local and high-level features."""
    width: int = 64
    """Feature maps of the first block; the last have eight times as many."""
    sobel: bool = True
    """Whether the network sees the image's edges beside its colours."""
    normalisation: Literal["batch", "group"] = "batch"
    """Batch norm in the blocks, or group norm, which does not depend on the batch."""
    high: Literal["pooled", "flattened"] = field(default="pooled", metadata=ADDED_LATER)
    """Input of the two blocks to the features of the whole image, and what is done with their map: the features before
    the local ones, averaged over the image; or the local features, flattened at 8 x 8 positions (equation 4.5)."""

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features = {self.features}: use 1 or more; the paper uses 2048")
        if self.width < 1:
            raise ValueError(f"width = {self.width}: use 1 or more")
        if self.high == "flattened" and self.features % INFOSEG_GRID**2:
            raise ValueError(
                f"features = {self.features}: flattened high-level features have as many of each of "
                f"{INFOSEG_GRID} x {INFOSEG_GRID} positions; use a multiple of {INFOSEG_GRID**2}"
            )


def networks_of(settings: Any) -> list[Network]:
    """Every network that a method's settings hold, at any depth."""
    if isinstance(settings, Network):
        return [settings]
    values = settings if isinstance(settings, tuple) else [getattr(settings, f.name) for f in _fields(settings)]
    return [network for value in values for network in networks_of(value)]


def without_weights(settings: Any) -> Any:
    """The same settings with every network's weights random from the start."""
    if isinstance(settings, Network):
        drawn: Any = {"weights": None} if hasattr(settings, "weights") else {}
        return replace(settings, **drawn)
    if isinstance(settings, tuple):
        return tuple(without_weights(item) for item in settings)
    changed = {f.name: without_weights(getattr(settings, f.name)) for f in _fields(settings)}
    return replace(settings, **changed) if changed else settings


def _fields(settings: Any) -> tuple[Field, ...]:
    return fields(settings) if is_dataclass(settings) else ()
