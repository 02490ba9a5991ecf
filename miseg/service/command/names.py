"""Recipes and methods by the names that people give them."""

from __future__ import annotations

from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import CONTENDERS
from miseg.recipes.experiment import Experiment
from miseg.service.command.parsing import nearest


def check_known(name: str) -> None:
    """Raise ValueError where there is neither a recipe nor a method of this name."""
    names = [*CONTENDERS, *RECIPES]
    if name not in names:
        close = nearest(name, names)
        meant = f"did you mean {' or '.join(close)}?" if close else "miseg train --help lists them"
        raise ValueError(f"{name}: there is no such recipe or method; {meant}")


def experiment_named(name: str) -> Experiment:
    """A recipe's experiment; of a method's name the one that is planned for data.

    Raises:
        ValueError: there is neither a recipe nor a method of this name.
    """
    check_known(name)
    return RECIPES[name]() if name in RECIPES else Experiment(method=CONTENDERS[name].settings())
