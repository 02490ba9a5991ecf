"""Search spaces: functions `space(trial) -> Experiment` over an Optuna trial, or anything with its `suggest_*`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

from miseg.methods.configs import (
    AffinityField,
    DeepInfoMax,
    InfoSeg,
    MethodConfig,
    MutualInformationSimilarity,
    MutualLearning,
    PatchAutoencoder,
    PixelKMeans,
    RegionMutualInformation,
)
from miseg.networks.configs import PatchEncoder
from miseg.recipes.experiment import Experiment

DOWNSAMPLING = ("average", "max", "interpolation")
PATCHES = (5, 7, 9, 13)
REPRESENTATIONS = (10, 16, 32, 64)
STRIDES = (1, 2, 4, 8)


class Trial(Protocol):
    """What a search space needs of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A real value in low..high, on a log scale if asked."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole value in low..high."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""


def region_mutual_information(trial: Trial, base: Experiment) -> Experiment:
    """λ in 0..1, DF in 1..6, R in 1..5, the manner of downsampling, and the learning rate within ten times `base`'s."""
    if not isinstance(base.method, RegionMutualInformation):
        raise TypeError(f"{type(base.method).__name__} has no λ: give a recipe of RegionMutualInformation")
    method = replace(
        base.method,
        weight=trial.suggest_float("lambda", 0.0, 1.0),
        downsampling_factor=trial.suggest_int("downsampling_factor", 1, 6),
        region_size=trial.suggest_int("region_size", 1, 5),
        downsampling=trial.suggest_categorical("downsampling", list(DOWNSAMPLING)),
    )
    return _at_a_rate(trial, replace(base, method=method))


def region_mutual_information_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space: what a tuning tries first."""
    method = base.method
    assert isinstance(method, RegionMutualInformation)
    return {
        "lambda": method.weight,
        "downsampling_factor": method.downsampling_factor,
        "region_size": method.region_size,
        "downsampling": method.downsampling,
        "learning_rate": base.optimiser.learning_rate,
    }


def similarity(trial: Trial, base: Experiment) -> Experiment:
    """α and γ in 0..1, β in 0.1..2, the patch's side, z, and the learning rate within ten times `base`'s."""
    if not isinstance(base.method, MutualInformationSimilarity):
        raise TypeError(f"{type(base.method).__name__} has no α, β and γ: give a recipe of MutualInformationSimilarity")
    method = replace(
        base.method,
        encoder=_encoder(trial, base.method.encoder),
        alpha=trial.suggest_float("alpha", 0.0, 1.0),
        beta=trial.suggest_float("beta", 0.1, 2.0),
        gamma=trial.suggest_float("gamma", 0.0, 1.0),
    )
    return _at_a_rate(trial, replace(base, method=method))


def similarity_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space."""
    method = base.method
    assert isinstance(method, MutualInformationSimilarity)
    return _encoder_point(method.encoder) | {
        "alpha": method.alpha,
        "beta": method.beta,
        "gamma": method.gamma,
        "learning_rate": base.optimiser.learning_rate,
    }


