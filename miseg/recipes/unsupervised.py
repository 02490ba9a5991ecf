"""No labels: InfoSeg, IIC and the K-means baselines, on every data set that they are compared on.

Commands start with `miseg train`; scores are by `miseg evaluate --run ID --role last`. For each place
P of camvid, embedded, textures, coco-stuff-15, coco-persons, potsdam and potsdam-3 there are `P-infoseg` (Harb and
Knöbelreiter), `P-iic` (Ji et al.), `P-kmeans` (of colours), `P-relative-position` (Doersch et al.) and
`P-co-occurrence` (Isola et al.), and `P-infoseg-hard`, which shows why the soft assignment is needed.

COCO and Potsdam have the published size: 128 x 128 pixels, the networks' full width, Adam at 1e-4, and InfoSeg with P
= 2048 and batches of 64, but 20,000 steps. Three kinds of recipes have the published lengths and more:

- `P-infoseg-as-published` (coco-stuff-15, coco-persons, potsdam, potsdam-3): the thesis's extractors and 300 epochs;
- `P-iic-as-published` (coco-stuff-15, potsdam, potsdam-3): the commands of IIC's authors;
- `coco-persons-M-as-published`: each image resized to 128 x 128, as the thesis has it for every method.

The others are small enough for a CPU: 64 x 64 pixels, an eighth to a quarter of the width, P = 64 and Adam at 1e-3;
every method takes the same number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from miseg.data.configs import Augmentation
from miseg.methods.configs import (
    CoOccurrence,
    InfoSeg,
    InvariantInformation,
    MethodConfig,
    PixelKMeans,
    RelativePosition,
)
from miseg.networks.configs import VGG, InfoSegNetwork
from miseg.recipes.experiment import Experiment, Optimiser

OVER_CLUSTERS = {"potsdam": 24, "potsdam-3": 24}
"""Clusters of IIC's second head as published, where that is not three times the classes."""


def published(data: str, method: str, seed: int = 0) -> Experiment:
    """Experiment of a method without labels as its paper has it, for a GPU."""
    methods: dict[str, MethodConfig] = {
        "infoseg": InfoSeg(),
        "infoseg-hard": InfoSeg(assignment="hard"),
        "iic": InvariantInformation(over_clusters=OVER_CLUSTERS.get(data)),
        "kmeans": PixelKMeans(),
        "relative-position": RelativePosition(),
        "co-occurrence": CoOccurrence(),
    }
    return Experiment(
        method=methods[method],
        data=data,
        optimiser=Optimiser(name="adam", learning_rate=1e-4, warmup_steps=0, power=0.0),
        augmentation=Augmentation(flip=0.5, crop=(128, 128)),
        steps=20_000,
        batch_size=64,
        validate_every=2_000,
        seed=seed,
    )


def small(data: str, method: str, seed: int = 0) -> Experiment:
    """At a size that a CPU trains in minutes."""
    trunk = VGG(width=8)
    methods: dict[str, MethodConfig] = {
        "infoseg": InfoSeg(SMALL, jitter=0.2),
        "infoseg-hard": InfoSeg(SMALL, assignment="hard", jitter=0.2),
        "iic": InvariantInformation(trunk, displacement=5, jitter=0.2),
        "kmeans": PixelKMeans(),
        "relative-position": RelativePosition(trunk),
        "co-occurrence": CoOccurrence(trunk),
    }
    return Experiment(
        method=methods[method],
        data=data,
        optimiser=Optimiser(name="adam", learning_rate=1e-3, warmup_steps=0, power=0.0),
        augmentation=Augmentation(resize=(64, 64), flip=0.5),
        steps=300,
        batch_size=16,
        validate_every=100,
        seed=seed,
    )


@dataclass(frozen=True)
class IICCommand:
    """Settings of one of the commands that IIC's authors ran (xu-ji/IIC, examples/commands.txt), as far as they differ.

    Attributes:
        images: chips or images that the authors trained on, by which their 4,800 epochs become steps.
        learning_rate: of Adam.
        batch_size: images a step.
        over_clusters: k_A, clusters of the second head.
        displacement: pixels of the window to each side.
        size: pixels of a side of the input.
        edges: whether Sobel channels are added.
        jitter: of brightness, contrast and saturation.
    """

    images: int
    learning_rate: float
    batch_size: int
    over_clusters: int
    displacement: int = 10
    size: int = 128
    edges: bool = True
    jitter: float = 0.4


