"""The systems of the RMI paper: Zhao, Wang, Yang and Cai, NeurIPS 2019 (arXiv:1910.12037).

DeepLabV3 and DeepLabV3+ on a ResNet-101 with three 3x3 convolutions as its stem, from ImageNet weights, with each loss
of the paper, on its data sets. Settings are those of the authors' code (github.com/ZJULearning/RMI) where the paper's
text leaves them open. Commands start with `miseg train`, followed by the recipe's name; the dense CRF rows are
the CE recipes measured with `miseg evaluate --run ID --crf 1 5 10`. The ablation over the downsampling factor,
the region size and the manner of downsampling is a grid over the RMI recipe:
`miseg tune-rmi --recipe voc-v3-rmi --grid.downsampling-factor 1 2 4 --grid.region-size 1 2 3`.

The paper's own figures are in `miseg.recipes.published`, of ours there is none: none of these runs was made yet.
`miseg.recipes.differences` lists what is run otherwise than written. Settings that are the paper's or its code's, and
were added after these recipes had ids, are given on the command line: `--optimiser.decay-from warmup
--optimiser.decayed weights --augmentation.interpolation bicubic --augmentation.padding end --method.network.encoder
resnet101s`, and for the affinity field `--method.pairs published`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from miseg.data.configs import Augmentation
from miseg.methods.configs import (
    AffinityField,
    BinaryCrossEntropy,
    CrossEntropy,
    MethodConfig,
    RegionMutualInformation,
)
from miseg.networks.configs import DeepLab
from miseg.networks.encoders.sources import IMAGENET
from miseg.recipes.experiment import Experiment, Optimiser

Version = Literal["v3", "v3+"]


def voc_v3_ce(seed: int = 0) -> Experiment:
    """Softmax cross-entropy, DeepLabV3, VOC 2012 trainaug: `voc-v3-ce`."""
    return _voc("v3", CrossEntropy, seed)


def voc_v3_bce(seed: int = 0) -> Experiment:
    """Binary cross-entropy, DeepLabV3, VOC 2012 trainaug: `voc-v3-bce`."""
    return _voc("v3", BinaryCrossEntropy, seed)


def voc_v3_affinity(seed: int = 0) -> Experiment:
    """Affinity field at 1/8 resolution, DeepLabV3, VOC 2012 trainaug: `voc-v3-affinity`."""
    return _voc("v3", AffinityField, seed)


def voc_v3_rmi(seed: int = 0) -> Experiment:
    """RMI (λ 0.5, DF 4, R 3), DeepLabV3, VOC 2012 trainaug: `voc-v3-rmi`."""
    return _voc("v3", RegionMutualInformation, seed)


def voc_v3plus_ce(seed: int = 0) -> Experiment:
    """Softmax cross-entropy, DeepLabV3+, VOC 2012 trainaug: `voc-v3plus-ce`."""
    return _voc("v3+", CrossEntropy, seed)


def voc_v3plus_bce(seed: int = 0) -> Experiment:
    """Binary cross-entropy, DeepLabV3+, VOC 2012 trainaug: `voc-v3plus-bce`."""
    return _voc("v3+", BinaryCrossEntropy, seed)


def voc_v3plus_affinity(seed: int = 0) -> Experiment:
    """Affinity field at 1/8 resolution, DeepLabV3+, VOC 2012 trainaug: `voc-v3plus-affinity`."""
    return _voc("v3+", AffinityField, seed)


def voc_v3plus_rmi(seed: int = 0) -> Experiment:
    """RMI (λ 0.5, DF 4, R 3), DeepLabV3+, VOC 2012 trainaug: `voc-v3plus-rmi`."""
    return _voc("v3+", RegionMutualInformation, seed)


def camvid_v3_ce(seed: int = 0) -> Experiment:
    """Softmax cross-entropy, DeepLabV3, CamVid: `camvid-v3-ce`."""
    return _camvid("v3", CrossEntropy, seed)


def camvid_v3_bce(seed: int = 0) -> Experiment:
    """Binary cross-entropy, DeepLabV3, CamVid: `camvid-v3-bce`."""
    return _camvid("v3", BinaryCrossEntropy, seed)


def camvid_v3_affinity(seed: int = 0) -> Experiment:
    """Affinity field at 1/8 resolution, DeepLabV3, CamVid: `camvid-v3-affinity`."""
    return _camvid("v3", AffinityField, seed)


def camvid_v3_rmi(seed: int = 0) -> Experiment:
    """RMI (λ 0.5, DF 4, R 3), DeepLabV3, CamVid: `camvid-v3-rmi`."""
    return _camvid("v3", RegionMutualInformation, seed)


def camvid_v3plus_ce(seed: int = 0) -> Experiment:
    """Softmax cross-entropy, DeepLabV3+, CamVid: `camvid-v3plus-ce`."""
    return _camvid("v3+", CrossEntropy, seed)


def camvid_v3plus_bce(seed: int = 0) -> Experiment:
    """Binary cross-entropy, DeepLabV3+, CamVid: `camvid-v3plus-bce`."""
    return _camvid("v3+", BinaryCrossEntropy, seed)


def camvid_v3plus_affinity(seed: int = 0) -> Experiment:
    """Affinity field at 1/8 resolution, DeepLabV3+, CamVid: `camvid-v3plus-affinity`."""
    return _camvid("v3+", AffinityField, seed)


def camvid_v3plus_rmi(seed: int = 0) -> Experiment:
    """RMI (λ 0.5, DF 4, R 3), DeepLabV3+, CamVid: `camvid-v3plus-rmi`."""
    return _camvid("v3+", RegionMutualInformation, seed)


def _voc(version: Version, method: Callable[[DeepLab], MethodConfig], seed: int) -> Experiment:
    # 46 epochs of 10,582 images in batches of 16, which the paper rounds to 30,000 steps.
    return Experiment(
        method=method(_network(version, decoder_rate=10.0 if version == "v3" else 5.0)),
        data="voc-aug",
        optimiser=_optimiser(learning_rate=0.007, warmup_steps=1500),
        augmentation=Augmentation(scale=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0), crop=(513, 513), flip=0.5),
        steps=30_000,
        batch_size=16,
        validate_every=2_000,
        seed=seed,
    )


def _camvid(version: Version, method: Callable[[DeepLab], MethodConfig], seed: int) -> Experiment:
    return Experiment(
        method=method(_network(version, decoder_rate=10.0)),
        data="camvid",
        optimiser=_optimiser(learning_rate=0.025, warmup_steps=300),
        augmentation=Augmentation(scale=(0.75, 1.25), crop=(479, 479), flip=0.5),
        steps=6_000,
        batch_size=16,
        validate_every=500,
        seed=seed,
    )


def _network(version: Version, decoder_rate: float) -> DeepLab:
    return DeepLab(
        version, "resnet101d", weights=IMAGENET, output_stride=16, decoder_rate=decoder_rate, batch_norm_momentum=0.05
    )


def _optimiser(learning_rate: float, warmup_steps: int) -> Optimiser:
    return Optimiser("sgd", learning_rate, momentum=0.9, weight_decay=1e-4, warmup_steps=warmup_steps, power=0.9)


RECIPES: dict[str, Callable[..., Experiment]] = {
    "voc-v3-ce": voc_v3_ce,
    "voc-v3-bce": voc_v3_bce,
    "voc-v3-affinity": voc_v3_affinity,
    "voc-v3-rmi": voc_v3_rmi,
    "voc-v3plus-ce": voc_v3plus_ce,
    "voc-v3plus-bce": voc_v3plus_bce,
    "voc-v3plus-affinity": voc_v3plus_affinity,
    "voc-v3plus-rmi": voc_v3plus_rmi,
    "camvid-v3-ce": camvid_v3_ce,
    "camvid-v3-bce": camvid_v3_bce,
    "camvid-v3-affinity": camvid_v3_affinity,
    "camvid-v3-rmi": camvid_v3_rmi,
    "camvid-v3plus-ce": camvid_v3plus_ce,
    "camvid-v3plus-bce": camvid_v3plus_bce,
    "camvid-v3plus-affinity": camvid_v3plus_affinity,
    "camvid-v3plus-rmi": camvid_v3plus_rmi,
}
"""Every recipe by the name that the command line knows it by."""
