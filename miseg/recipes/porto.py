"""The Porto study: Gonçalves, Capozzi, Rebelo and Cardoso, Deep Image Segmentation based on Mutual Information.

RECPAD 2024; code: github.com/TiagoFilipeSousaGoncalves/image-segmentation-mutual-information. A U-Net with CE (the
baseline), with RMI, and learning mutually with a DeepLabV3 on ResNet-50, each on Cityscapes, VOC 2012 and ADE20K: the
images' shorter side 234, crops of 224, no flip, no standardisation, Adam at a constant rate, 200 epochs.

By default every method gets the baseline's learning rate and batch and what its own paper says. With `as_published`
(`porto-voc-rmi-as-published`) the recipe is what the study's code did: see `miseg.recipes.differences`.

Commands start with `miseg train`, followed by the recipe's name. Less cross-entropy, the study's RMI is −6.9 points of
mean IoU on Cityscapes and −13.6 on VOC 2012, and its mutual learning −3.1 and +2.4; it prints no figure of ADE20K. See
`miseg.recipes.published`. None of these runs was made here yet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from miseg.data.configs import Augmentation
from miseg.methods.configs import CrossEntropy, MethodConfig, MutualLearning, RegionMutualInformation
from miseg.networks.configs import DeepLab, UNet
from miseg.networks.encoders.sources import IMAGENET
from miseg.recipes.experiment import Experiment, Optimiser

EPOCHS = 200

TRAINING_IMAGES = {"voc": 1_464, "cityscapes": 2_975, "ade20k": 20_210}
"""Published sizes of the training splits: they give the number of steps."""


def voc_ce(seed: int = 0) -> Experiment:
    """U-Net with softmax cross-entropy, VOC 2012 train: `porto-voc-ce`."""
    return _ce("voc", seed)


def voc_rmi(seed: int = 0, as_published: bool = False) -> Experiment:
    """U-Net with RMI, VOC 2012 train: `porto-voc-rmi`."""
    return _rmi("voc", seed, as_published)


def voc_mutual(seed: int = 0, as_published: bool = False) -> Experiment:
    """U-Net learning mutually with DeepLabV3, VOC 2012 train: `porto-voc-mutual`."""
    return _mutual("voc", seed, as_published)


def cityscapes_ce(seed: int = 0) -> Experiment:
    """U-Net with softmax cross-entropy, Cityscapes: `porto-cityscapes-ce`."""
    return _ce("cityscapes", seed)


def cityscapes_rmi(seed: int = 0, as_published: bool = False) -> Experiment:
    """U-Net with RMI, Cityscapes: `porto-cityscapes-rmi`."""
    return _rmi("cityscapes", seed, as_published)


def cityscapes_mutual(seed: int = 0, as_published: bool = False) -> Experiment:
    """U-Net learning mutually with DeepLabV3, Cityscapes: `porto-cityscapes-mutual`."""
    return _mutual("cityscapes", seed, as_published)


def ade20k_ce(seed: int = 0) -> Experiment:
    """U-Net with softmax cross-entropy, ADE20K: `porto-ade20k-ce`."""
    return _ce("ade20k", seed)


def ade20k_rmi(seed: int = 0, as_published: bool = False) -> Experiment:
    """U-Net with RMI, ADE20K: `porto-ade20k-rmi`."""
    return _rmi("ade20k", seed, as_published)


def ade20k_mutual(seed: int = 0, as_published: bool = False) -> Experiment:
    """U-Net learning mutually with DeepLabV3, ADE20K: `porto-ade20k-mutual`."""
    return _mutual("ade20k", seed, as_published)


def _ce(data: str, seed: int) -> Experiment:
    return _experiment(CrossEntropy(UNet()), data, seed)


def _rmi(data: str, seed: int, as_published: bool) -> Experiment:
    if not as_published:
        return _experiment(RegionMutualInformation(UNet()), data, seed)
    method = RegionMutualInformation(UNet(), weight=0.5, downsampling_factor=1, region_size=3)
    return _experiment(method, data, seed, learning_rate=1e-4, batch_size=2)


def _mutual(data: str, seed: int, as_published: bool) -> Experiment:
    # Output stride 8 is how torchvision's DeepLabV3, which they used, dilates its ResNet.
    teacher = DeepLab("v3", "resnet50", weights=IMAGENET, output_stride=8)
    if not as_published:
        return _experiment(MutualLearning(UNet(), (teacher,)), data, seed)
    method = MutualLearning(UNet(), (teacher,), target="logits")
    return _experiment(method, data, seed, learning_rate=1e-4, batch_size=10)


def _experiment(
    method: MethodConfig, data: str, seed: int, learning_rate: float = 1e-3, batch_size: int = 8
) -> Experiment:
    steps_an_epoch = -(-TRAINING_IMAGES[data] // batch_size)
    return Experiment(
        method=method,
        data=data,
        optimiser=Optimiser("adam", learning_rate, warmup_steps=0, power=0.0),
        augmentation=Augmentation(resize=234, crop=(224, 224), flip=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        steps=EPOCHS * steps_an_epoch,
        batch_size=batch_size,
        validate_every=10 * steps_an_epoch,
        seed=seed,
    )


def _as_published(recipe: Callable[..., Experiment]) -> Callable[..., Experiment]:
    published = partial(recipe, as_published=True)
    published.__doc__ = (
        (recipe.__doc__ or "").replace(": `", ", as the study's code ran it: `").replace("`.", "-as-published`.")
    )
    return published


_TUNED_ALIKE: dict[str, Callable[..., Experiment]] = {
    "porto-voc-ce": voc_ce,
    "porto-voc-rmi": voc_rmi,
    "porto-voc-mutual": voc_mutual,
    "porto-cityscapes-ce": cityscapes_ce,
    "porto-cityscapes-rmi": cityscapes_rmi,
    "porto-cityscapes-mutual": cityscapes_mutual,
    "porto-ade20k-ce": ade20k_ce,
    "porto-ade20k-rmi": ade20k_rmi,
    "porto-ade20k-mutual": ade20k_mutual,
}

RECIPES = _TUNED_ALIKE | {
    f"{name}-as-published": _as_published(recipe)
    for name, recipe in _TUNED_ALIKE.items()
    if not name.endswith("-ce")  # the baseline was run as it is written
}
"""Every recipe by the name that the command line knows it by."""