IIC_EPOCHS = 4_800
IIC_COMMANDS = {
    "coco-stuff-15": IICCommand(52_000, 1e-4, 60, 45),
    "potsdam": IICCommand(8_550, 1e-6, 60, 36, displacement=5, size=200, edges=False, jitter=0.1),
    "potsdam-3": IICCommand(8_550, 1e-5, 75, 24, displacement=10, size=200, edges=False, jitter=0.1),
}


def iic_as_published(data: str, method: str, seed: int = 0) -> Experiment:
    """Experiment of IIC as its authors ran it."""
    command = IIC_COMMANDS[data]
    base = published(data, method, seed)
    steps = IIC_EPOCHS * math.ceil(command.images / command.batch_size)
    return replace(
        base,
        method=InvariantInformation(
            VGG(sobel=command.edges),
            over_clusters=command.over_clusters,
            displacement=command.displacement,
            jitter=command.jitter,
        ),
        optimiser=replace(base.optimiser, learning_rate=command.learning_rate),
        augmentation=Augmentation(flip=0.5, crop=(command.size, command.size)),
        steps=steps,
        batch_size=command.batch_size,
        validate_every=steps // 100,
    )


INFOSEG_EPOCHS = 300
INFOSEG_IMAGES = {"coco-stuff-15": 52_000, "coco-persons": 15_399, "potsdam": 8_550, "potsdam-3": 8_550}
"""Images that the thesis and IIC's preparation have, by which epochs become steps."""


def infoseg_as_published(data: str, method: str, seed: int = 0) -> Experiment:
    """Experiment of InfoSeg with the thesis's high-level extractors and its 300 epochs."""
    base = _resized(data, method, seed)
    steps = INFOSEG_EPOCHS * math.ceil(INFOSEG_IMAGES[data] / base.batch_size)
    network = InfoSegNetwork(high="flattened")
    return replace(base, method=InfoSeg(network), steps=steps, validate_every=steps // 100)


def _resized(data: str, method: str, seed: int = 0) -> Experiment:
    """Experiment of `published`, with each image of COCO-Persons resized to 128 x 128."""
    base = published(data, method, seed)
    if data != "coco-persons":
        return base
    return replace(base, augmentation=Augmentation(resize=(128, 128), flip=0.5))


SMALL = InfoSegNetwork(features=64, width=8)

_METHODS = {
    "infoseg": "InfoSeg (Harb and Knöbelreiter)",
    "infoseg-hard": "InfoSeg with hard assignment",
    "iic": "invariant information clustering (Ji et al.)",
    "kmeans": "K-means of colours",
    "relative-position": "K-means of features that tell where a patch lies (Doersch et al.)",
    "co-occurrence": "K-means of features that tell neighbours (Isola et al.)",
}
_DATASETS: dict[str, Callable[[str, str, int], Experiment]] = {
    "camvid": small,
    "embedded": small,
    "textures": small,
    "coco-stuff-15": published,
    "coco-persons": published,
    "potsdam": published,
    "potsdam-3": published,
}


_AS_PUBLISHED: dict[tuple[str, str], Callable[[str, str, int], Experiment]] = {
    **{(data, "iic"): iic_as_published for data in IIC_COMMANDS},
    **{("coco-persons", method): _resized for method in _METHODS if method not in ("infoseg", "infoseg-hard")},
    **{(data, "infoseg"): infoseg_as_published for data in INFOSEG_IMAGES},
}


def _recipe(
    dataset: str, method: str, start: Callable[[str, str, int], Experiment], end: str = ""
) -> Callable[..., Experiment]:
    def recipe(seed: int = 0) -> Experiment:
        return start(dataset, method, seed)

    title = f"{_METHODS[method][0].upper()}{_METHODS[method][1:]}{end.replace('-', ' ')}"
    recipe.__doc__ = f"{title} on {dataset}: `{dataset}-{method}{end}`."
    return recipe


RECIPES: dict[str, Callable[..., Experiment]] = {
    f"{dataset}-{method}": _recipe(dataset, method, start)
    for dataset, start in _DATASETS.items()
    for method in _METHODS
} | {
    f"{data}-{method}-as-published": _recipe(data, method, start, "-as-published")
    for (data, method), start in _AS_PUBLISHED.items()
}
"""Every recipe by the name that the command line knows it by."""
