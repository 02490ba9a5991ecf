"""Networks of segmentation-models-pytorch on the encoders of timm, for images of any size and number of channels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miseg.extras import require
from miseg.networks import configs
from miseg.networks.architectures import ARCHITECTURES, check, output_stride
from miseg.networks.encoders.sources import IMAGENET
from miseg.networks.encoders.table import Encoder

require("networks", "EncoderDecoder", "segmentation_models_pytorch", "timm")

import segmentation_models_pytorch as smp  # noqa: E402  (after the sentence that names the extra)
import timm  # noqa: E402
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder  # noqa: E402

from miseg.networks.encoders.timm_weights import (  # noqa: E402
    RGB,
    check_loaded,
    keywords,
    overlay,
    sentence_on,
    unreachable,
    weights_for,
)

PATCH = 16
"""Pixels of a side of the patches that DPT's decoder is made for."""


class EncoderDecoder(nn.Module):
    """Images [N, in_channels, H, W] to logits [N, out_channels, H, W].

    Sides that the encoder cannot take are padded inside, at the right and the bottom: with the mirrored image, or with
    its last pixel where the image is smaller than what is missing. The logits are cropped back.

    Args:
        config: the settings.
        in_channels: channels of an image, at least 1; the first convolution of pretrained weights is adapted to them.
        out_channels: logits per pixel, at least 1.

    Raises:
        ValueError: weights that cannot be had: no such file or package, of another network, or no answer of the hub.
    """

    def __init__(self, config: configs.EncoderDecoder, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.model: Any
        self.config = config
        encoder = check(config.architecture, config.encoder, config.output_stride)
        self.model = _model(config, encoder, in_channels, out_channels)
        self.multiple, self.smallest = _sides(config, encoder)
        stages = self._stages(in_channels)
        used = set().union(*stages)
        frozen = used if config.frozen == "all" else set().union(*stages[: config.frozen])
        norms: list[str] = []
        for name, module in self.model.encoder.named_modules():
            own = {id(parameter) for parameter in module.parameters(recurse=False)}
            normalises = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if normalises and (config.frozen_batch_norm or (own and own <= frozen)):
                norms.append(name)
                frozen |= own
        for parameter in self.model.encoder.parameters():
            # Those that no logit depends on, such as a ViT's last norm, would keep several workers waiting for them.
            parameter.requires_grad_(id(parameter) in used and id(parameter) not in frozen)
        # By name: for several GPUs batch norms are exchanged for others.
        self._in_evaluation = [""] if config.frozen == "all" else norms

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits at the images' resolution."""
        height, width = images_NCHW.shape[-2:]
        padded = pad(images_NCHW, self.multiple, self.smallest)
        logits = self.model(padded)
        if logits.shape[-2:] != padded.shape[-2:]:
            logits = F.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def train(self, mode: bool = True) -> EncoderDecoder:
        """Training or evaluation mode, as of any module, but that what is frozen stays as it is in evaluation."""
        super().train(mode)
        for name in self._in_evaluation:
            self.model.encoder.get_submodule(name).eval()
        return self

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """The encoder at `encoder_rate` times `lr`, everything after it at `lr`; what is frozen is in none."""
        encoder = [parameter for parameter in self.model.encoder.parameters() if parameter.requires_grad]
        known = {id(parameter) for parameter in self.model.encoder.parameters()}
        decoder = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups = [{"params": encoder, "lr": lr * self.config.encoder_rate}, {"params": decoder, "lr": lr}]
        return [group for group in groups if group["params"]]

    def _stages(self, in_channels: int) -> list[set[int]]:
        """Ids of the encoder's parameters that each of its features depends on, the one nearest to the image first."""
        encoder = self.model.encoder.eval()
        side = max(self.multiple, self.smallest)
        # What is read is how features are computed, so their values do not matter, nor does the image.
        images = torch.zeros(1, in_channels, side, side, device=next(encoder.parameters()).device)
        with torch.enable_grad():
            features = encoder(images)
        features = features[0] if isinstance(features, tuple) else features[1:]
        stages = [set(_parameters_behind(feature)) for feature in features]
        encoder.train(self.training)
        return stages


def pad(images_NCHW: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """The images with sides of `smallest` pixels or more that are multiples of `multiple`.

    What is added, at the right and the bottom, is the mirrored image, or its last pixel where the image is too small.
    """
    height, width = images_NCHW.shape[-2:]
    down, right = (max(smallest, side + -side % multiple) - side for side in (height, width))
    for amount, side, edges in ((right, width, (0, right, 0, 0)), (down, height, (0, 0, 0, down))):
        if amount:
            images_NCHW = F.pad(images_NCHW, edges, mode="reflect" if amount < side else "replicate")
    return images_NCHW


def check_weights(config: configs.EncoderDecoder, in_channels: int) -> str:
    """A sentence on the weights that the network will start from; "" for random ones.

    Raises:
        ValueError: as of the network, but for what the hub has.
    """
    encoder = check(config.architecture, config.encoder, config.output_stride)
    return sentence_on(config.weights, config.encoder, encoder, in_channels)


def _sides(config: configs.EncoderDecoder, encoder: Encoder) -> tuple[int, int]:
    """Pixels that sides must be a multiple of, and at least."""
    architecture = ARCHITECTURES[config.architecture]
    if encoder.kind == "plain":
        # The smallest of DPT's maps must be whole, and be made for patches of 16.
        patch = encoder.multiple
        return (max(32, patch) if _is_power_of_two(patch) else 2 * patch), 1
    stride = output_stride(config.architecture, config.output_stride)
    return encoder.multiple, architecture.smallest * stride


def _model(config: configs.EncoderDecoder, encoder: Encoder, in_channels: int, out_channels: int) -> nn.Module:
    """The network as segmentation-models-pytorch builds it, with the encoder's weights."""
    settings: dict[str, Any] = {"in_channels": in_channels, "classes": out_channels}
    if ARCHITECTURES[config.architecture].output_strides:
        settings["encoder_output_stride"] = output_stride(config.architecture, config.output_stride)
    if config.architecture.startswith("deeplabv3"):
        # As Chen et al. have them: for twice the resolution, twice the rates.
        settings["decoder_atrous_rates"] = (6, 12, 18) if settings["encoder_output_stride"] == 16 else (12, 24, 36)
    weights = config.weights
    if encoder.own:
        return _own(config, encoder, settings)
    settings |= keywords(encoder)
    if encoder.kind == "plain":
        readout = "cat" if _has_class_token(config.encoder, encoder) else "ignore"
        settings |= {"decoder_readout": readout, "num_classes": 0}
    if weights is None:
        return _built(config, f"tu-{config.encoder}", None, settings)
    if weights == IMAGENET:
        return _of_the_hub(config, lambda: _built(config, f"tu-{config.encoder}", True, settings))
    fitted = weights_for(weights, config.encoder, encoder)
    settings |= {"pretrained_cfg_overlay": overlay(fitted, config.encoder, encoder)}
    model: Any = _built(config, f"tu-{config.encoder}", True, settings)
    check_loaded(model.encoder.model, fitted, in_channels, weights)
    return model


def _built(config: configs.EncoderDecoder, encoder: str, weights: Any, settings: dict[str, Any]) -> nn.Module:
    build = getattr(smp, ARCHITECTURES[config.architecture].builder)
    with warnings.catch_warnings():
        # timm and the library tell what they are asked for on purpose.
        warnings.simplefilter("ignore", UserWarning)
        model = build(encoder, encoder_weights=weights, **settings)
    if config.architecture == "dpt" and not _is_power_of_two(model.encoder.output_strides[0]):
        # Maps of 14 pixels a patch have no halves and quarters; they are decoded as if they were of 16, and the logits
        # are brought to the image's size, as Depth Anything (arXiv:2401.10891) does it.
        encoder_ = model.encoder
        model.decoder = DPTDecoder(
            encoder_out_channels=encoder_.out_channels,
            encoder_output_strides=[PATCH] * len(encoder_.output_strides),
            encoder_has_prefix_tokens=encoder_.has_prefix_tokens,
            readout=settings["decoder_readout"],
        )
        model.initialize()
    return model


def _own(config: configs.EncoderDecoder, encoder: Encoder, settings: dict[str, Any]) -> nn.Module:
    """The network on an encoder of the library itself."""
    if config.weights is None or config.weights == IMAGENET:
        build = partial(_built, config, encoder.name, config.weights, settings)
        return build() if config.weights is None else _of_the_hub(config, build)
    fitted = weights_for(config.weights, encoder.name, encoder)
    model: Any = _built(config, encoder.name, None, settings | {"in_channels": RGB})
    model.encoder.load_state_dict(dict(fitted.tensors))
    model.encoder.set_in_channels(settings["in_channels"], pretrained=True)
    return model


def _of_the_hub(config: configs.EncoderDecoder, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except Exception as error:
        raise unreachable(IMAGENET, config.encoder, error) from error


def _parameters_behind(feature: Tensor) -> Iterator[int]:
    """Ids of the parameters that a tensor was computed from."""
    waiting, seen = [feature.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (parameter := getattr(node, "variable", None)) is not None:
            yield id(parameter)
        waiting += [following for following, _ in node.next_functions]


def _has_class_token(name: str, encoder: Encoder) -> bool:
    with torch.device("meta"):
        return getattr(timm.create_model(name, **keywords(encoder)), "num_prefix_tokens", 0) > 0


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
