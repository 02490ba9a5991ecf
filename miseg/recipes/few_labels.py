"""Few labels: similarity by mutual information on satellite and aerial images, and what it is compared with.

Commands start with `miseg train`, tables are by `miseg evaluate --run ID --points 1 5 10 50`.

For each place P of flanders, naip-landcover, naip-series, potsdam and potsdam-3 there are `P-similarity-as-published`
(Sanchez et al. as they print it), `P-similarity` (a variant that learns faster and maps by one term of algorithm 2),
`P-deep-infomax` and `P-autoencoder` (the baselines of Table 2 that learn), and `P-deep-infomax-as-published`, which
tells a patch from those of other images, as Hjelm et al. do. Ablations as in Table 3 are
`P-similarity-as-published-no-global`, `-no-l1`, `-no-jitter`, `-no-flip`, `-no-rotation`, `-no-shift`, `-no-swap` and
`-no-swap-no-augmentation` (not of naip-series), and of the variant, for flanders and potsdam, `P-similarity-no-global`,
`-no-local`, `-no-l1` and `-no-swap`. flanders has two more: `flanders-similarity-one-date` (both views of one date) and
`flanders-similarity-augmented` (the paper's flips, turns, shifts and jitter).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from miseg.data.configs import Pairs
from miseg.methods.configs import DeepInfoMax, MutualInformationSimilarity, PatchAutoencoder
from miseg.networks.configs import PatchEncoder
from miseg.recipes.experiment import Experiment, Optimiser


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


def _changed(recipe: Experiment, **settings: Any) -> Experiment:
    return replace(recipe, method=replace(recipe.method, **settings))


def _one_date(recipe: Experiment) -> Experiment:
    return replace(recipe, pairs=replace(recipe.pairs, other_date=0.0))


def _as_published(recipe: Experiment) -> Experiment:
    """The recipe with what the paper prints; what it does not print is as in the others.

    It prints no sizes of its statistics networks: these take inner products, with which all terms of algorithm 2 are
    computed in a time like that of one term of the others. Of steps and of the augmentation's strength it prints none.
    """
    method = recipe.method
    assert isinstance(method, MutualInformationSimilarity)
    method = replace(
        method,
        encoder=replace(method.encoder, representation=10),
        discriminator="dot",
        negatives="batch",
        reduction="sum",
        terms="all",
    )
    optimiser = Optimiser(name="adam", learning_rate=1e-4, warmup_steps=0, power=0.0)
    pairs = Pairs(min_valid=recipe.pairs.min_valid, unlabelled=True)
    return replace(recipe, method=method, optimiser=optimiser, pairs=pairs, examples="image")


def _pairs_changed(recipe: Experiment, **settings: Any) -> Experiment:
    return replace(recipe, pairs=replace(recipe.pairs, **settings))


def _no_swap_no_augmentation(recipe: Experiment) -> Experiment:
    """Views differ by their dates alone, where a place has several, and else not at all."""
    return _pairs_changed(_changed(recipe, swap=False), jitter=0.0, turn=False, shift=0)


def _augmented(recipe: Experiment) -> Experiment:
    return replace(recipe, pairs=Pairs(min_valid=recipe.pairs.min_valid))


def _deep_infomax(recipe: Experiment) -> Experiment:
    method = recipe.method
    assert isinstance(method, MutualInformationSimilarity)
    return replace(recipe, method=DeepInfoMax(method.encoder, hidden=method.hidden))


def _deep_infomax_as_published(recipe: Experiment) -> Experiment:
    """Deep InfoMax with the patches that its paper tells a patch from, trained as Sanchez et al. train the similarity.

    Its paper trains on whole images of other data, so that rate, pairs and labels are those of the comparison.
    """
    published = _as_published(recipe)
    method = published.method
    assert isinstance(method, MutualInformationSimilarity)
    return replace(published, method=DeepInfoMax(method.encoder, hidden=method.hidden, negatives="batch"))


def _autoencoder(recipe: Experiment) -> Experiment:
    method = recipe.method
    assert isinstance(method, MutualInformationSimilarity)
    return replace(recipe, method=PatchAutoencoder(method.encoder))


def _unchanged(recipe: Experiment) -> Experiment:
    return recipe


Change = Callable[[Experiment], Experiment]

_DATASETS: dict[str, tuple[str, Callable[[int], Experiment]]] = {
    "flanders": ("Sentinel-2 series of Flanders", flanders),
    "naip-landcover": ("aerial patches with land cover", partial(aerial, "naip-landcover")),
    "naip-series": ("aerial images of ten dates", naip_series),
    "potsdam": ("ISPRS Potsdam, 6 classes", partial(aerial, "potsdam")),
    "potsdam-3": ("ISPRS Potsdam, 3 classes", partial(aerial, "potsdam-3")),
}
_METHODS: dict[str, tuple[str, Change]] = {
    "similarity": ("similarity by mutual information (Sanchez et al.)", _unchanged),
    "deep-infomax": ("Deep InfoMax (Hjelm et al.)", _deep_infomax),
    "deep-infomax-as-published": (
        "Deep InfoMax with negatives of the whole batch, trained as Sanchez et al. print it",
        _deep_infomax_as_published,
    ),
    "autoencoder": ("variational autoencoder (Kingma and Welling)", _autoencoder),
}
_ABLATIONS: dict[str, tuple[str, Change]] = {
    "similarity-no-global": ("similarity without the global mutual information", partial(_changed, alpha=0.0)),
    "similarity-no-local": (
        "similarity without the local mutual information, compared by the global one",
        partial(_changed, beta=0.0, compare="global"),
    ),
    "similarity-no-l1": ("similarity without the L1 term", partial(_changed, gamma=0.0)),
    "similarity-no-swap": (
        "similarity where each view is scored with its own representation",
        partial(_changed, swap=False),
    ),
}
_AS_PUBLISHED: dict[str, tuple[str, Change]] = {
    "": ("", _unchanged),
    "-no-global": ("without the global mutual information", partial(_changed, alpha=0.0)),
    "-no-l1": ("without the L1 term", partial(_changed, gamma=0.0)),
    "-no-jitter": ("without jitter", partial(_pairs_changed, jitter=0.0)),
    "-no-flip": ("without flips", partial(_pairs_changed, turns="rotations")),
    "-no-rotation": ("without rotations", partial(_pairs_changed, turns="flips")),
    "-no-shift": ("without shifts", partial(_pairs_changed, shift=0)),
    "-no-swap": ("without swapped representations", partial(_changed, swap=False)),
    "-no-swap-no-augmentation": ("without swapped representations and augmentation", _no_swap_no_augmentation),
}
"""The similarity as published, and the paper's Table 3 by one change each."""
_OF_DATES: dict[str, tuple[str, Change]] = {
    "similarity-one-date": ("similarity, both views of one date", _one_date),
    "similarity-augmented": ("similarity with the paper's flips, turns, shifts and jitter", _augmented),
}


