"""Recipes of this package."""

from __future__ import annotations

from miseg.data.configs import Augmentation
from miseg.recipes.experiment import Experiment, Optimiser
from miseg_example.gce import GeneralisedCrossEntropy
from miseg_example.plain import Plain


def discs_gce(seed: int = 0) -> Experiment:
    """Generalised cross-entropy on drawn discs: `discs-gce`."""
    return Experiment(
        method=GeneralisedCrossEntropy(Plain(8)),
        data="discs",
        optimiser=Optimiser(learning_rate=1e-2, warmup_steps=0),
        augmentation=Augmentation(flip=0.5),
        steps=20,
        batch_size=2,
        validate_every=10,
        seed=seed,
    )
