"""Search spaces: functions `space(trial) -> Experiment` over an Optuna trial, or anything with its `suggest_*`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from miseg.methods.configs import RegionMutualInformation
from miseg.recipes.experiment import Experiment

DOWNSAMPLING = ("average", "max", "interpolation")


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
    rate = base.optimiser.learning_rate
    method = replace(
        base.method,
        weight=trial.suggest_float("lambda", 0.0, 1.0),
        downsampling_factor=trial.suggest_int("downsampling_factor", 1, 6),
        region_size=trial.suggest_int("region_size", 1, 5),
        downsampling=trial.suggest_categorical("downsampling", list(DOWNSAMPLING)),
    )
    learning_rate = trial.suggest_float("learning_rate", rate / 10, rate * 10, log=True)
    return replace(base, method=method, optimiser=replace(base.optimiser, learning_rate=learning_rate))


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


class FixedTrial:
    """Stands in for a trial whose values are known: a finished trial's parameters give its Experiment back."""

    def __init__(self, values: dict[str, Any]) -> None:
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