def _recipe(dataset: str, name: str, what: str, change: Change) -> Callable[..., Experiment]:
    where, start = _DATASETS[dataset]

    def recipe(seed: int = 0) -> Experiment:
        return change(start(seed))

    recipe.__doc__ = f"{where[0].upper()}{where[1:]}, {what}: `{dataset}-{name}`."
    return recipe


def _published(change: Change) -> Change:
    return lambda recipe: change(_as_published(recipe))


_PUBLISHED: dict[str, tuple[str, Change]] = {
    f"similarity-as-published{end}": (
        ", ".join(filter(None, ("similarity as Sanchez et al. print it", what))),
        _published(change),
    )
    for end, (what, change) in _AS_PUBLISHED.items()
}
_PUBLISHED_WITHOUT_CHANGE = dict(list(_PUBLISHED.items())[:1])

RECIPES: dict[str, Callable[..., Experiment]] = {
    f"{dataset}-{name}": _recipe(dataset, name, what, change)
    for dataset, changes in {
        "flanders": _METHODS | _ABLATIONS | _OF_DATES | _PUBLISHED,
        "naip-landcover": _METHODS | _PUBLISHED,
        "naip-series": _METHODS | _PUBLISHED_WITHOUT_CHANGE,
        "potsdam": _METHODS | _ABLATIONS | _PUBLISHED,
        "potsdam-3": _METHODS | _PUBLISHED,
    }.items()
    for name, (what, change) in changes.items()
}
"""Every recipe by the name that the command line knows it by."""
