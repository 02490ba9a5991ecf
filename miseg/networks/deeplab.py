"""DeepLabV3 and DeepLabV3+ through segmentation-models-pytorch, on timm's ResNets.

Chen, Papandreou, Schroff and Adam: Rethinking Atrous Convolution (arXiv:1706.05587); Chen et al.: Encoder-Decoder with
Atrous Separable Convolution, ECCV 2018 (arXiv:1802.02611). Settings that neither paper fixes follow the code of Zhao et
al. (2019): atrous rates 6, 12, 18 at output stride 16 and twice that at 8, with plain convolutions and dropout 0.1. The
decoder of V3+ is the library's, with separable convolutions as in Chen et al.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from miseg.extras import require
from miseg.networks import configs
from miseg.networks.encoders.sources import IMAGENET
from miseg.networks.encoders.table import find

require("networks", "DeepLab", "segmentation_models_pytorch", "timm")

import segmentation_models_pytorch as smp  # noqa: E402  (after the sentence that names the extra)
import timm  # noqa: E402

from miseg.networks.encoders.timm_weights import (  # noqa: E402
    check_loaded,
    overlay,
    unreachable,
    weights_for,
)

MULTIPLE = 16
"""segmentation-models-pytorch refuses sides that are no multiple of it."""


class DeepLab(nn.Module):
    """Images [N, in_channels, H, W] to logits [N, out_channels, H, W].

    Sides that are no multiple of 16 (the papers crop to 513 and 479) are padded inside with zeros, the mean of a
    standardised image, at the right and the bottom, and the logits, upsampled to input size, are cropped back.

    Args:
        config: the settings.
        in_channels: channels of an image, at least 1; ImageNet's first convolution is adapted to them.
        out_channels: logits per pixel, at least 1.

    Raises:
        ValueError: ImageNet weights that cannot be had: the file is missing or of another network, or the hub does
            not answer.
    """

    def __init__(self, config: configs.DeepLab, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.decoder_rate = config.decoder_rate
        build = smp.DeepLabV3 if config.version == "v3" else smp.DeepLabV3Plus
        rates = (6, 12, 18) if config.output_stride == 16 else (12, 24, 36)
        self.model = build(
            f"tu-{config.encoder}",
            encoder_weights=None,
            encoder_output_stride=config.output_stride,
            decoder_atrous_rates=rates,
            decoder_aspp_separable=False,
            decoder_aspp_dropout=0.1,
            in_channels=in_channels,
            classes=out_channels,
        )
        if config.weights is not None:
            load_encoder(self.model.encoder.model, config, in_channels)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = config.batch_norm_momentum

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits at the images' resolution."""
        height, width = images_NCHW.shape[-2:]
        padded = F.pad(images_NCHW, (0, -width % MULTIPLE, 0, -height % MULTIPLE))
        return self.model(padded)[..., :height, :width]

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """The encoder at `lr`, everything after it at `decoder_rate` times that."""
        encoder = list(self.model.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        decoder = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return [{"params": encoder, "lr": lr}, {"params": decoder, "lr": lr * self.decoder_rate}]


def load_encoder(encoder: nn.Module, config: configs.DeepLab, in_channels: int) -> None:
    """Give `encoder`, a timm feature extractor, the weights that `config.weights` names.

    Raises:
        ValueError: they cannot be had; the encoder is as it was.
    """
    assert config.weights is not None
    known, settings = find(config.encoder), dict[str, Any]()
    fitted = None if config.weights == IMAGENET else weights_for(config.weights, config.encoder, known)
    if fitted is not None:
        settings["pretrained_cfg_overlay"] = overlay(fitted, config.encoder, known)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pretrained = timm.create_model(config.encoder, pretrained=True, in_chans=in_channels, **settings)
    except Exception as error:
        if fitted is not None:
            raise
        raise unreachable(config.weights, config.encoder, error) from error
    weights = pretrained.state_dict()
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    if fitted is not None:
        check_loaded(encoder, fitted, in_channels, config.weights)