def infoseg(trial: Trial, base: Experiment) -> Experiment:
    """τ within thirty times `base`'s on a log scale, P, K and the learning rate within ten times `base`'s.

    K is `base`'s number of clusters or twice that; where `base` leaves it to the data it is not searched.
    """
    if not isinstance(base.method, InfoSeg):
        raise TypeError(f"{type(base.method).__name__} has no τ: give a recipe of InfoSeg")
    method = base.method
    own = method.network.features
    features = trial.suggest_categorical("features", sorted({max(1, own // 4), max(1, own // 2), own, 2 * own}))
    temperature = trial.suggest_float("tau", method.tau / 30, method.tau * 30, log=True)
    method = replace(method, network=replace(method.network, features=features), temperature=temperature)
    if method.clusters is not None:
        clusters = trial.suggest_categorical("clusters", [method.clusters, 2 * method.clusters])
        method = replace(method, clusters=clusters)
    return _at_a_rate(trial, replace(base, method=method))


def infoseg_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space; its τ must be a number."""
    method = base.method
    assert isinstance(method, InfoSeg)
    point = {"features": method.network.features, "tau": method.tau, "learning_rate": base.optimiser.learning_rate}
    return point if method.clusters is None else point | {"clusters": method.clusters}


def learning_rate(trial: Trial, base: Experiment) -> Experiment:
    """The learning rate within ten times `base`'s, of any method: what is tuned of one without a knob of its own."""
    return _at_a_rate(trial, base)


def learning_rate_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space."""
    return {"learning_rate": base.optimiser.learning_rate}


def affinity_field(trial: Trial, base: Experiment) -> Experiment:
    """The weight within ten times `base`'s, the margin within three times, the stride, and the learning rate."""
    method = _of(AffinityField, base, "affinity field")
    method = replace(
        method,
        weight=trial.suggest_float("weight", method.weight / 10, method.weight * 10, log=True),
        margin=trial.suggest_float("margin", method.margin / 3, method.margin * 3, log=True),
        stride=trial.suggest_categorical("stride", sorted({*STRIDES, method.stride})),
    )
    return _at_a_rate(trial, replace(base, method=method))


def affinity_field_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space."""
    method = _of(AffinityField, base, "affinity field")
    return {"weight": method.weight, "margin": method.margin, "stride": method.stride} | learning_rate_point(base)


def mutual_learning(trial: Trial, base: Experiment) -> Experiment:
    """The divergence's weight and the learning rate, each within ten times `base`'s."""
    method = _of(MutualLearning, base, "partners")
    weight = trial.suggest_float("weight", method.weight / 10, method.weight * 10, log=True)
    return _at_a_rate(trial, replace(base, method=replace(method, weight=weight)))


def mutual_learning_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space."""
    return {"weight": _of(MutualLearning, base, "partners").weight} | learning_rate_point(base)


def deep_infomax(trial: Trial, base: Experiment) -> Experiment:
    """As `similarity`: α and γ in 0..1, β in 0.1..2, the patch's side, z, and the learning rate."""
    method = _of(DeepInfoMax, base, "prior to match")
    method = replace(
        method,
        encoder=_encoder(trial, method.encoder),
        alpha=trial.suggest_float("alpha", 0.0, 1.0),
        beta=trial.suggest_float("beta", 0.1, 2.0),
        gamma=trial.suggest_float("gamma", 0.0, 1.0),
    )
    return _at_a_rate(trial, replace(base, method=method))


def deep_infomax_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space."""
    method = _of(DeepInfoMax, base, "prior to match")
    weights = {"alpha": method.alpha, "beta": method.beta, "gamma": method.gamma}
    return _encoder_point(method.encoder) | weights | learning_rate_point(base)


def autoencoder(trial: Trial, base: Experiment) -> Experiment:
    """The divergence's weight within a hundred times `base`'s, the patch's side, z, and the learning rate."""
    method = _of(PatchAutoencoder, base, "posterior")
    weight = trial.suggest_float("weight", method.weight / 100, method.weight * 100, log=True)
    method = replace(method, encoder=_encoder(trial, method.encoder), weight=weight)
    return _at_a_rate(trial, replace(base, method=method))


def autoencoder_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space."""
    method = _of(PatchAutoencoder, base, "posterior")
    return _encoder_point(method.encoder) | {"weight": method.weight} | learning_rate_point(base)


def k_means(trial: Trial, base: Experiment) -> Experiment:
    """From how many pixels centres are found, within ten times `base`'s: it has no rate that counts, and no other knob.

    Its gradient steps come before the centres are found anew, and leave no trace in them.
    """
    method = _of(PixelKMeans, base, "colours to cluster")
    samples = round(trial.suggest_float("samples", method.samples / 10, method.samples * 10, log=True))
    return replace(base, method=replace(method, samples=samples))


def k_means_point(base: Experiment) -> dict[str, Any]:
    """`base` itself as a point of the space."""
    return {"samples": float(_of(PixelKMeans, base, "colours to cluster").samples)}


M = TypeVar("M", bound=MethodConfig)


def _of(kind: type[M], base: Experiment, what: str) -> M:
    """The method's settings, of `kind`; TypeError where they are another's."""
    if not isinstance(base.method, kind):
        raise TypeError(f"{type(base.method).__name__} has no {what}: give a recipe of {kind.__name__}")
    return base.method


def _at_a_rate(trial: Trial, base: Experiment) -> Experiment:
    rate = base.optimiser.learning_rate
    found = trial.suggest_float("learning_rate", rate / 10, rate * 10, log=True)
    return replace(base, optimiser=replace(base.optimiser, learning_rate=found))


def _encoder(trial: Trial, encoder: PatchEncoder) -> PatchEncoder:
    return replace(
        encoder,
        patch=trial.suggest_categorical("patch", sorted({*PATCHES, encoder.patch})),
        representation=trial.suggest_categorical("z", sorted({*REPRESENTATIONS, encoder.representation})),
    )


def _encoder_point(encoder: PatchEncoder) -> dict[str, Any]:
    return {"patch": encoder.patch, "z": encoder.representation}


@dataclass(frozen=True)
class RegionMutualInformationGrid:
    """An ablation: each value with each of the others. A knob without values keeps the recipe's."""

    weight: tuple[float, ...] = ()
    """Values of λ, in 0..1."""
    downsampling_factor: tuple[int, ...] = ()
    """Values of DF, 1 or more."""
    region_size: tuple[int, ...] = ()
    """Values of R, 1 or more."""
    downsampling: tuple[Literal["average", "max", "interpolation"], ...] = ()
    """Manners of downsampling."""

    def __bool__(self) -> bool:
        return any((self.weight, self.downsampling_factor, self.region_size, self.downsampling))

    def values(self, base: Experiment) -> dict[str, Sequence[Any]]:
        """What each parameter of `region_mutual_information` runs through; all points are within range.

        Raises:
            ValueError: a value that is out of range or named twice.
        """
        lists = {
            "lambda": self.weight,
            "downsampling_factor": self.downsampling_factor,
            "region_size": self.region_size,
            "downsampling": self.downsampling,
        }
        point = region_mutual_information_point(base)
        values: dict[str, Sequence[Any]] = {name: lists.get(name) or (own,) for name, own in point.items()}
        for name, given in values.items():
            if len(set(given)) < len(given):
                raise ValueError(f"the grid's {name} = {' '.join(map(str, given))}: name each value once")
        for combination in itertools.product(*values.values()):
            # Built for its own checks: a point that cannot be trained must fail before the first is.
            region_mutual_information(FixedTrial(dict(zip(values, combination, strict=True))), base)
        return values


class FixedTrial:
    """Stands in for a trial whose values are known: a finished trial's parameters give its Experiment back."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The known value."""
        return float(self.values[name])

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """The known value."""
        return int(self.values[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """The known value."""
        return self.values[name]
