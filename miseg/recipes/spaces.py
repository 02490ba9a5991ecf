"""The search spaces of the papers' methods by name, a grid, and trials whose values are known.

A space is registered beside its method's settings, and is a function `space(trial, experiment) -> Experiment`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from miseg.methods import few_configs, registry
from miseg.methods.configs import InfoSeg, MutualInformationSimilarity, RegionMutualInformation
from miseg.methods.ranges import Space
from miseg.recipes.experiment import Experiment

region_mutual_information = registry.space_of(RegionMutualInformation)
similarity = registry.space_of(MutualInformationSimilarity)
similarity_choices = Space(few_configs.CHOICES, of=MutualInformationSimilarity)
infoseg = registry.space_of(InfoSeg)


def at_its_point(recipe: Experiment) -> Experiment:
    """The recipe with what it leaves to the method (InfoSeg's τ) as a number, so that it is a point of its space."""
    space = registry.of(recipe.method).space
    return space(FixedTrial(space.point(recipe)), recipe)


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
        """Values of each parameter of `region_mutual_information` in the grid; all points are within range.

        Raises:
            ValueError: a value that is out of range or named twice.
        """
        lists = {
            "lambda": self.weight,
            "downsampling_factor": self.downsampling_factor,
            "region_size": self.region_size,
            "downsampling": self.downsampling,
        }
        point = region_mutual_information.point(base)
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
