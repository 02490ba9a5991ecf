"""Few labels: similarity by mutual information on satellite and aerial images, and what it is compared with.

Commands start with `python jobs/train.py`, tables are by `python jobs/evaluate.py --run ID --points 1 5 10 50`.

For each place P of flanders, naip-landcover, naip-series, potsdam and potsdam-3 there are `P-similarity` (Sanchez et
al. with all terms), `P-deep-infomax` and `P-autoencoder` (the baselines of Table 2 that learn), and for flanders and
potsdam the ablations of Table 3: `P-similarity-no-global`, `-no-local`, `-no-l1` and `-no-swap`. flanders has two more:
`flanders-similarity-one-date` (both views of one date) and `flanders-similarity-augmented` (the paper's flips, turns,
shifts and jitter).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from miseg.data.configs import Pairs
from miseg.methods.configs import DeepInfoMax, MutualInformationSimilarity, PatchAutoencoder
from miseg.networks.configs import PatchEncoder
from miseg.recipes.experiment import Experiment, Optimiser

Place = Callable[[int], Experiment]


def flanders(seed: int = 0) -> Experiment:
    """The Sentinel-2 series of Flanders, patches of 9 pixels: `flanders-similarity`.

    Other dates are the only change between two views: flips, turns, shifts and jitter slow learning down here
    (`flanders-similarity-augmented` has them).
    """
    return _experiment("sentinel2-flanders", 9, Pairs(shift=0, turn=False, jitter=0.0, min_valid=0.97), seed)


def naip_series(seed: int = 0) -> Experiment:
    """Ten dates of aerial images of one place, patches of 9 pixels: `naip-series-similarity`."""
    return _experiment("naip-series", 9, Pairs(shift=0, turn=False, jitter=0.0, min_valid=0.5), seed)


def aerial(data: str, seed: int = 0) -> Experiment:
    """Aerial images of one date, patches of 13 pixels, views by flips, turns, shifts and jitter."""
    return _experiment(data, 13, Pairs(), seed)


def _experiment(data: str, patch: int, pairs: Pairs, seed: int) -> Experiment:
    encoder = PatchEncoder(patch=patch, features=(32, 64), representation=32)
    return Experiment(
        method=MutualInformationSimilarity(encoder, hidden=64),
        data=data,
        optimiser=Optimiser(name="adam", learning_rate=2e-3, warmup_steps=100),
        pairs=pairs,
        steps=6000,
        batch_size=512,
        validate_every=2000,
        seed=seed,
    )


def _changed(place: Place, seed: int = 0, **settings: float | bool | str) -> Experiment:
    recipe = place(seed)
    return replace(recipe, method=replace(recipe.method, **settings))  # type: ignore[arg-type]


def _one_date(place: Place, seed: int = 0) -> Experiment:
    recipe = place(seed)
    return replace(recipe, pairs=replace(recipe.pairs, other_date=0.0))


def _augmented(place: Place, seed: int = 0) -> Experiment:
    recipe = place(seed)
    return replace(recipe, pairs=Pairs(min_valid=recipe.pairs.min_valid))


def _deep_infomax(place: Place, seed: int = 0) -> Experiment:
    recipe = place(seed)
    method = recipe.method
    assert isinstance(method, MutualInformationSimilarity)
    return replace(recipe, method=DeepInfoMax(method.encoder, hidden=method.hidden))


def _autoencoder(place: Place, seed: int = 0) -> Experiment:
    recipe = place(seed)
    method = recipe.method
    assert isinstance(method, MutualInformationSimilarity)
    return replace(recipe, method=PatchAutoencoder(method.encoder))


_PLACES: dict[str, Place] = {
    "flanders": flanders,
    "naip-landcover": partial(aerial, "naip-landcover"),
    "naip-series": naip_series,
    "potsdam": partial(aerial, "potsdam"),
    "potsdam-3": partial(aerial, "potsdam-3"),
}
_ABLATIONS: dict[str, Callable[..., Experiment]] = {
    "no-global": partial(_changed, alpha=0.0),
    "no-local": partial(_changed, beta=0.0, compare="global"),
    "no-l1": partial(_changed, gamma=0.0),
    "no-swap": partial(_changed, swap=False),
}

RECIPES: dict[str, Callable[..., Experiment]] = {
    f"{name}-{what}": make
    for name, place in _PLACES.items()
    for what, make in (
        ("similarity", place),
        ("deep-infomax", partial(_deep_infomax, place)),
        ("autoencoder", partial(_autoencoder, place)),
    )
}
RECIPES |= {
    f"{name}-similarity-{what}": partial(ablation, place)
    for name, place in {"flanders": flanders, "potsdam": _PLACES["potsdam"]}.items()
    for what, ablation in _ABLATIONS.items()
}
RECIPES |= {
    "flanders-similarity-one-date": partial(_one_date, flanders),
    "flanders-similarity-augmented": partial(_augmented, flanders),
}
"""Every recipe by the name that the command line knows it by."""
