"""Recipes and methods by the names that people give them."""

from __future__ import annotations

from miseg.nearest_names import in_place_of
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import CONTENDERS
from miseg.recipes.experiment import Experiment


def check_known(name: str) -> None:
    """Raise ValueError where there is neither a recipe nor a method of this name."""
    if name not in CONTENDERS and name not in RECIPES:
        meant = in_place_of(name, [*CONTENDERS, *RECIPES], "miseg train --help")
        raise ValueError(f"{name}: there is no such recipe or method; {meant}")


def experiment_named(name: str) -> Experiment:
    """A recipe's experiment; of a method's name the one that is planned for data.

    Raises:
        ValueError: there is neither a recipe nor a method of this name.
    """
    check_known(name)
    return RECIPES[name]() if name in RECIPES else Experiment(method=CONTENDERS[name].settings())
