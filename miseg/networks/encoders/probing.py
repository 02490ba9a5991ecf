"""Encoders of timm, measured: each is built on the meta device, where tensors have no memory."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from miseg.extras import require
from miseg.networks.encoders.table import Colours, Encoder, Kind

require("networks", "An encoder", "segmentation_models_pytorch", "timm")

import timm  # noqa: E402  (after the sentence that names the extra)
from segmentation_models_pytorch.encoders import TimmUniversalEncoder, TimmViTEncoder  # noqa: E402

DEPTH = 5
"""Halvings of the image that decoders see, at most."""

MULTIPLES = (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384)
"""Multiples of pixels that are tried, for encoders that cut their maps into windows of a fixed size."""

OPTIONS = ("", "dynamic_img_size", "strict_img_size")

OUTPUT_STRIDES = (8, 16)


def probe(name: str) -> Encoder | None:
    """The encoder of timm's name, without a tag, built and run once for each question; None where timm has none."""
    if name not in timm.list_models():
        return None
    weights = _weights(name)
    for option in OPTIONS if _halves(name) else ():
        halving = _halving(name, option)
        if halving is None:
            continue
        kind, multiple = halving
        strides = tuple(s for s in OUTPUT_STRIDES if _is_dilated(name, option, multiple, s))
        return Encoder(name, kind, multiple, option, strides, weights)
    for option in OPTIONS:
        if (patch := _patch(name, option)) is not None:
            return Encoder(name, "plain", patch, option, (), weights)
    return Encoder(name, "none", weights=weights)


def keywords(option: str) -> dict[str, Any]:
    """Arguments of timm that let an encoder take images of any size: see `Encoder.option`."""
    return {option: option != "strict_img_size"} if option else {}


def _halves(name: str) -> bool:
    """Whether an encoder's maps halve down to 1/32, whatever images it takes."""
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            encoder: Any = timm.create_model(name, features_only=True)
            reductions = encoder.feature_info.reduction()
    except Exception:  # whatever timm raises for a name that has no such features
        return False
    return reductions[-1] == 2**DEPTH


def _halving(name: str, option: str) -> tuple[Kind, int] | None:
    """Kind and multiple of an encoder whose maps halve."""
    try:
        encoder = _built(TimmUniversalEncoder, name, depth=DEPTH, **keywords(option))
    except Exception:  # no such argument
        return None
    for multiple in MULTIPLES:
        try:
            sizes = ((multiple, 2 * multiple), (3 * multiple, 2 * multiple))
            if all(_sizes(encoder, *size) == _strided(*size) for size in sizes):
                if encoder.out_channels[1] == 0:
                    return "quarter", multiple
                return "full" if encoder._is_vgg_style else "halving", multiple
        except Exception:  # noqa: S112  (windows that do not fit into the maps of this size)
            continue
    return None


def _is_dilated(name: str, option: str, multiple: int, stride: int) -> bool:
    """Whether an encoder's maps are `stride` times smaller than the image, at most, where that is asked for."""
    try:
        encoder = _built(TimmUniversalEncoder, name, depth=DEPTH, output_stride=stride, **keywords(option))
        return _sizes(encoder, multiple, 2 * multiple) == _strided(multiple, 2 * multiple, stride)
    except Exception:  # as above
        return False


def _patch(name: str, option: str) -> int | None:
    """Side of the patches of an encoder whose blocks give maps of one size."""
    try:
        encoder = _built(TimmViTEncoder, name, depth=4, **keywords(option))
        patch, *others = encoder.output_strides
        if any(other != patch for other in others):
            return None
        for height, width in ((2 * patch, 4 * patch), (6 * patch, 4 * patch)):
            with torch.no_grad():
                features, _ = encoder(torch.empty(2, 3, height, width, device="meta"))
            if any(tuple(f.shape[-2:]) != (height // patch, width // patch) for f in features):
                return None
        return patch
    except Exception:  # as above
        return None


def _built(kind: type[nn.Module], name: str, **settings: Any) -> Any:
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return kind(name, pretrained=False, in_channels=3, **settings).eval()


def _sizes(encoder: nn.Module, height: int, width: int) -> list[tuple[int, ...]]:
    with torch.no_grad():
        return [tuple(f.shape[-2:]) for f in encoder(torch.empty(2, 3, height, width, device="meta"))]


def _strided(height: int, width: int, most: int = 2**DEPTH) -> list[tuple[int, ...]]:
    strides = [min(2**level, most) for level in range(DEPTH + 1)]
    return [(height // stride, width // stride) for stride in strides]


def _weights(name: str) -> dict[str, Colours]:
    """Standardisation of each of the weights on the hub by its tag, the default first."""
    default = timm.get_pretrained_cfg(name)
    tags = [full.partition(".")[2] for full in timm.list_models(f"{name}.*", pretrained=True)]
    first = default.tag if default is not None else None
    weights: dict[str, Colours] = {}
    for tag in sorted(tags, key=lambda tag: (tag != first, tag)):
        settings = timm.get_pretrained_cfg(f"{name}.{tag}")
        assert settings is not None  # timm listed it
        weights[tag] = tuple(map(float, settings.mean)), tuple(map(float, settings.std))
    return weights
