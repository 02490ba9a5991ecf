"""Few labels: similarity by mutual information on satellite and aerial images.

Commands start with `python jobs/train.py`; results are mean IoU over all dates with 50 labelled pixels a class of one
date, as mean (lowest to highest) over seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from miseg.data.configs import Pairs
from miseg.methods.configs import MutualInformationSimilarity
from miseg.networks.configs import PatchEncoder
from miseg.recipes.experiment import Experiment, Optimiser


def flanders(seed: int = 0) -> Experiment:
    """Sanchez et al. with all terms on the Sentinel-2 series of Flanders: `flanders-similarity`.

    Other dates are the only change between two views: flips, turns, shifts and jitter slow learning down here
    (`flanders-similarity-augmented` has them).
    """
    return Experiment(
        method=MutualInformationSimilarity(PatchEncoder(patch=9, features=(32, 64), representation=32), hidden=64),
        data="sentinel2-flanders",
        optimiser=Optimiser(name="adam", learning_rate=2e-3, warmup_steps=100),
        pairs=Pairs(shift=0, turn=False, jitter=0.0, min_valid=0.97),
        steps=6000,
        batch_size=512,
        validate_every=2000,
        seed=seed,
    )


def without_global(seed: int = 0) -> Experiment:
    """Without the global mutual information: `flanders-similarity-no-global`."""
    return _changed(seed, alpha=0.0)


def without_local(seed: int = 0) -> Experiment:
    """Without the local mutual information, compared by the global one: `flanders-similarity-no-local`."""
    return _changed(seed, beta=0.0, compare="global")


def without_difference(seed: int = 0) -> Experiment:
    """Without the L1 term: `flanders-similarity-no-l1`."""
    return _changed(seed, gamma=0.0)


def without_swap(seed: int = 0) -> Experiment:
    """Each view scored with its own representation: `flanders-similarity-no-swap`."""
    return _changed(seed, swap=False)


def without_dates(seed: int = 0) -> Experiment:
    """Both views of one date: `flanders-similarity-one-date`."""
    recipe = flanders(seed)
    return replace(recipe, pairs=replace(recipe.pairs, other_date=0.0))


def augmented(seed: int = 0) -> Experiment:
    """With the paper's flips, turns, shifts and jitter: `flanders-similarity-augmented`."""
    return replace(flanders(seed), pairs=Pairs(min_valid=0.97))


def _changed(seed: int, **settings: float | bool | str) -> Experiment:
    recipe = flanders(seed)
    return replace(recipe, method=replace(recipe.method, **settings))  # type: ignore[arg-type]


RECIPES: dict[str, Callable[..., Experiment]] = {
    "flanders-similarity": flanders,
    "flanders-similarity-no-global": without_global,
    "flanders-similarity-no-local": without_local,
    "flanders-similarity-no-l1": without_difference,
    "flanders-similarity-no-swap": without_swap,
    "flanders-similarity-one-date": without_dates,
    "flanders-similarity-augmented": augmented,
}
"""Every recipe by the name that the command line knows it by."""
