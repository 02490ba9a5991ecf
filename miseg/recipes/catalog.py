"""Every recipe by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from miseg import plugins
from miseg.recipes import few_labels, porto, rmi_paper, streets, unsupervised
from miseg.recipes.experiment import Experiment, to_dict

GROUP = "miseg.recipes"

RECIPES: dict[str, Callable[..., Experiment]] = {
    **streets.RECIPES,
    **rmi_paper.RECIPES,
    **porto.RECIPES,
    **few_labels.RECIPES,
    **unsupervised.RECIPES,
}
"""Recipe's name -> function from a seed to its Experiment; those of other packages are behind miseg's own."""


def _check_recipe(name: str, recipe: Any) -> None:
    """Raises TypeError for what is no recipe, and whatever a recipe raises."""
    experiment = recipe(seed=0)
    if not isinstance(experiment, Experiment):
        raise TypeError(f"it returned {type(experiment).__name__} for seed=0, no Experiment")
    to_dict(experiment)


plugins.checks[GROUP] = _check_recipe

for _name in plugins.loaders(GROUP, own=RECIPES):
    if _name in plugins.load_all(GROUP)[0]:
        RECIPES[_name] = plugins.load_all(GROUP)[0][_name]
