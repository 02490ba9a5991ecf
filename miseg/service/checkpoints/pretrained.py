"""Pretrained weights in a training: images are standardised as the weights saw theirs, and what is loaded is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from miseg.data.configs import Augmentation
from miseg.networks.configs import EncoderDecoder, networks_of
from miseg.networks.encoders import shapes
from miseg.networks.encoders.sources import IMAGENET, file_of
from miseg.networks.encoders.table import find
from miseg.recipes.experiment import Experiment


class Images(Protocol):
    """Channels and values of a data set's images: `PackedDataset.info` has them."""

    @property
    def channels(self) -> int:
        """Channels of an image."""

    @property
    def full_scale(self) -> int:
        """Stored value that stands for 1."""


def augmentation_of(experiment: Experiment, images: Images) -> Augmentation:
    """The augmentation with the mean and deviation that images are standardised with, where that is not the data's own.

    What the experiment says counts; else, for 8-bit images of three channels, what the pretrained weights of an
    `EncoderDecoder` were trained with, for grey ones its average over red, green and blue. Of other images no weights
    know the colours, and the data set's own statistics stay.

    Raises:
        ValueError: several networks whose weights were trained with different ones.
    """
    settings = experiment.augmentation
    networks = [network for network in networks_of(experiment.method) if isinstance(network, EncoderDecoder)]
    known = {network.colours for network in networks if network.colours is not None}
    if settings.mean is not None or not known or images.full_scale != 255 or images.channels not in (1, 3):
        return settings
    if len(known) > 1:
        raise ValueError(
            "the networks' weights were trained on images of different standardisation: give augmentation.mean and "
            "augmentation.std"
        )
    mean, std = known.pop()
    if images.channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return replace(settings, mean=mean, std=std)


def check_sources(experiment: Experiment) -> None:
    """Raise ValueError where a file or a package of weights is not there, or surely of another network.

    Headers alone are read, so that it takes milliseconds; `sentences` reads whole files.
    """
    for network in networks_of(experiment.method):
        weights, encoder = getattr(network, "weights", None), getattr(network, "encoder", "")
        if weights not in (None, IMAGENET):
            shapes.check(file_of(weights, encoder), encoder)


def sentences(experiment: Experiment, images: Images) -> Iterator[str]:
    """Sentences on each network's pretrained weights, and on the standardisation that follows them.

    Raises:
        ValueError: weights that cannot be read, or are of another network.
    """
    pretrained = [n for n in networks_of(experiment.method) if getattr(n, "weights", None) is not None]
    for network in pretrained:
        if (name := getattr(network, "encoder", None)) is not None:
            # Not at the top: it brings torch and timm along, which only pretrained weights need here.
            from miseg.networks.encoders.timm_weights import sentence_on

            yield sentence_on(getattr(network, "weights", None), name, find(name), images.channels)
    seen = augmentation_of(experiment, images)
    if seen != experiment.augmentation:
        values = " and ".join(
            f"{what} {' '.join(f'{value:g}' for value in values or ())}"
            for what, values in (("mean", seen.mean), ("deviation", seen.std))
        )
        yield f"images are standardised as those that the weights were trained on: {values}"
    elif experiment.augmentation.mean is None and any(isinstance(n, EncoderDecoder) for n in pretrained):
        yield "images are standardised by the data set's own mean and deviation, for no weights know these channels"
