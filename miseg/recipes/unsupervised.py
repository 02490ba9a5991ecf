"""No labels: InfoSeg, IIC and the K-means baselines, on every data set that they are compared on.

Commands start with `miseg train`; scores are by `miseg evaluate --run ID --role last`. For each place
P of camvid, embedded, textures, coco-stuff-15, coco-persons, potsdam and potsdam-3 there are `P-infoseg` (Harb and
Knöbelreiter), `P-iic` (Ji et al.), `P-kmeans` (of colours), `P-relative-position` (Doersch et al.) and
`P-co-occurrence` (Isola et al.), and `P-infoseg-hard`, which shows why the soft assignment is needed.

COCO and Potsdam are set up as published: 128 x 128 pixels, the networks' full width, Adam at 1e-4, and InfoSeg with P =
2048 and batches of 64. The others are small enough for a CPU: 64 x 64 pixels, an eighth to a quarter of the width, P =
64 and Adam at 1e-3; every method takes the same number of steps.
"""

from __future__ import annotations

from collections.abc import Callable

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


def _recipe(dataset: str, method: str) -> Callable[..., Experiment]:
    start = _DATASETS[dataset]

    def recipe(seed: int = 0) -> Experiment:
        return start(dataset, method, seed)

    recipe.__doc__ = f"{_METHODS[method][0].upper()}{_METHODS[method][1:]} on {dataset}: `{dataset}-{method}`."
    return recipe


RECIPES: dict[str, Callable[..., Experiment]] = {
    f"{dataset}-{method}": _recipe(dataset, method) for dataset in _DATASETS for method in _METHODS
}
"""Every recipe by the name that the command line knows it by."""
