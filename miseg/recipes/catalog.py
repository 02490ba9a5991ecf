"""Every recipe by its name."""

from __future__ import annotations

from collections.abc import Callable

from miseg import plugins
from miseg.recipes import few_labels, porto, rmi_paper, streets, unsupervised
from miseg.recipes.experiment import Experiment

GROUP = "miseg.recipes"

RECIPES: dict[str, Callable[..., Experiment]] = {
    **streets.RECIPES,
    **rmi_paper.RECIPES,
    **porto.RECIPES,
    **few_labels.RECIPES,
    **unsupervised.RECIPES,
}
"""Recipe's name -> function from a seed to its Experiment; those of other packages are behind miseg's own."""

for _name in plugins.loaders(GROUP, own=RECIPES):
    if _name in plugins.load_all(GROUP)[0]:
        RECIPES[_name] = plugins.load_all(GROUP)[0][_name]
