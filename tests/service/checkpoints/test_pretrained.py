"""What follows from pretrained weights: the standardisation, what is said, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import timm
import torch

from miseg.data.configs import Augmentation
from miseg.methods.configs import CrossEntropy, MutualLearning
from miseg.networks.configs import DeepLab, EncoderDecoder, Network, UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints.pretrained import augmentation_of, check_sources, sentences

HALF = EncoderDecoder("unet", "tf_efficientnet_lite0", "imagenet")
IMAGENET = EncoderDecoder("unet", "resnet18", "imagenet")


@dataclass(frozen=True)
class Images:
    channels: int = 3
    full_scale: int = 255


def experiment(*networks: Network, **settings: object) -> Experiment:
    first, *others = networks
    method = MutualLearning(first, tuple(others)) if others else CrossEntropy(first)
    return Experiment(method, augmentation=Augmentation(**settings))  # type: ignore[arg-type]


def test_colours_are_those_of_the_weights() -> None:
    assert augmentation_of(experiment(HALF), Images()).mean == (0.5, 0.5, 0.5)
    seen = augmentation_of(experiment(IMAGENET, flip=0.25), Images())
    assert seen == Augmentation(flip=0.25, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    tagged = replace(IMAGENET, encoder="resnet34.ra4_e3600_r224_in1k")
    assert augmentation_of(experiment(tagged), Images()).mean == (0.5, 0.5, 0.5)


def test_grey_images_take_the_average() -> None:
    seen = augmentation_of(experiment(IMAGENET), Images(channels=1))
    assert seen.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert seen.std == pytest.approx([(0.229 + 0.224 + 0.225) / 3])


@pytest.mark.parametrize("images", [Images(channels=4), Images(channels=2), Images(full_scale=10000)])
def test_other_images_keep_their_own(images: Images) -> None:
    asked = experiment(IMAGENET)
    assert augmentation_of(asked, images) == asked.augmentation
    assert list(sentences(asked, images))[-1].startswith("images are standardised by the data set's own mean")


def test_what_the_experiment_says_counts() -> None:
    asked = experiment(IMAGENET, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert augmentation_of(asked, Images()) == asked.augmentation
    assert len(list(sentences(asked, Images()))) == 1


@pytest.mark.parametrize("network", [UNet(4), DeepLab(weights="imagenet"), replace(HALF, weights=None)])
def test_random_weights_and_earlier_networks_keep_the_data_s(network: Network) -> None:
    """Also a DeepLab, whose checkpoints of before were trained so."""
    asked = experiment(network)
    assert augmentation_of(asked, Images()) == asked.augmentation


def test_networks_of_different_weights_cannot_share_images() -> None:
    with pytest.raises(ValueError, match=r"different standardisation: give augmentation.mean and augmentation.std"):
        augmentation_of(experiment(HALF, IMAGENET), Images())
    assert augmentation_of(experiment(HALF, HALF, UNet(4)), Images()).mean == (0.5, 0.5, 0.5)


def test_what_is_loaded_is_said_before_the_training(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state, tmp_path / "a.pth")
    asked = experiment(EncoderDecoder("fpn", "test_resnet", str(tmp_path / "a.pth")))
    check_sources(asked)
    loaded, standardised = sentences(asked, Images(channels=1))
    assert loaded.endswith("its first convolution is adapted to 1 channels: their sum over red, green and blue")
    assert standardised == (
        "images are standardised as those that the weights were trained on: mean 0.5 and deviation 0.5"
    )
    assert list(sentences(experiment(UNet(4)), Images())) == []


@pytest.mark.parametrize("network", [replace(HALF, weights="no.pth"), DeepLab(weights="package:no-such-weights")])
def test_sources_that_are_not_there_are_refused(network: Network) -> None:
    with pytest.raises(ValueError, match=r"weights = '.*': there is no (such file|package)"):
        check_sources(experiment(network))
