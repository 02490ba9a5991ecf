"""Weights of timm's encoders, and of segmentation-models-pytorch's own, from a file or a package."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from miseg.extras import require
from miseg.networks.encoders.sources import IMAGENET, file_of
from miseg.networks.encoders.table import Encoder
from miseg.networks.encoders.weight_files import COUNTER, Convert, Fitted, Tensors, fit, read

require("networks", "An encoder of timm", "segmentation_models_pytorch", "timm")

import segmentation_models_pytorch as smp  # noqa: E402  (after the sentence that names the extra)
import timm  # noqa: E402
from timm.models._manipulate import adapt_input_conv  # noqa: E402

RGB = 3
"""Channels that weights are trained for."""


def keywords(encoder: Encoder) -> dict[str, Any]:
    """Arguments of timm that let an encoder take images of any size."""
    return {encoder.option: encoder.option != "strict_img_size"} if encoder.option else {}


def weights_for(weights: str, name: str, encoder: Encoder) -> Fitted:
    """The weights that a file or package holds, by the names of the encoder.

    Args:
        weights: a path or package:NAME.
        name: the encoder's, with the tag of its weights or without.
        encoder: the same.

    Raises:
        ValueError: they cannot be had, or are of another network.
    """
    return fit(read(file_of(weights, name)), *tensors_of(name, encoder), name)


def tensors_of(name: str, encoder: Encoder) -> tuple[Tensors, list[str], Convert | None]:
    """Tensors without memory of a classifier, names of those that its encoder has, and timm's conversion to them."""
    if encoder.own:
        # Not on the meta device: to be built, it reads a number out of a tensor.
        whole = smp.encoders.get_encoder(encoder.name, weights=None).state_dict()
        return whole, list(whole), None
    with torch.device("meta"):
        classifier: Any = timm.create_model(name, **keywords(encoder))
        part = classifier
        if encoder.kind != "plain":
            part = timm.create_model(name, features_only=True, **keywords(encoder))
    whole = classifier.state_dict()
    has = {_letters(tensor) for tensor in part.state_dict()}
    named = classifier.pretrained_cfg["classifier"] or ()
    heads = tuple(f"{head}." for head in ((named,) if isinstance(named, str) else named))
    needed = [tensor for tensor in whole if _letters(tensor) in has and not tensor.startswith(heads)]
    convert = getattr(sys.modules[type(classifier).__module__], "checkpoint_filter_fn", None)
    return whole, needed, None if convert is None else lambda tensors: convert(tensors, classifier)


def overlay(fitted: Fitted, name: str, encoder: Encoder) -> dict[str, Any]:
    """The setting by which timm starts an encoder from these weights: its `pretrained_cfg_overlay`.

    It is a classifier's whole state: what the encoder has no use for is 0.
    """
    with torch.device("meta"):
        state = timm.create_model(name, **keywords(encoder)).state_dict()
    rest = {tensor: torch.zeros(value.shape, dtype=value.dtype) for tensor, value in state.items()}
    return {"state_dict": rest | dict(fitted.tensors)}


def check_loaded(model: nn.Module, fitted: Fitted, in_channels: int, weights: str) -> None:
    """Raise ValueError where an encoder does not hold the weights: timm passes over some that it cannot take."""
    loaded = {_letters(name): value for name, value in model.state_dict().items()}
    for name, value in fitted.tensors.items():
        own = loaded.get(_letters(name))
        if own is None or name.endswith(COUNTER):
            continue
        if own.shape != value.shape and value.dim() == 4 and value.shape[1] == RGB:
            value = adapt_input_conv(in_channels, value)
        if own.shape != value.shape or not torch.equal(own, value.to(own.dtype)):
            raise ValueError(
                f"weights = {weights!r}: {name} cannot be had for images of {in_channels} channels; use images of 3, "
                "or leave weights out"
            )


def sentence_on(weights: str | None, name: str, encoder: Encoder, in_channels: int) -> str:
    """A sentence on the weights that an encoder will start from; "" for random ones.

    Raises:
        ValueError: as `weights_for`.
    """
    if weights is None:
        return ""
    sentence = f"{name} starts from the weights of timm's hub"
    if weights != IMAGENET:
        sentence = weights_for(weights, name, encoder).sentence
    if in_channels == RGB:
        return sentence
    manner = "their sum over red, green and blue" if in_channels == 1 else f"repeated and scaled by 3 / {in_channels}"
    return f"{sentence}; its first convolution is adapted to {in_channels} channels: {manner}"


def unreachable(weights: str, name: str, error: Exception) -> ValueError:
    """The error of weights that timm's hub does not give."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ValueError(
        f"weights = {weights!r}: timm could not fetch {name} from the hub; without a connection, give weights=FILE or "
        f"weights=package:NAME ({reason})"
    )


def _letters(name: str) -> str:
    """A tensor's name without what timm's extraction of features changes in it."""
    return name.removeprefix("model.").replace(".", "_")
